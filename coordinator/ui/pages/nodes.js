// The nodes: whether they are ready, what they hold; and drain for who may.

import { at, get, post } from '../api.js';
import { el, put, setText } from '../dom.js';
import { count, setTime, several, time } from '../format.js';
import { follow } from '../live.js';
import { badge, setBadge } from '../parts/badge.js';
import { bar } from '../parts/bar.js';
import { confirm } from '../parts/confirm.js';
import { empty } from '../parts/empty.js';
import { errorNote } from '../parts/failure.js';

const COLUMNS = ['Node', 'State', 'Runtime', 'Slots in use', 'Version', 'Last seen', 'Since', 'Actions'];

function nodeRow(app, node) {
  const state = badge(node.state);
  const meter = bar(`Slots of ${node.name}`, 'slots');
  const busy = el('span', { class: 'bar-text' });
  const version = el('span');
  const seen = time(node.lastSeen);
  const actions = el('div', { class: 'actions' });
  let drawn = '';
  let now = node;

  function drain() {
    confirm({
      title: `Drain ${now.name}?`,
      text: [
        now.slotsBusy > 0 ? `It finishes the ${several(now.slotsBusy, 'slot')} of work that it holds, and takes no more.` : 'It takes no more work.',
        'Then it may be stopped without loss of time. To use it again, restart its program.',
      ],
      yes: 'Drain the node', no: 'Leave it',
      act: async () => {
        const { nodes } = await post(`${at('nodes', now.nodeId)}/drain`);
        const mine = nodes.find((other) => other.nodeId === now.nodeId);
        if (mine) set(mine);
      },
    });
  }

  const cells = [
    el('td', { class: 'name' }, el('strong', null, node.name), el('div', { class: 'faint id' }, node.nodeId)),
    el('td', null, state), el('td', null, node.runtime), el('td', { class: 'stage' }, meter.node, busy),
    el('td', null, version), el('td', null, seen), el('td', null, time(node.registered)), el('td', null, actions),
  ];
  cells.forEach((cell, n) => {
    cell.setAttribute('role', 'cell');
    cell.dataset.label = COLUMNS[n];
  });
  const row = el('tr', { role: 'row' }, cells);
  cells[0].title = node.identity ? `Certificate of ${node.identity}` : '';

  function set(next) {
    now = next;
    setBadge(state, now.state);
    meter.set(now.slotsBusy, now.slots, `${now.slotsBusy} of ${now.slots} slots`, now.slotsBusy > 0 ? 'run' : 'wait');
    setText(busy, `${count(now.slotsBusy)} of ${count(now.slots)}`);
    setText(version, now.version ?? '');
    setTime(seen, now.lastSeen);
    row.classList.toggle('dim', now.state === 'Left' || now.state === 'Lost');
    const may = app.may('operator');
    const can = now.state === 'Ready' || now.state === 'Lost';
    const key = `${may} ${can}`;
    if (key === drawn) return;
    drawn = key;
    put(actions, can ? el('button', {
      type: 'button', class: 'small', disabled: !may, 'aria-label': `Drain ${now.name}`,
      title: may ? null : 'Draining a node needs the role operator', on: { click: drain },
    }, 'Drain') : null);
  }
  set(node);
  return { node: row, set };
}

export function nodesPage(app) {
  const body = el('tbody', { role: 'rowgroup' });
  const tally = el('span', { class: 'faint', role: 'status' });
  const place = el('div', null, el('p', { class: 'faint loading' }, 'Loading …'));
  const trouble = el('div', { role: 'alert' });
  const table = el('table', { class: 'nodes cards', role: 'table', 'aria-label': 'Nodes' },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, COLUMNS.map((name) => el('th', { scope: 'col', role: 'columnheader' }, name)))), body);
  const element = el('div', { class: 'page' }, el('div', { class: 'page-head' }, el('h1', null, 'Nodes'), tally), trouble, place);
  const known = new Map();

  function show({ nodes }) {
    put(trouble);
    const sorted = [...nodes].sort((a, b) => a.runtime.localeCompare(b.runtime) || a.name.localeCompare(b.name, 'en', { numeric: true }) || a.nodeId.localeCompare(b.nodeId));
    const ids = new Set(sorted.map((n) => n.nodeId));
    for (const [id, row] of known) {
      if (!ids.has(id)) {
        row.node.remove();
        known.delete(id);
      }
    }
    sorted.forEach((node, n) => {
      let row = known.get(node.nodeId);
      if (row) row.set(node);
      else known.set(node.nodeId, row = nodeRow(app, node));
      if (body.children[n] !== row.node) body.insertBefore(row.node, body.children[n] ?? null);
    });
    const ready = nodes.filter((n) => n.state === 'Ready');
    const slots = ready.reduce((sum, n) => sum + n.slots, 0);
    setText(tally, nodes.length ? `${count(ready.length)} ready, ${several(slots, 'slot')}` : '');
    if (nodes.length === 0) {
      put(place, empty('No nodes', 'A node copies the files. Start one where the data is; it dials this coordinator:',
        `ferry node --coordinator http://${location.hostname}:7400 --runtime default --allow-root /exports`));
    } else if (place.firstChild !== table) put(place, table);
  }

  const load = async () => show(await get('/nodes'));
  let left = false;
  let stop = () => {};
  load().catch((error) => put(trouble, errorNote(error, 'The nodes could not be loaded'))).finally(() => {
    if (!left) stop = follow('/events', { nodes: show }, load);
  });
  return { title: 'Nodes', element, leave() {
    left = true;
    stop();
  } };
}
