// One run: what stands above its parts, and which part is shown.

import { at, get, post } from '../api.js';
import { el, prose, put, setText } from '../dom.js';
import { percent, seconds, time } from '../format.js';
import { follow } from '../live.js';
import { badge, setBadge } from '../parts/badge.js';
import { confirm } from '../parts/confirm.js';
import { empty } from '../parts/empty.js';
import { errorNote, failureNote } from '../parts/failure.js';
import * as rates from '../parts/rates.js';
import { activityPart, planPart } from './run_activity.js';
import { commandsPart } from './run_commands.js';
import { filesPart } from './run_files.js';
import { overviewPart } from './run_overview.js';
import { quarantinePart } from './run_quarantine.js';

const PARTS = {
  '': ['Overview', overviewPart],
  files: ['Files', filesPart],
  commands: ['Commands', commandsPart],
  quarantine: ['Left-out rows', quarantinePart],
  activity: ['Activity', activityPart],
  plan: ['Plan', planPart],
};
/** Sweeping may go on after the end: asked so often. */
const SWEEP_TURNS = 12;
const SWEEP_MS = 10_000;

export function runPage(app, route) {
  const id = route.parts[1];
  const base = `#/runs/${encodeURIComponent(id)}`;
  const heading = el('h1', null, id);
  const state = badge('');
  const facts = el('p', { class: 'faint run-facts' });
  const actions = el('div', { class: 'actions' });
  const notes = el('div', { class: 'notes' });
  const tabs = el('nav', { class: 'tabs', 'aria-label': 'Parts of this run' });
  const place = el('div', { class: 'run-part' });
  const element = el('div', { class: 'page' },
    el('nav', { class: 'crumbs', 'aria-label': 'Where you are' }, el('a', { href: '#/runs' }, 'Runs'), ' / ', el('span', { class: 'id' }, id)),
    el('div', { class: 'page-head' }, heading, state, el('div', { class: 'spring' }), actions),
    facts, notes, tabs, place);

  let run = null;
  let part = null; // {name, view}
  let stop = () => {};
  let left = false;
  let sweeping = 0;
  let said = {};
  let noted = '';

  function show(next) {
    const before = run;
    run = next;
    rates.note(run);
    page.title = run.activity;
    setText(heading, run.activity);
    setBadge(state, run.state);
    drawFacts();
    drawActions();
    drawNotes();
    speak(before);
    if (!part) choose(route);
    else {
      drawTabs();
      part.view.run?.(run);
    }
  }

  function drawFacts() {
    put(facts, 'into ', el('strong', null, run.sink), ' · runtime ', run.runtime ?? 'default', ' · publish ', run.publish ?? 'append',
      run.ingestion === 'queued' ? ' · queued ingestion' : '', ' · submitted ', time(run.submitted),
      run.durationSeconds > 0 ? ` · ${run.isFinal ? 'took' : 'running for'} ${seconds(run.durationSeconds)}` : '');
  }

  let drawnActions = '';
  function drawActions() {
    const key = `${run.isFinal} ${run.state === 'Cancelling'} ${app.session.role}`;
    if (key === drawnActions) return;
    drawnActions = key;
    const mayCancel = app.may('operator');
    put(actions,
      run.isFinal ? null : el('button', {
        type: 'button', class: 'danger', disabled: !mayCancel || run.state === 'Cancelling',
        title: mayCancel ? null : 'Cancelling a run needs the role operator', on: { click: cancel },
      }, run.state === 'Cancelling' ? 'Cancelling …' : 'Cancel run'),
      el('a', { class: 'button', href: `api/v1${at('runs', id, 'report')}`, download: `ferry-${id}.json` }, 'Report (JSON)'));
  }

  function cancel() {
    const later = run.publish === 'atomic' || run.publish === 'replace';
    confirm({
      title: 'Cancel this run?',
      text: [
        'Nodes give back what they hold, and staged data is deleted. A cancelled run cannot go on: copy again under another id.',
        later ? 'No row of it will be visible.' : 'Rows that are visible already stay in the table.',
      ],
      yes: 'Cancel the run', no: 'Let it run',
      act: async () => show(await post(`${at('runs', id)}/cancel`)),
    });
  }

  /** Built again only when what they say changes: they are read aloud. */
  function drawNotes() {
    const key = JSON.stringify([run.isFinal, run.failure, run.lastFailure, run.sweepFailure, run.warnings, run.filesFailed]);
    if (key === noted) return;
    noted = key;
    const files = run.filesFailed > 0
      ? el('p', null, el('a', { href: `${base}/files?state=Failed` }, run.filesFailed === 1 ? 'Show the file that failed' : `Show the ${run.filesFailed} files that failed`)) : null;
    put(notes,
      run.failure ? failureNote(run.failure, { title: 'The run failed:', more: files }) : null,
      run.lastFailure && !run.isFinal ? failureNote(run.lastFailure, { title: 'Tried again:', kind: 'warn' }) : null,
      run.sweepFailure ? failureNote(run.sweepFailure, { title: 'Staging could not be swept yet:', kind: 'warn' }) : null,
      run.warnings?.length ? el('section', { class: 'note warn' },
        el('h2', { class: 'note-title' }, run.warnings.length === 1 ? 'A warning' : `${run.warnings.length} warnings`),
        el('ul', null, run.warnings.map((text) => el('li', null, prose(text))))) : null);
  }

  /** For screen readers: each change of state, and each quarter of the stage. */
  function speak(before) {
    const isCopy = run.state === 'Copying';
    const share = isCopy ? percent(run.copy.bytesDone, run.copy.bytesTotal)
      : run.state === 'Ingesting' ? percent(run.ingest.commandsDone, run.ingest.commandsTotal) : 0;
    const now = { state: run.state, quarter: Math.floor(share / 25) };
    if (before && now.state !== said.state) app.announce(`Run ${run.activity}: ${run.state}`);
    else if (before && now.quarter > (said.quarter ?? 0)) app.announce(`Stage ${isCopy ? 1 : 2}: ${now.quarter * 25} per cent`);
    said = now;
  }

  function drawTabs() {
    const names = Object.keys(PARTS).filter((name) => name !== 'plan' || run.state === 'Planned');
    const key = names.join() + part.name + run.rowsSkipped;
    if (tabs.dataset.key === key) return;
    tabs.dataset.key = key;
    put(tabs, names.map((name) => el('a', { href: name ? `${base}/${name}` : base, 'aria-current': name === part.name ? 'page' : null },
      PARTS[name][0], name === 'quarantine' && run.rowsSkipped > 0 ? el('span', { class: 'count' }, String(run.rowsSkipped)) : null)));
  }

  function choose(to) {
    const name = Object.hasOwn(PARTS, to.parts[2] ?? '') ? to.parts[2] ?? '' : '';
    if (part?.name === name && part.view.moved?.(to)) return;
    part?.view.leave?.();
    put(document.getElementById('side'));
    part = { name, view: PARTS[name][1](app, { id, base, run, route: to }) };
    put(place, part.view.element);
    element.dataset.part = name || 'overview';
    drawTabs();
  }

  async function load() {
    show(await get(at('runs', id)));
  }

  /** A run's last words come after its end. */
  async function afterwards() {
    while (!left && !run.isSwept && sweeping < SWEEP_TURNS) {
      sweeping += 1;
      await new Promise((done) => setTimeout(done, SWEEP_MS));
      if (!left) await load().catch(() => {});
    }
  }

  const page = {
    title: id,
    element,
    leave() {
      left = true;
      stop();
      part?.view.leave?.();
    },
    moved(to) {
      if (run) choose(to);
      route = to;
      return true;
    },
  };

  function begin() {
    load().then(() => {
      if (left) return;
      if (run.isFinal) {
        afterwards();
        return;
      }
      stop = follow(`${at('runs', id)}/events`, {
        run(now) {
          show(now);
          if (now.isFinal) afterwards();
        },
      }, load, () => run.isFinal);
    }, (error) => {
      if (left || error.status === 401) return;
      if (error.status === 404) {
        put(place, empty('There is no such run', 'It may have been deleted, or the id is not quite right.'));
        return;
      }
      put(place, errorNote(error, 'The run could not be loaded'));
      setTimeout(() => !left && begin(), 3_000);
    });
  }
  put(place, el('p', { class: 'faint loading' }, 'Loading …'));
  begin();
  return page;
}
