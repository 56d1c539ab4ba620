// The schedules: how far each came and what comes next; pause, resume and delete for who may.

import { at, get, post, remove } from '../api.js';
import { el, put, setText } from '../dom.js';
import { moment, several, time } from '../format.js';
import { repeat } from '../live.js';
import { badge } from '../parts/badge.js';
import { confirm } from '../parts/confirm.js';
import { empty } from '../parts/empty.js';
import { errorNote, failureNote } from '../parts/failure.js';

const REFRESH_MS = 5_000;
const COLUMNS = ['Schedule', 'State', 'When', 'Last window', 'Next window', 'From', 'Into'];

/** As `ferry schedules list` says it. */
export function stateOf(row) {
  if (row.failure) return 'Failed';
  if (row.isPaused) return 'Paused';
  return row.nextWindow ? 'Active' : 'Ended';
}

const none = () => el('span', { class: 'faint' }, '–');

/** In the reader's own time zone; in UTC in its title. */
export function windowText({ start, end }) {
  return el('div', { class: 'row-why', title: `${start} to ${end}` }, `${moment(start)} to ${moment(end)}`);
}

function lastCell({ lastWindow, lastRun }) {
  if (!lastRun) return none();
  return [el('a', { class: 'id', href: `#/runs/${encodeURIComponent(lastRun)}` }, lastRun), lastWindow ? windowText(lastWindow) : null];
}

function nextCell({ nextWindow }) {
  return nextWindow ? [time(nextWindow.begins), windowText(nextWindow)] : none();
}

export const rule = (schedule) => (schedule.cron ? el('code', null, schedule.cron) : `every ${schedule.interval}`);
export const zone = (schedule) => schedule.timeZone ?? 'UTC';

function whenCell({ schedule }) {
  return [
    rule(schedule),
    el('div', { class: 'row-why', title: 'Time zone of the schedule' }, zone(schedule)),
  ];
}

export function sourceCell({ source = {} }) {
  const files = source.wildcardFileName ?? source.fileName ?? source.fileListPath;
  return [el('code', null, source.folderPath), files ? el('div', { class: 'row-why' }, el('code', null, files)) : null];
}

export function sinkCell({ sink = {} }) {
  return [[sink.database, sink.table].filter(Boolean).join('.'), el('div', { class: 'row-why' }, sink.endpoint)];
}

/**
 * Buttons that pause or resume a schedule, and delete it; none for who may not. `changed(row)` has what the API answered,
 * `gone()` is called once it is deleted.
 */
export function scheduleActions(app, name, { changed, gone, failed }) {
  let isPaused = false;
  let isBusy = false;

  async function toggle() {
    // Not disabled meanwhile: the keyboard would lose its place.
    if (isBusy) return;
    isBusy = true;
    const verb = isPaused ? 'resume' : 'pause';
    try {
      changed(await post(`${at('schedules', name)}/${verb}`));
      app.announce(`Schedule ${name} is ${verb}d`);
    } catch (error) {
      failed(error, `Schedule ${name} could not be ${verb}d`);
    } finally {
      isBusy = false;
    }
  }

  async function forget() {
    const done = await confirm({
      title: `Delete ${name}?`,
      text: ['Its runs stay, and what runs goes on. No new window begins.', 'A schedule that is stored again under this name does not go on where this one was.'],
      yes: 'Delete the schedule',
      act: () => remove(at('schedules', name)),
    });
    if (!done) return;
    app.announce(`Schedule ${name} is deleted`);
    gone();
  }

  const pause = el('button', { type: 'button', class: 'small', on: { click: toggle } });
  const element = app.may('operator') ? el('div', { class: 'actions' }, pause,
    el('button', { type: 'button', class: 'small danger', 'aria-label': `Delete ${name}`, on: { click: forget } }, 'Delete')) : null;
  return {
    element,
    set(row) {
      isPaused = row.isPaused;
      setText(pause, isPaused ? 'Resume' : 'Pause');
      pause.setAttribute('aria-label', `${isPaused ? 'Resume' : 'Pause'} ${name}`);
    },
  };
}

/** One schedule of the list. */
function scheduleRow(app, row, handlers) {
  const { name } = row;
  const cells = COLUMNS.map(() => el('td'));
  cells[0].className = 'name';
  const actions = scheduleActions(app, name, handlers);
  if (actions.element) cells.push(el('td', null, actions.element));
  cells.forEach((cell, n) => {
    cell.setAttribute('role', 'cell');
    cell.dataset.label = COLUMNS[n] ?? 'Actions';
  });
  const node = el('tr', { role: 'row' }, cells);
  let drawn = '';

  function set(next) {
    const text = JSON.stringify(next);
    if (text === drawn) return;
    drawn = text;
    row = next;
    const activity = row.schedule.activity ?? {};
    put(cells[0], el('a', { href: `#/schedules/${encodeURIComponent(name)}` }, name), el('div', { class: 'row-why' }, activity.name));
    put(cells[1], badge(stateOf(row)));
    put(cells[2], whenCell(row));
    put(cells[3], lastCell(row));
    put(cells[4], nextCell(row));
    put(cells[5], sourceCell(activity));
    put(cells[6], sinkCell(activity));
    actions.set(row);
  }
  set(row);
  return { node, set, leave: () => node.remove() };
}

export function schedulesPage(app) {
  const heading = el('h1', { tabindex: -1 }, 'Schedules');
  const tally = el('span', { class: 'faint', role: 'status' });
  const trouble = el('div', { role: 'alert' });
  const notes = el('div');
  const place = el('div', null, el('p', { class: 'faint loading' }, 'Loading …'));
  const body = el('tbody', { role: 'rowgroup' });
  const columns = app.may('operator') ? [...COLUMNS, 'Actions'] : COLUMNS;
  const table = el('table', { class: 'schedules cards', role: 'table', 'aria-label': 'Schedules' },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, columns.map((name) => el('th', { scope: 'col', role: 'columnheader' }, name)))), body);
  const element = el('div', { class: 'page' }, el('div', { class: 'page-head' }, heading, tally),
    el('p', { class: 'faint' }, 'A schedule runs its activity once for each window of time. Times are those of this browser.'), trouble, notes, place);
  let held = []; // as the API answered
  let changes = 0; // an answer that was asked for before a change is out of date
  let noted = '';
  const known = new Map(); // name -> row

  function show(list) {
    held = [...list].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
    const names = new Set(held.map((row) => row.name));
    for (const [name, row] of known) {
      if (!names.has(name)) {
        row.leave();
        known.delete(name);
      }
    }
    held.forEach((one, n) => {
      let row = known.get(one.name);
      if (row) row.set(one);
      else known.set(one.name, row = scheduleRow(app, one, handlers(one.name)));
      if (body.children[n] !== row.node) body.insertBefore(row.node, body.children[n] ?? null);
    });
    const stuck = held.filter((row) => row.failure);
    const text = JSON.stringify(stuck.map((row) => [row.name, row.failure]));
    if (text !== noted) {
      noted = text;
      put(notes, stuck.map((row) => failureNote(row.failure, { title: `The schedule ${row.name} does not go on:` })));
    }
    const paused = held.filter((row) => row.isPaused).length;
    setText(tally, held.length ? `${several(held.length, 'schedule')}${paused ? `, ${paused} paused` : ''}` : '');
    if (held.length === 0) {
      if (!place.querySelector('.empty')) {
        put(place, empty('No schedules', 'A schedule runs an activity again and again. Write one as a file, and store it:',
          `ferry schedules put FILE --coordinator ${location.origin}`));
      }
    } else if (place.firstChild !== table) put(place, table);
  }

  const handlers = (name) => ({
    changed(answer) {
      changes += 1;
      put(trouble);
      show(held.map((row) => (row.name === name ? answer : row)));
    },
    gone() {
      changes += 1;
      put(trouble);
      show(held.filter((row) => row.name !== name));
      heading.focus();
    },
    failed: (error, title) => put(trouble, errorNote(error, title)),
  });

  let isLoaded = false;
  const stop = repeat(REFRESH_MS, async () => {
    const asked = changes;
    try {
      const { schedules } = await get('/schedules');
      if (asked !== changes) return;
      if (!isLoaded) put(trouble);
      isLoaded = true;
      show(schedules);
    } catch (error) {
      if (!isLoaded && !trouble.hasChildNodes()) put(trouble, errorNote(error, 'The schedules could not be loaded'));
      throw error;
    }
  });
  return { title: 'Schedules', element, leave: stop };
}
