// Signing in with a token.

import { post } from '../api.js';
import { el, put } from '../dom.js';
import { errorNote } from '../parts/failure.js';

export function signInPage(app, route) {
  const field = el('input', { type: 'password', id: 'token', name: 'token', autocomplete: 'current-password', required: true, spellcheck: 'false' });
  const trouble = el('div', { role: 'alert' });
  const button = el('button', { class: 'primary', type: 'submit' }, 'Sign in');
  const back = route.query.get('back');
  const target = back?.startsWith('#/') && !back.startsWith('#/sign-in') ? back : '#/runs';
  const form = el('form', { class: 'card' },
    el('label', { for: 'token' }, 'Token'), field,
    el('p', { class: 'faint' }, 'An admin makes one with ', el('code', null, 'ferry token create'), '. It is exchanged for a cookie that scripts cannot read.'),
    trouble, button);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    button.disabled = true;
    put(trouble);
    try {
      await post('/session', { token: field.value.trim() });
      field.value = '';
      await app.refresh();
      app.go(target);
    } catch (error) {
      put(trouble, errorNote(error, 'Not signed in:'));
      field.select();
      field.focus();
    }
    button.disabled = false;
  });
  // Whoever is signed in already has nothing to do here.
  if (app.session.role && !app.session.needsSignIn) queueMicrotask(() => app.go(target));
  return { title: 'Sign in', element: el('div', { class: 'page sign-in' }, el('h1', null, 'Sign in'), form) };
}
