// A progress bar with its figures as text for those who do not see it.

import { el } from '../dom.js';
import { percent, percentText } from '../format.js';

export function bar(label, kind = 'one') {
  const fill = el('i');
  const node = el('div', { class: 'bar', role: 'progressbar', 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': 100, data: { kind } }, fill);
  return {
    node,
    /** `text` tells part and whole in units; `mood`: 'run', 'done', 'bad' or 'wait'. */
    set(part, whole, text, mood) {
      const share = percent(part, whole);
      fill.style.inlineSize = `${share}%`;
      node.dataset.mood = mood;
      node.setAttribute('aria-valuenow', share.toFixed(1));
      node.setAttribute('aria-valuetext', `${percentText(share)}, ${text}`);
      node.title = `${percentText(share)}: ${text}`;
    },
  };
}
