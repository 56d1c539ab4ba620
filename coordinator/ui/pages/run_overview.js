// A run at a glance: its two stages, what its figures mean, how fast it goes, and which nodes did how much.

import { at, get } from '../api.js';
import { el, put, setText } from '../dom.js';
import { bytes, count, moment, percent, percentText, rate, rowRate, seconds, several, short } from '../format.js';
import { bar } from '../parts/bar.js';
import { chart } from '../parts/chart.js';
import { errorNote } from '../parts/failure.js';
import * as rates from '../parts/rates.js';
import * as words from '../words.js';

/** The history has at most 300 points: it is asked for whole, so that all times are the coordinator's. */
const HISTORY_MS = 5_000;
/** A report reads much: it is asked for when opened, at the end, and so often between. */
const REPORT_MS = 30_000;

const FIGURES = [
  ['Data read', (r) => bytes(r.copy.bytesDone), 'Bytes of the source as they are stored there, compressed or not.'],
  ['Data written', (r) => bytes(r.copy.dataWritten), 'The same data after unpacking and parsing: bytes of staged records before compression. Often far more than data read.'],
  ['Sent to staging', (r) => bytes(r.copy.stagedBytes), 'Bytes that went over the wire to blob storage, after compression.'],
  ['Rows read', (r) => count(r.copy.rowsRead), 'Records parsed.'],
  ['Rows left out', (r) => count(r.rowsSkipped ?? 0), 'Rows that did not fit and were kept aside, as the settings allow.'],
  ['Rows visible', (r) => count(r.ingest.rowsVisible), 'Rows of this run that a query on the table finds now.'],
  ['Speed of stage 1', (r) => rate(rates.copyRate(r) ?? 0), 'Bytes of the source a second.'],
];

/** A part of the timeline. */
function step(number, title, what) {
  const when = el('span', { class: 'step-when' });
  const lines = el('div', { class: 'step-lines' });
  const head = el('div', { class: 'step-head' }, el('span', { class: 'step-number', 'aria-hidden': 'true' }, number), el('h2', null, title), when);
  const node = el('li', { class: 'step' }, head, el('p', { class: 'faint' }, what), lines);
  return { node, when, lines };
}

function timeline() {
  const plan = step('0', 'Plan', 'A node lists the source; columns are matched with the table.');
  const copy = step('1', 'Stage 1: copy to staging', 'Nodes read files, cut them into chunks and upload those to blob storage.');
  const ingest = step('2', 'Stage 2: ingest', 'The cluster pulls the staged blobs into the table.');
  const seen = step('✓', 'Visible', '');
  const bars = { copy: bar('Stage 1, bytes of the source read'), ingest: bar('Stage 2, commands finished', 'two') };
  const said = { plan: el('p'), copy: el('p'), copyMore: el('p', { class: 'faint' }), ingest: el('p'), ingestMore: el('p', { class: 'faint' }), seen: el('p', { class: 'big' }), seenMore: el('p', { class: 'faint' }) };
  put(plan.lines, said.plan);
  put(copy.lines, bars.copy.node, said.copy, said.copyMore);
  put(ingest.lines, bars.ingest.node, said.ingest, said.ingestMore);
  put(seen.lines, said.seen, said.seenMore);
  const node = el('ol', { class: 'timeline', 'aria-label': 'Stages of this run' }, plan.node, copy.node, ingest.node, seen.node);
  return {
    node,
    set(run) {
      const { stage1, stage2 } = rates.moods(run);
      const isListed = run.copy.filesTotal > 0 || Boolean(run.times?.copying);
      plan.node.dataset.mood = run.state === 'Queued' ? 'wait' : run.state === 'Planning' ? 'run' : isListed || run.state === 'Planned' ? 'done' : 'bad';
      copy.node.dataset.mood = run.state === 'Planned' ? 'wait' : stage1;
      ingest.node.dataset.mood = run.state === 'Planned' ? 'wait' : stage2;
      seen.node.dataset.mood = run.ingest.rowsVisible > 0 ? (run.state === 'Succeeded' ? 'done' : 'run') : run.state === 'Succeeded' ? 'done' : 'wait';
      setText(said.plan, isListed ? `${several(run.copy.filesTotal, 'file')}, ${bytes(run.copy.bytesTotal)}` : run.state === 'Planning' ? 'listing …' : '');
      const left = rates.secondsLeft(run);
      const share = (part, whole) => percentText(percent(part, whole));
      bars.copy.set(run.copy.bytesDone, run.copy.bytesTotal, `${bytes(run.copy.bytesDone)} of ${bytes(run.copy.bytesTotal)} read`, stage1);
      setText(said.copy, run.copy.bytesTotal > 0 ? `${share(run.copy.bytesDone, run.copy.bytesTotal)} · ${bytes(run.copy.bytesDone)} of ${bytes(run.copy.bytesTotal)} · ${count(run.copy.filesDone)} of ${several(run.copy.filesTotal, 'file')}` : '');
      setText(said.copyMore, [
        run.copy.filesActive > 0 ? `${several(run.copy.filesActive, 'file')} in work` : '',
        run.state === 'Copying' && left !== null ? `about ${seconds(left)} left` : '',
        run.filesFailed > 0 ? `${several(run.filesFailed, 'file')} failed` : '',
        run.filesSkipped > 0 ? `${several(run.filesSkipped, 'file')} left out` : '',
      ].filter(Boolean).join(' · '));
      setText(copy.when, run.copy.durationSeconds > 0 ? seconds(run.copy.durationSeconds) : '');
      copy.when.title = run.times?.copying ? `since ${moment(run.times.copying)}` : '';
      bars.ingest.set(run.ingest.commandsDone, run.ingest.commandsTotal, `${count(run.ingest.commandsDone)} of ${count(run.ingest.commandsTotal)} commands`, stage2);
      setText(said.ingest, stage2 === 'wait'
        ? (run.isFinal ? 'not begun' : 'begins when every file is staged')
        : `${share(run.ingest.commandsDone, run.ingest.commandsTotal)} · ${count(run.ingest.commandsDone)} of ${several(run.ingest.commandsTotal, 'command')}`);
      setText(said.ingestMore, [
        run.ingest.commandsActive > 0 ? `${count(run.ingest.commandsActive)} at the cluster now` : '',
        run.state === 'Ingesting' && left !== null ? `about ${seconds(left)} left` : '',
      ].filter(Boolean).join(' · '));
      setText(ingest.when, run.ingest.durationSeconds > 0 ? seconds(run.ingest.durationSeconds) : '');
      ingest.when.title = run.times?.ingesting ? `since ${moment(run.times.ingesting)}` : '';
      setText(said.seen, `${short(run.ingest.rowsVisible)} rows`);
      said.seen.title = count(run.ingest.rowsVisible);
      setText(said.seenMore, words.publishing(run.publish));
    },
  };
}

/** Points of the history as rates: each point but the first tells how fast it went since the one before. */
function speeds(points, key) {
  const list = [];
  for (let n = 1; n < points.length; n += 1) {
    const time = Date.parse(points[n].at) - Date.parse(points[n - 1].at);
    if (time > 0) list.push({ at: Date.parse(points[n].at), value: Math.max(0, ((points[n][key] - points[n - 1][key]) * 1000) / time) });
  }
  return list;
}

export function overviewPart(app, { id, run: first }) {
  const line = timeline();
  const plain = el('p', { class: 'explains' });
  const figures = FIGURES.map(([name, value, why]) => {
    const number = el('dd');
    return { value, number, node: el('div', null, el('dt', { title: why, class: 'told' }, name), number) };
  });
  const charts = {
    read: chart({ title: 'Data read', tone: 'one', say: rate }),
    rows: chart({ title: 'Rows made visible', tone: 'two', say: rowRate }),
    slots: chart({ title: 'Slots in use', tone: 'three', say: (v) => count(v) }),
  };
  const chartPlace = el('div', { class: 'charts' });
  const nodePlace = el('div');
  const element = el('div', { class: 'overview' },
    el('section', { 'aria-label': 'Stages' }, line.node, plain),
    el('dl', { class: 'figures' }, figures.map((f) => f.node)),
    el('details', { class: 'why' }, el('summary', null, 'What do these figures mean?'),
      el('dl', null, FIGURES.map(([name, , why]) => [el('dt', null, name), el('dd', null, why)])),
      el('p', null, 'A copy into Azure Data Explorer has two stages. Stage 1 uploads, stage 2 ingests. Between them data is written, but no query finds it: this is not an error.')),
    el('section', { class: 'card' }, el('h2', null, 'Over time'), chartPlace),
    el('section', { class: 'card' }, el('h2', null, 'Shares of the nodes'), nodePlace));
  let run = first;
  let points = [];
  let left = false;
  let reported = 0;
  let asked = 0;

  function drawCharts() {
    if (points.length < 2) {
      put(chartPlace, el('p', { class: 'faint' }, run.isFinal
        ? 'Points over time are kept in memory while a run goes on; this coordinator has none of this run any more.'
        : 'The first points come within seconds.'));
      return;
    }
    if (!chartPlace.contains(charts.read.node)) put(chartPlace, charts.read.node, charts.rows.node, charts.slots.node);
    charts.read.set(speeds(points, 'bytesRead'));
    charts.rows.set(speeds(points, 'rowsVisible'));
    charts.slots.set(points.map((p) => ({ at: Date.parse(p.at), value: p.slotsBusy })));
  }

  async function history() {
    asked = Date.now();
    try {
      ({ points } = await get(`${at('runs', id)}/history`));
    } catch {
      return; // Best effort: the next turn tries again.
    } finally {
      if (!left) drawCharts();
    }
  }

  async function shares() {
    reported = Date.now();
    try {
      const { nodes = [] } = await get(`${at('runs', id)}/report`);
      if (left) return;
      const most = Math.max(1, ...nodes.map((n) => n.dataRead));
      const all = nodes.reduce((sum, n) => sum + n.dataRead, 0);
      if (nodes.length === 0) {
        put(nodePlace, el('p', { class: 'faint' }, 'No node has taken a file of this run yet.'));
        return;
      }
      put(nodePlace, el('ul', { class: 'shares' }, [...nodes].sort((a, b) => b.dataRead - a.dataRead).map((node) => {
        const fill = el('i');
        fill.style.inlineSize = `${(node.dataRead / most) * 100}%`;
        return el('li', null, el('span', { class: 'share-name' }, node.name), el('span', { class: 'share-bar', 'aria-hidden': 'true' }, fill),
          el('span', { class: 'share-text' }, `${bytes(node.dataRead)} · ${percentText(percent(node.dataRead, all))} · ${several(node.files, 'file')}`));
      })));
    } catch (error) {
      if (!left) put(nodePlace, errorNote(error, 'The report could not be loaded'));
    }
  }

  function show(now) {
    const ended = now.isFinal && !run.isFinal;
    run = now;
    line.set(run);
    setText(plain, words.explanation(run, { written: bytes(run.copy.dataWritten), sent: bytes(run.copy.stagedBytes) }));
    for (const { value, number } of figures) setText(number, value(run));
    if (ended || (!run.isFinal && Date.now() - reported > REPORT_MS)) shares();
    if (ended || (!run.isFinal && Date.now() - asked > HISTORY_MS)) history();
  }

  reported = asked = Date.now();
  show(run);
  history();
  shares();
  return {
    element,
    run(now) {
      show(now);
    },
    leave() {
      left = true;
      for (const each of Object.values(charts)) each.leave();
    },
  };
}
