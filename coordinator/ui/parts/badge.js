// A state as a word with a colour; its meaning in the title.

import { el, setText } from '../dom.js';
import * as words from '../words.js';

export function badge(state) {
  return setBadge(el('span', { class: 'badge' }), state);
}

export function setBadge(node, state) {
  node.dataset.tone = words.tone(state);
  node.title = words.meaning(state);
  setText(node, state);
  return node;
}
