// The integration runtimes: pools of nodes that reach the same sources.

import { get } from '../api.js';
import { el, put } from '../dom.js';
import { count, several } from '../format.js';
import { repeat } from '../live.js';
import { bar } from '../parts/bar.js';
import { empty } from '../parts/empty.js';

const REFRESH_MS = 5_000;
const COLUMNS = ['Integration runtime', 'Nodes ready', 'Slots in use', 'Units waiting', 'Units in work'];

function runtimeRow(r) {
  const meter = bar(`Slots of ${r.name}`, 'slots');
  meter.set(r.slotsBusy, r.slots, `${r.slotsBusy} of ${r.slots} slots`, r.slotsBusy > 0 ? 'run' : 'wait');
  const isStuck = r.unitsPending > 0 && r.nodesReady === 0;
  const cells = [
    el('td', { class: 'name' }, el('strong', null, r.name)),
    el('td', null, `${count(r.nodesReady)} of ${count(r.nodes)}`),
    el('td', { class: 'stage' }, meter.node, el('span', { class: 'bar-text' }, `${count(r.slotsBusy)} of ${count(r.slots)}`)),
    el('td', null, count(r.unitsPending), isStuck ? el('span', { class: 'tag warn' }, 'no node is ready') : null),
    el('td', null, count(r.unitsLeased)),
  ];
  cells.forEach((cell, n) => {
    cell.setAttribute('role', 'cell');
    cell.dataset.label = COLUMNS[n];
  });
  return el('tr', { role: 'row' }, cells);
}

export function runtimesPage() {
  const place = el('div', null, el('p', { class: 'faint loading' }, 'Loading …'));
  const notes = el('div');
  const body = el('tbody', { role: 'rowgroup' });
  const table = el('table', { class: 'cards', role: 'table', 'aria-label': 'Integration runtimes' },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, COLUMNS.map((name) => el('th', { scope: 'col', role: 'columnheader' }, name)))), body);
  const element = el('div', { class: 'page' },
    el('div', { class: 'page-head' }, el('h1', null, 'Integration runtimes')),
    el('p', { class: 'faint' }, 'A source names the runtime that can reach it (', el('code', null, 'connectVia'), '); only nodes of that runtime get its work.'),
    notes, place);
  let shown = '';

  const stop = repeat(REFRESH_MS, async () => {
    const { runtimes } = await get('/runtimes');
    const text = JSON.stringify(runtimes);
    if (text === shown) return;
    shown = text;
    const stuck = runtimes.filter((r) => r.unitsPending > 0 && r.nodesReady === 0);
    put(notes, stuck.map((r) => el('section', { class: 'note warn' },
      el('h2', { class: 'note-title' }, `Work of the runtime ${r.name} waits`),
      el('p', null, `${several(r.unitsPending, 'unit')} can go to no node, as none is ready. Start one with `, el('code', null, `--runtime ${r.name}`), '.'))));
    if (runtimes.length === 0) {
      put(place, empty('No integration runtime yet', 'A runtime exists once a node names it:',
        `ferry node --coordinator http://${location.hostname}:7400 --runtime default --allow-root /exports`));
      return;
    }
    put(body, runtimes.map(runtimeRow));
    put(place, table);
  });
  return { title: 'Integration runtimes', element, leave: stop };
}
