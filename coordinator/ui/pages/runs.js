// All runs, newest first.

import { get } from '../api.js';
import { el, put, setText } from '../dom.js';
import { bytes, count, rate, seconds, setTime, short, time } from '../format.js';
import { follow } from '../live.js';
import { badge, setBadge } from '../parts/badge.js';
import { bar } from '../parts/bar.js';
import { empty } from '../parts/empty.js';
import { errorNote } from '../parts/failure.js';
import * as rates from '../parts/rates.js';

const PAGE_RUNS = 50;
const FILTERS = [['', 'All'], ['Active', 'Active'], ['Succeeded', 'Succeeded'], ['Failed', 'Failed'], ['Cancelled', 'Cancelled']];
const COLUMNS = ['Run', 'State', 'Into', 'Stage 1: copy', 'Stage 2: ingest', 'Speed', 'Rows visible', 'Time', 'Submitted'];

const passes = (run, state) => !state || (state === 'Active' ? !run.isFinal : run.state === state);

const nameOf = (run) => [el('a', { href: `#/runs/${encodeURIComponent(run.runId)}` }, run.activity), el('div', { class: 'faint id' }, run.runId)];

/** One run as a row whose figures change in place. */
function runRow(run, name) {
  const state = badge(run.state);
  const copy = bar('Stage 1');
  const ingest = bar('Stage 2', 'two');
  const copyText = el('span', { class: 'bar-text' });
  const ingestText = el('span', { class: 'bar-text' });
  const speed = el('span');
  const rows = el('span');
  const took = el('span');
  const why = el('div', { class: 'row-why' });
  const submitted = time(run.submitted);
  const cells = [
    el('td', { class: 'name' }, name(run)),
    el('td', null, state, why),
    el('td', { class: 'sink' }, run.sink),
    el('td', { class: 'stage' }, copy.node, copyText),
    el('td', { class: 'stage' }, ingest.node, ingestText),
    el('td', { class: 'number' }, speed),
    el('td', { class: 'number' }, rows),
    el('td', { class: 'number' }, took),
    el('td', null, submitted),
  ];
  cells.forEach((cell, n) => {
    cell.setAttribute('role', 'cell');
    cell.dataset.label = COLUMNS[n];
  });
  const node = el('tr', { role: 'row' }, cells);
  return {
    node,
    set(now) {
      run = now;
      const { stage1, stage2 } = rates.moods(run);
      setBadge(state, run.state);
      copy.set(run.copy.bytesDone, run.copy.bytesTotal, `${bytes(run.copy.bytesDone)} of ${bytes(run.copy.bytesTotal)} read`, stage1);
      setText(copyText, run.copy.filesTotal > 0 ? `${short(run.copy.filesDone)} of ${short(run.copy.filesTotal)} files` : '');
      ingest.set(run.ingest.commandsDone, run.ingest.commandsTotal, `${count(run.ingest.commandsDone)} of ${count(run.ingest.commandsTotal)} commands`, stage2);
      setText(ingestText, stage2 === 'wait' ? '' : `${short(run.ingest.commandsDone)} of ${short(run.ingest.commandsTotal)} commands`);
      const pace = rates.copyRate(run);
      setText(speed, pace ? rate(pace) : '');
      speed.title = run.isFinal ? 'Bytes of the source a second, over stage 1' : 'Bytes of the source a second, now';
      setText(rows, run.ingest.rowsVisible > 0 || run.isFinal ? short(run.ingest.rowsVisible) : '');
      rows.title = `${count(run.ingest.rowsVisible)} visible in the table, ${count(run.copy.rowsRead)} read`;
      const left = rates.secondsLeft(run);
      setText(took, left === null ? (run.durationSeconds > 0 ? seconds(run.durationSeconds) : '') : `${seconds(left)} left`);
      took.title = left === null ? 'How long it took, or goes already' : `This stage, at this speed. Running for ${seconds(run.durationSeconds)}.`;
      took.classList.toggle('eta', left !== null);
      setText(why, run.failure ? run.failure.code : run.lastFailure ? `trying again: ${run.lastFailure.code}` : '');
      why.title = run.failure?.message ?? run.lastFailure?.message ?? '';
      setTime(submitted, run.submitted);
    },
  };
}

/** A table of runs. `name(run)` is what stands in the first column, a link to the run among it. */
export function runsTable(label, name = nameOf) {
  const known = new Map(); // run -> row
  const body = el('tbody', { role: 'rowgroup' });
  const element = el('table', { class: 'runs cards', role: 'table', 'aria-label': label },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, COLUMNS.map((title, n) =>
      el('th', { scope: 'col', role: 'columnheader', class: n >= 5 && n <= 7 ? 'number' : null }, title)))), body);
  return {
    element,
    has: (id) => known.has(id),
    submitted: (id) => Date.parse(known.get(id).node.querySelector('time')?.getAttribute('datetime') ?? ''),
    /** Keeps what is known of a run now. */
    set(run) {
      rates.note(run);
      if (!known.has(run.runId)) known.set(run.runId, runRow(run, name));
      known.get(run.runId).set(run);
    },
    /** Shows these runs, in this order. */
    list(ids) {
      const nodes = ids.map((id) => known.get(id).node);
      nodes.forEach((node, n) => {
        if (body.children[n] !== node) body.insertBefore(node, body.children[n] ?? null);
      });
      while (body.children.length > nodes.length) body.lastChild.remove();
    },
  };
}

export function runsPage(app, route) {
  const state = route.query.get('state') ?? '';
  const before = route.query.get('before') ?? '';
  const trouble = el('div', { role: 'alert' });
  const place = el('div');
  const pager = el('nav', { class: 'pager', 'aria-label': 'Older and newer runs' });
  const tally = el('span', { class: 'faint', role: 'status' });
  const table = runsTable('Runs');
  const address = (query) => {
    const text = new URLSearchParams(Object.entries(query).filter(([, v]) => v)).toString();
    return `#/runs${text ? `?${text}` : ''}`;
  };
  const element = el('div', { class: 'page' },
    el('div', { class: 'page-head' }, el('h1', null, 'Runs'), tally, el('div', { class: 'spring' }),
      el('nav', { class: 'filters', 'aria-label': 'State of runs' }, FILTERS.map(([value, name]) =>
        el('a', { href: address({ state: value }), 'aria-current': value === state ? 'true' : null }, name)))),
    trouble, place, pager);
  put(place, el('p', { class: 'faint loading' }, 'Loading …'));

  let order = []; // ids, newest first

  function list() {
    table.list(order);
    if (order.length === 0) put(place, nothing());
    else if (place.firstChild !== table.element) put(place, table.element);
  }

  function nothing() {
    if (before) return empty('No older runs', 'This is the end of the list.');
    if (state) return empty(`No run is ${state.toLowerCase()}`, 'Choose another state above.');
    return empty('No runs yet', 'Submit a copy activity: on the page Submit, or from a terminal:', `ferry run activity.yaml --coordinator ${location.origin}`);
  }

  async function load() {
    const { runs, next } = await get('/runs', { limit: PAGE_RUNS, state, before });
    runs.forEach(table.set);
    order = runs.map((run) => run.runId);
    put(trouble);
    list();
    setText(tally, next || before ? '' : `${count(runs.length)} in all`);
    put(pager,
      before ? el('a', { class: 'button', href: address({ state }) }, 'Newest runs') : null,
      next ? el('a', { class: 'button', href: address({ state, before: next }) }, 'Older runs') : null);
  }

  /** Runs that changed. Those that are not listed come to the top of the first page, as they are new. */
  function changed({ runs }) {
    let moved = false;
    for (const run of [...runs].reverse()) {
      if (table.has(run.runId)) {
        table.set(run);
        if (!passes(run, state)) {
          order = order.filter((id) => id !== run.runId);
          moved = true;
        } else if (!order.includes(run.runId)) moved = true;
      }
      const isNew = !order.includes(run.runId) && passes(run, state) && !before && newerThanLast(run);
      if (isNew) {
        table.set(run);
        const time = Date.parse(run.submitted);
        const at = order.findIndex((id) => table.submitted(id) <= time);
        order.splice(at < 0 ? order.length : at, 0, run.runId);
        moved = true;
      }
    }
    if (moved) list();
  }

  /** Others belong to a later page. */
  const newerThanLast = (run) => order.length < PAGE_RUNS || Date.parse(run.submitted) >= table.submitted(order.at(-1));

  let stop = () => {};
  let left = false;
  load().catch((error) => put(trouble, errorNote(error, 'The runs could not be loaded'))).finally(() => {
    if (!left) stop = follow('/events', { runs: changed }, load);
  });
  return { title: 'Runs', element, leave() {
    left = true;
    stop();
  }, moved: () => false };
}
