// Text in a box, with a button that copies it.

import { el, setText } from '../dom.js';

/** A button that copies `text()`. The clipboard exists only with TLS or on this machine: else the text is selected by hand. */
export function copyButton(text, label = 'Copy') {
  const button = el('button', { type: 'button', class: 'small' }, label);
  button.addEventListener('click', async () => {
    let said = 'Copied';
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      said = byHand(text()) ? 'Copied' : 'Not allowed here';
    }
    setText(button, said);
    setTimeout(() => setText(button, label), 1_500);
  });
  return button;
}

function byHand(text) {
  const area = el('textarea', { class: 'unseen', 'aria-hidden': 'true', tabindex: -1 });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done;
}

/** A command or file to copy. */
export function snippet(text, label) {
  return el('div', { class: 'snippet' }, el('pre', { tabindex: 0, 'aria-label': label ?? 'Text to copy', role: 'group' }, text), copyButton(() => text));
}
