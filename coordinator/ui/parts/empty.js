// What is shown where there is nothing, and what to do next.

import { el } from '../dom.js';
import { snippet } from './copy.js';

export function empty(title, text, command) {
  return el('div', { class: 'empty' }, el('h2', null, title), text ? el('p', null, text) : null, command ? snippet(command, 'Command') : null);
}
