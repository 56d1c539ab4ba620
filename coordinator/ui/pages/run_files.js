// The files of a run: searched, filtered, sorted, and one of them in detail at the side.

import { at, get } from '../api.js';
import { el, lately } from '../dom.js';
import { bytes, count } from '../format.js';
import { badge } from '../parts/badge.js';
import { empty } from '../parts/empty.js';
import { rows } from '../parts/rows.js';
import { filePanel } from './file_panel.js';

const STATES = ['Pending', 'Leased', 'Staged', 'Ingested', 'Failed', 'Skipped', 'Dropped'];
const SORTS = ['path', 'size', 'state'];
const REFRESH_MS = 4_000;

/** Where there is little room the folder is cut short, not the file's name. */
function pathParts(path) {
  const cut = path.lastIndexOf('/') + 1;
  return [cut > 0 ? el('span', { class: 'folder' }, path.slice(0, cut)) : null, el('span', { class: 'file' }, path.slice(cut))];
}

export function filesPart(app, { id, base, run: first, route }) {
  let run = first;
  let query = read(route.query);
  let open = null; // {unit, panel}
  let refreshed = Date.now();

  const search = el('input', { type: 'search', placeholder: 'Part of a path', maxlength: 256, 'aria-label': 'Search files by path', spellcheck: 'false', autocomplete: 'off' });
  const state = el('select', { 'aria-label': 'State of files' }, el('option', { value: '' }, 'All states'), STATES.map((name) => el('option', { value: name }, name)));

  function read(from) {
    return {
      search: from.get('search') ?? '', state: from.get('state') ?? '',
      sort: SORTS.includes(from.get('sort')) ? from.get('sort') : 'path', order: from.get('order') === 'desc' ? 'desc' : 'asc',
    };
  }

  /** The address of the list, or of a file with the list behind it. */
  function hash(unit = null, changes = {}) {
    const all = { ...query, ...changes };
    const given = Object.entries(all).filter(([key, value]) => value && !(key === 'sort' && value === 'path') && !(key === 'order' && value === 'asc'));
    const text = new URLSearchParams(given).toString();
    return `${base}/files${unit === null ? '' : `/${unit}`}${text ? `?${text}` : ''}`;
  }
  const change = (changes) => location.replace(hash(open?.unit ?? null, changes));

  const table = rows({
    label: 'Files', kind: 'files', things: 'files',
    columns: [
      { title: 'Path', sort: 'path', kind: 'path', cell: (f) => [
        el('a', { href: hash(f.unit), title: f.path }, pathParts(f.relativePath)),
        f.part ? el('span', { class: 'tag', title: 'A part of a large file' }, `part ${f.part.number} of ${f.part.count}`) : null,
        f.filesInUnit > 1 ? el('span', { class: 'tag', title: 'Small files that are staged together' }, `+${f.filesInUnit - 1} files`) : null] },
      { title: 'State', sort: 'state', cell: (f) => [badge(f.state), f.lastFailure && f.state !== 'Failed' ? el('span', { class: 'tag warn', title: f.lastFailure.message }, 'tried again') : null] },
      { title: 'Size', sort: 'size', kind: 'number', cell: (f) => el('span', { title: `${count(f.sizeBytes)} bytes` }, bytes(f.sizeBytes)) },
      { title: 'Rows', kind: 'number rows-count', cell: (f) => (f.rowsRead ? count(f.rowsRead) : '') },
      { title: 'Left out', kind: 'number left-out', cell: (f) => (f.rowsSkipped ? count(f.rowsSkipped) : '') },
      { title: 'Written', kind: 'number written', cell: (f) => (f.dataWritten ? bytes(f.dataWritten) : '') },
      { title: 'Tries', kind: 'number tries', cell: (f) => (f.attempts ? count(f.attempts) : '') },
      { title: 'Node', kind: 'on-node', cell: (f) => f.node ?? '' },
    ],
    id: (f) => f.unit,
    link: (f) => hash(f.unit),
    sort: { by: query.sort, isDown: query.order === 'desc' },
    onSort: ({ by, isDown }) => change({ sort: by, order: isDown ? 'desc' : 'asc' }),
    ask: async (after, limit, signal) => {
      const page = await get(`${at('runs', id)}/files`, { ...query, after, limit }, signal);
      return { rows: page.files, next: page.next, total: page.total };
    },
    empty: () => {
      if (query.search || query.state) return empty('No file is found', 'Change the search or the state above.');
      if (!run.isFinal) return empty('No files yet', 'The source is being listed; this page fills by itself.');
      return empty('This run has no files', 'It ended before a file was listed. The overview says why.');
    },
  });

  search.addEventListener('input', lately(300, () => change({ search: search.value.trim() })));
  state.addEventListener('change', () => change({ state: state.value }));

  const element = el('div', { class: 'part-files' }, el('div', { class: 'tools' }, search, state), table.element);

  /** The side panel as the address says. */
  function follow(to) {
    const unit = /^\d+$/.test(to.parts[3] ?? '') ? Number(to.parts[3]) : null;
    if (open?.unit === unit) return;
    const before = open?.unit ?? null;
    open?.panel.leave();
    open = null;
    if (unit !== null) {
      open = { unit, panel: filePanel({ id, base, unit, close: () => {
        location.hash = hash();
      } }) };
    } else if (before !== null) table.focus(before);
    table.select(unit);
  }

  function show(to, isFirst) {
    const now = read(to.query);
    const isOther = JSON.stringify(now) !== JSON.stringify(query);
    query = now;
    if (document.activeElement !== search) search.value = query.search;
    state.value = query.state;
    if (isOther || isFirst) table.reload();
    follow(to);
  }
  show(route, true);

  return {
    element,
    run(now) {
      run = now;
      if (Date.now() - refreshed < REFRESH_MS && !now.isFinal) return;
      refreshed = Date.now();
      table.refresh().catch(() => {}); // The next turn tries again; a lost connection is told above.
      open?.panel.refresh();
    },
    moved(to) {
      show(to, false);
      return true;
    },
    leave() {
      open?.panel.leave();
      table.leave();
    },
  };
}
