// A failure: what happened, who can end it, what to do.

import { el, prose } from '../dom.js';
import * as words from '../words.js';

/** `kind`: 'bad' for what ended something, 'warn' for what is tried again. `more` stands below, such as links. */
export function failureNote(failure, { title, kind = 'bad', more } = {}) {
  const who = failure.fault ? words.fault(failure.fault) : '';
  return el('section', { class: `note ${kind}`, role: kind === 'bad' ? 'group' : null, 'aria-label': kind === 'bad' ? 'Failure' : null },
    el('h2', { class: 'note-title' }, title ? `${title} ` : '', el('code', null, failure.code)),
    el('p', { class: 'cause' }, failure.message),
    failure.remedy ? el('p', { class: 'remedy' }, el('strong', null, 'What to do: '), prose(failure.remedy)) : null,
    who || failure.retry ? el('p', { class: 'faint' }, who ? `Who can end it: ${who}. ` : '', words.retry(failure.retry)) : null,
    more ?? null);
}

/** An answer of the API that was not what was asked for. */
export function errorNote(error, title = 'This did not work') {
  return failureNote({ code: error.title ?? error.name, message: error.message }, { title });
}
