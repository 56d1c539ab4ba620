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

/** One run as a row whose figures change in place. */
function runRow(run) {
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
    el('td', { class: 'name' }, el('a', { href: `#/runs/${encodeURIComponent(run.runId)}` }, run.activity), el('div', { class: 'faint id' }, run.runId)),
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

export function runsPage(app, route) {
  const state = route.query.get('state') ?? '';
  const before = route.query.get('before') ?? '';
  const body = el('tbody', { role: 'rowgroup' });
  const trouble = el('div', { role: 'alert' });
  const place = el('div');
  const pager = el('nav', { class: 'pager', 'aria-label': 'Older and newer runs' });
  const tally = el('span', { class: 'faint', role: 'status' });
  const table = el('table', { class: 'runs cards', role: 'table', 'aria-label': 'Runs' },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, COLUMNS.map((name, n) =>
      el('th', { scope: 'col', role: 'columnheader', class: n >= 5 && n <= 7 ? 'number' : null }, name)))), body);
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

  const known = new Map(); // run -> row
  let order = []; // ids, newest first

  function show(run) {
    rates.note(run);
    let row = known.get(run.runId);
    if (!row) {
      row = runRow(run);
      known.set(run.runId, row);
    }
    row.set(run);
    return row;
  }

  function list() {
    const nodes = order.map((id) => known.get(id).node);
    nodes.forEach((node, n) => {
      if (body.children[n] !== node) body.insertBefore(node, body.children[n] ?? null);
    });
    while (body.children.length > nodes.length) body.lastChild.remove();
    if (nodes.length === 0) put(place, nothing());
    else if (place.firstChild !== table) put(place, table);
  }

  function nothing() {
    if (before) return empty('No older runs', 'This is the end of the list.');
    if (state) return empty(`No run is ${state.toLowerCase()}`, 'Choose another state above.');
    return empty('No runs yet', 'Submit a copy activity: on the page Submit, or from a terminal:', `ferry run activity.yaml --coordinator ${location.origin}`);
  }

  async function load() {
    const { runs, next } = await get('/runs', { limit: PAGE_RUNS, state, before });
    runs.forEach(show);
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
      if (known.has(run.runId)) {
        show(run);
        if (!passes(run, state)) {
          order = order.filter((id) => id !== run.runId);
          moved = true;
        } else if (!order.includes(run.runId)) moved = true;
      }
      const isNew = !order.includes(run.runId) && passes(run, state) && !before && newerThanLast(run);
      if (isNew) {
        show(run);
        const time = Date.parse(run.submitted);
        const at = order.findIndex((id) => submittedOf(id) <= time);
        order.splice(at < 0 ? order.length : at, 0, run.runId);
        moved = true;
      }
    }
    if (moved) list();
  }

  const submittedOf = (id) => Date.parse(known.get(id).node.querySelector('time')?.getAttribute('datetime') ?? '');
  /** Others belong to a later page. */
  const newerThanLast = (run) => order.length < PAGE_RUNS || Date.parse(run.submitted) >= submittedOf(order.at(-1));

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
