// The ingest commands of a run.

import { at, get } from '../api.js';
import { el } from '../dom.js';
import { bytes, count } from '../format.js';
import { badge } from '../parts/badge.js';
import { empty } from '../parts/empty.js';
import { rows } from '../parts/rows.js';

const STATES = ['Planned', 'Issued', 'Confirmed', 'Rejected'];
const REFRESH_MS = 4_000;

export function commandsPart(app, { id, base, run: first, route }) {
  let run = first;
  let wanted = route.query.get('state') ?? '';
  let refreshed = Date.now();
  const state = el('select', { 'aria-label': 'State of commands' }, el('option', { value: '' }, 'All states'), STATES.map((name) => el('option', { value: name }, name)));
  const table = rows({
    label: 'Ingest commands', kind: 'commands', things: 'commands',
    columns: [
      { title: 'File', kind: 'number', cell: (c) => el('a', { href: `${base}/files/${c.unit}`, title: 'Show the file' }, `${c.unit}`) },
      { title: 'Chunk', kind: 'number', cell: (c) => String(c.chunk) },
      { title: 'State', cell: (c) => badge(c.state) },
      { title: 'Rows', kind: 'number', cell: (c) => count(c.rows) },
      { title: 'Counted', kind: 'number counted', cell: (c) => (c.rowsCounted === undefined || c.rowsCounted === null ? '' : count(c.rowsCounted)) },
      { title: 'Written', kind: 'number written', cell: (c) => bytes(c.rawBytes) },
      { title: 'Tag', kind: 'code tag-cell', cell: (c) => el('span', { title: c.tag }, c.tag) },
      { title: 'Operation', kind: 'code operation', cell: (c) => el('span', { title: 'As .show operations has it' }, c.operationId ?? '') },
    ],
    id: (c) => `${c.unit}/${c.chunk}`,
    ask: async (after, limit, signal) => {
      const page = await get(`${at('runs', id)}/commands`, { state: wanted, after, limit }, signal);
      return { rows: page.commands, next: page.next, total: page.total ?? (wanted ? null : run.ingest.commandsTotal || null) };
    },
    empty: () => (wanted
      ? empty(`No command is ${wanted.toLowerCase()}`, 'Choose another state above.')
      : run.isFinal ? empty('No commands', 'The run ended before stage 2.')
      : empty('No commands yet', 'Stage 2 begins when every file is staged; each staged chunk then gets a command of its own.')),
  });
  state.value = wanted;
  state.addEventListener('change', () => location.replace(`${base}/commands${state.value ? `?state=${state.value}` : ''}`));
  table.reload();
  return {
    element: el('div', null,
      el('div', { class: 'tools' }, state, el('p', { class: 'faint' }, 'Each command names one staged chunk and carries a tag: sent twice, it is ingested once.')), table.element),
    run(now) {
      run = now;
      if (Date.now() - refreshed < REFRESH_MS && !now.isFinal) return;
      refreshed = Date.now();
      table.refresh().catch(() => {}); // The next turn tries again; a lost connection is told above.
    },
    moved(to) {
      wanted = to.query.get('state') ?? '';
      state.value = wanted;
      table.reload();
      return true;
    },
    leave: () => table.leave(),
  };
}
