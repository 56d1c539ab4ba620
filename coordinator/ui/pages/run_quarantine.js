// Rows that were left out of a run: where they stood, and why.

import { at, get } from '../api.js';
import { el, put } from '../dom.js';
import { count } from '../format.js';
import { empty } from '../parts/empty.js';
import { errorNote, failureNote } from '../parts/failure.js';

const ROWS_MAX = 100;

export function quarantinePart(app, { id, run }) {
  const element = el('div', null, el('p', { class: 'faint loading' }, 'Loading …'));
  const none = () => empty('No row was left out', run.isFinal ? 'Every row that was read is in the table, or none is.' : 'Rows that do not fit are listed here, where the activity has enableSkipIncompatibleRow: true.');
  const mono = (text) => el('code', { class: 'raw' }, text ?? '');

  get(`${at('runs', id)}/quarantine`, { limit: ROWS_MAX }).then(({ rows, blobs, isCut, failure }) => {
    if (rows.length === 0 && blobs.length === 0 && !failure) {
      put(element, none());
      return;
    }
    put(element,
      failure ? failureNote(failure, { title: 'Staging could not be read:', kind: 'warn' }) : null,
      rows.length === 0 ? null : el('p', { class: 'faint' }, isCut ? `The first ${count(rows.length)} rows that were left out. The staged blobs below hold all of them.` : `${count(rows.length)} rows were left out.`),
      rows.length === 0 ? null : el('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': 'Rows left out' }, el('table', { class: 'quarantine' },
        el('thead', null, el('tr', null, ['File', 'Line', 'Byte', 'Column', 'Reason', 'The row as it stands in the file'].map((name, n) => el('th', { scope: 'col', class: n === 1 || n === 2 ? 'number' : null }, name)))),
        el('tbody', null, rows.map((row) => el('tr', null,
          el('td', { class: 'breaks' }, row.file), el('td', { class: 'number' }, count(row.line)), el('td', { class: 'number' }, count(row.byteOffset)),
          el('td', null, row.column ?? ''), el('td', { class: 'breaks' }, row.reason), el('td', null, mono(row.rawRow))))))),
      blobs.length ? el('section', { class: 'card' }, el('h2', null, 'Staged blobs with these rows'), el('ul', { class: 'plain' }, blobs.map((name) => el('li', null, mono(name))))) : null);
  }, (error) => {
    put(element, error.status === 404 ? none() : errorNote(error, 'The rows could not be loaded'));
  });
  return { element };
}
