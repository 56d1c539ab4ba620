// A panel at the side, with an address of its own. Escape closes it.

import { el, put } from '../dom.js';

export function panel({ title, onClose }) {
  const place = document.getElementById('side');
  const heading = el('h2', { tabindex: -1, id: 'panel-title' }, title);
  const content = el('div', { class: 'panel-content' });
  const close = el('button', { type: 'button', class: 'quiet', 'aria-label': 'Close this panel', title: 'Close (Escape)', on: { click: onClose } }, '✕');
  const node = el('aside', { class: 'panel', 'aria-labelledby': 'panel-title' }, el('div', { class: 'panel-head' }, heading, close), content);
  const onKey = (event) => {
    if (event.key === 'Escape' && !document.querySelector('dialog[open]')) onClose();
  };
  document.addEventListener('keydown', onKey);
  put(place, node);
  heading.focus({ preventScroll: true });
  return {
    content,
    leave() {
      document.removeEventListener('keydown', onKey);
      node.remove();
    },
  };
}
