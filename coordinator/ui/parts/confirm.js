// Asks before something is done that cannot be taken back.

import { el } from '../dom.js';
import { errorNote } from './failure.js';

/** Resolves to true when it was done. `act` may fail: the dialog then says why and stays. */
export function confirm({ title, text, yes, no = 'Keep it', act }) {
  return new Promise((resolve) => {
    const trouble = el('div', { role: 'alert' });
    const go = el('button', { type: 'button', class: 'danger' }, yes);
    const stay = el('button', { type: 'button' }, no);
    const dialog = el('dialog', { 'aria-labelledby': 'confirm-title', 'aria-describedby': 'confirm-text' },
      el('h2', { id: 'confirm-title' }, title),
      el('div', { id: 'confirm-text' }, [text].flat().map((t) => el('p', null, t))),
      trouble,
      el('div', { class: 'actions' }, stay, go));
    let done = false;
    stay.addEventListener('click', () => dialog.close());
    go.addEventListener('click', async () => {
      go.disabled = true;
      try {
        await act();
        done = true;
        dialog.close();
      } catch (error) {
        trouble.replaceChildren(errorNote(error));
        go.disabled = false;
      }
    });
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(done);
    });
    document.body.append(dialog);
    dialog.showModal();
    stay.focus();
  });
}
