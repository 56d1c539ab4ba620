// One schedule: what it runs and when, how far it came, and its runs.

import { at, get } from '../api.js';
import { el, put } from '../dom.js';
import { moment, time } from '../format.js';
import { repeat } from '../live.js';
import { badge, setBadge } from '../parts/badge.js';
import { copyButton } from '../parts/copy.js';
import { empty } from '../parts/empty.js';
import { errorNote, failureNote } from '../parts/failure.js';
import { facts } from '../parts/facts.js';
import { json } from './run_activity.js';
import { runsTable } from './runs.js';
import { rule, scheduleActions, sinkCell, sourceCell, stateOf, windowText, zone } from './schedules.js';

const REFRESH_MS = 5_000;
const PAGE_RUNS = 20;

const CATCH_UP = {
  all: 'each gets its run, the oldest first',
  merge: 'one run for the whole time',
  skip: 'only the newest gets a run',
};

const runLink = (id) => el('a', { class: 'id', href: `#/runs/${encodeURIComponent(id)}` }, id);

/** When windows end and runs begin, as the schedule is written. */
function ruleFacts({ schedule, created }) {
  const { catchUp = 'all', delay, startTime, endTime } = schedule;
  return facts([
    ['A window ends', schedule.cron ? ['at ', rule(schedule)] : rule(schedule), schedule.cron ? 'Minute, hour, day of the month, month, day of the week' : null],
    ['Time zone', zone(schedule)],
    ['Its run begins', delay ? `${delay} after the end of the window` : 'at the end of the window'],
    ['Missed windows', [el('code', null, catchUp), `: ${CATCH_UP[catchUp] ?? ''}`], 'catchUp: of windows that passed while nobody was there, it was paused, or a run took long'],
    ['First window', startTime ? `begins ${moment(startTime)}` : null],
    ['Last window', endTime ? `ends by ${moment(endTime)}` : null],
    ['Stored', time(created)],
  ]);
}

function windowsToCome(row) {
  if (row.failure) return 'none until the failure above is mended';
  if (row.nextWindows.length > 0) {
    return el('ol', { class: 'plain' }, row.nextWindows.map((window) => el('li', null, time(window.begins), windowText(window))));
  }
  return row.isPaused ? 'none until it is resumed' : 'none: the schedule has ended';
}

function progressFacts(row) {
  return facts([
    ['Last run', row.lastRun ? [runLink(row.lastRun), ' ', row.lastRunState ? badge(row.lastRunState) : el('span', { class: 'faint' }, row.failure ? 'not submitted' : 'is not there')] : 'none yet'],
    ['Last window', row.lastWindow ? windowText(row.lastWindow) : null],
    ['Next windows', windowsToCome(row), 'When the run of each begins, and the window'],
  ]);
}

function activityFacts({ schedule: { activity } }) {
  return facts([
    ['Activity', activity.name],
    ['From', sourceCell(activity)],
    ['Into', sinkCell(activity)],
    ['Integration runtime', activity.source?.connectVia ?? 'default'],
  ]);
}

export function schedulePage(app, route) {
  const name = route.parts[1];
  const base = `#/schedules/${encodeURIComponent(name)}`;
  const state = badge('');
  const trouble = el('div', { role: 'alert' });
  const notes = el('div');
  const place = el('div', null, el('p', { class: 'faint loading' }, 'Loading …'));
  const actions = scheduleActions(app, name, {
    changed(answer) {
      changes += 1;
      put(trouble);
      show(answer);
    },
    gone: () => app.go('#/schedules'),
    failed: (error, title) => put(trouble, errorNote(error, title)),
  });
  const head = el('div', { class: 'page-head' }, el('h1', null, name));
  const element = el('div', { class: 'page' },
    el('nav', { class: 'crumbs', 'aria-label': 'Where you are' }, el('a', { href: '#/schedules' }, 'Schedules'), ' / ', el('span', { class: 'id' }, name)),
    head, trouble, notes, place);

  const cards = [['How far it came', progressFacts], ['When', ruleFacts], ['What it runs', activityFacts]]
    .map(([title, draw]) => ({ title, draw, content: el('div') }));
  const table = runsTable('Runs of this schedule', (run) => runLink(run.runId));
  const runsHeading = el('h2', { tabindex: -1 }, 'Runs');
  const runsTrouble = el('div', { role: 'alert' });
  const runsPlace = el('div');
  const pager = el('nav', { class: 'pager', 'aria-label': 'Older and newer runs' });
  const activity = el('div');
  const parts = el('div', { class: 'schedule' },
    el('div', { class: 'schedule-cards' }, cards.map(({ title, content }) => el('section', { class: 'card' }, el('h2', null, title), content))),
    el('section', null, runsHeading, runsTrouble, runsPlace, pager),
    el('section', null, el('h2', null, 'The activity as it is kept'), activity));

  let before = route.query.get('before') ?? '';
  let changes = 0; // an answer that was asked for before a change is out of date
  let drawn = '';
  let noted = '';
  let kept = '';
  let paged = '';

  /** What is the same is not built again: the keyboard may be in it, and notes are read aloud. */
  function show(row) {
    setBadge(state, stateOf(row));
    actions.set(row);
    if (!head.contains(state)) head.append(state, el('div', { class: 'spring' }), ...(actions.element ? [actions.element] : []));
    const text = JSON.stringify(row);
    if (text !== drawn) {
      drawn = text;
      for (const card of cards) put(card.content, card.draw(row));
    }
    const failure = JSON.stringify(row.failure);
    if (failure !== noted) {
      noted = failure;
      put(notes, row.failure ? failureNote(row.failure, { title: 'The schedule does not go on:' }) : null);
    }
    const written = JSON.stringify(row.schedule.activity, null, 2);
    if (written !== kept) {
      kept = written;
      put(activity,
        el('div', { class: 'tools' }, copyButton(() => kept),
          el('p', { class: 'faint' }, 'What stands in double braces is filled in for each window. Secrets stand in it as references only.')),
        json('The activity as it is kept', row.schedule.activity));
    }
    if (place.firstChild !== parts) put(place, parts);
  }

  function showRuns({ runs, next }) {
    put(runsTrouble);
    runs.forEach(table.set);
    table.list(runs.map((run) => run.runId));
    if (runs.length > 0) {
      if (runsPlace.firstChild !== table.element) put(runsPlace, table.element);
    } else if (!runsPlace.querySelector('.empty')) {
      put(runsPlace, before ? empty('No older runs', 'This is the end of the list.') : empty('No runs yet', 'A window gets its run when it is over.'));
    }
    const key = `${before} ${next}`;
    if (key === paged) return;
    paged = key;
    put(pager,
      before ? el('a', { class: 'button', href: base }, 'Newest runs') : null,
      next ? el('a', { class: 'button', href: `${base}?${new URLSearchParams({ before: next })}` }, 'Older runs') : null);
  }

  function showNone() {
    put(head, head.querySelector('h1'));
    put(notes);
    noted = '';
    if (!place.querySelector(':scope > .empty')) {
      put(place, empty('There is no such schedule', 'It may have been deleted, or the name is not quite right. Runs of a schedule that is deleted stay.'));
    }
  }

  async function load() {
    const asked = changes;
    const wanted = get('/runs', { schedule: name, limit: PAGE_RUNS, before }).catch((error) => ({ error }));
    let row;
    try {
      row = await get(at('schedules', name));
    } catch (error) {
      if (error.status === 404) showNone();
      else if (place.querySelector(':scope > .loading') && !trouble.hasChildNodes()) put(trouble, errorNote(error, 'The schedule could not be loaded'));
      if (error.status === 404) return;
      throw error;
    }
    const page = await wanted;
    if (asked !== changes) return;
    if (place.firstChild !== parts) put(trouble);
    show(row);
    if (!page.error) showRuns(page);
    else if (!runsTrouble.hasChildNodes()) put(runsTrouble, errorNote(page.error, 'The runs could not be loaded'));
  }

  const stop = repeat(REFRESH_MS, load);
  return {
    title: name,
    element,
    leave: stop,
    moved(to) {
      before = to.query.get('before') ?? '';
      changes += 1;
      runsHeading.focus(); // The link that led here goes.
      put(runsPlace, el('p', { class: 'faint loading' }, 'Loading …'));
      load().catch(() => {}); // The next turn tries again; a lost connection is told above.
      return true;
    },
  };
}
