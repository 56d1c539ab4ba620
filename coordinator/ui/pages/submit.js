// A copy activity as text: planned, checked, submitted. The coordinator reads YAML and JSON; this page does not.

import { at, get, post } from '../api.js';
import { el, prose, put, setText } from '../dom.js';
import { several } from '../format.js';
import { editor } from '../parts/editor.js';
import { badge } from '../parts/badge.js';
import { errorNote } from '../parts/failure.js';
import { help } from './submit_help.js';
import { draft, keepDraft } from './draft.js';
import { TEMPLATES } from './templates.js';

/** A plan takes a listing of the source: asked for so often, and so long. */
const PLAN_MS = 1_000;
const PLAN_TURNS = 300;

const VERDICTS = {
  ok: ['ok', 'All that the activity needs is there.'],
  degraded: ['warn', 'The activity can run; some of what would help it is missing or could not be found out.'],
  failed: ['bad', 'The activity cannot run as it is.'],
};

function checksTable({ checks, verdict }) {
  const [kind, text] = VERDICTS[verdict] ?? ['warn', verdict];
  const rank = { no: 0, unknown: 1, yes: 2 };
  const sorted = [...checks].sort((a, b) => rank[a.result] - rank[b.result] || Number(b.isMandatory) - Number(a.isMandatory));
  return [
    el('section', { class: `note ${kind}` }, el('h2', { class: 'note-title' }, `Check: ${verdict}`), el('p', null, text)),
    el('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': 'Checks' }, el('table', { class: 'checks' },
      el('thead', null, el('tr', null, ['Result', 'Check', 'Area', 'Needs', 'How it was tried', 'What was found'].map((name) => el('th', { scope: 'col' }, name)))),
      el('tbody', null, sorted.map((c) => el('tr', null,
        el('td', null, badge(c.result), c.isMandatory ? null : el('div', { class: 'faint' }, 'optional')),
        el('td', null, c.name), el('td', null, c.area), el('td', null, c.needs ?? '', c.role ? el('div', { class: 'faint' }, c.role) : null), el('td', null, el('code', null, c.probe ?? '')),
        el('td', null, c.detail ?? '', c.remedy ? el('div', { class: 'remedy' }, el('strong', null, 'What to do: '), prose(c.remedy)) : null)))))),
  ];
}

export function submitPage(app, route) {
  const side = help();
  const text = editor({
    label: 'Copy activity, as YAML or JSON',
    value: draft() ?? TEMPLATES['CSV files'],
    changed: (value, place) => {
      keepDraft(value);
      side.show(value, place);
    },
  });
  side.onPick((name) => text.insert(name));
  const template = el('select', { id: 'template' }, el('option', { value: '' }, 'Choose …'), Object.keys(TEMPLATES).map((name) => el('option', { value: name }, name)));
  template.addEventListener('change', () => {
    if (template.value) text.set(TEMPLATES[template.value]);
    template.value = '';
  });
  const id = el('input', { id: 'run-id', type: 'text', autocomplete: 'off', spellcheck: 'false', placeholder: 'made by the coordinator' });
  const results = el('div', { class: 'results', tabindex: -1, 'aria-label': 'Result', role: 'region' });
  const working = el('span', { class: 'faint', role: 'status' });
  const may = app.may('operator');
  const why = may ? null : 'This needs the role operator';
  const button = (name, kind, act, title) => el('button', { type: 'button', class: kind, disabled: !may, title: why ?? title, on: { click: () => work(name, act) } }, name);
  const buttons = [
    button('Plan', '', plan, 'A dry run: lists the source and compares it with the table; copies nothing'),
    button('Check', '', check, 'Tries every connection and permission'),
    button('Submit', 'primary', submit, 'Starts the run'),
  ];
  let left = false;

  async function work(name, act) {
    for (const b of buttons) b.disabled = true;
    setText(working, { Plan: 'Planning …', Check: 'Checking …', Submit: 'Submitting …' }[name]);
    put(results);
    try {
      await act(text.value());
    } catch (error) {
      if (!left) {
        put(results, errorNote(error, { Plan: 'No plan:', Check: 'Not checked:', Submit: 'Not submitted:' }[name]));
        const line = /\bline (\d+)/.exec(error.message);
        if (line) text.mark(Number(line[1]));
        else results.focus();
      }
    }
    setText(working, '');
    for (const b of buttons) b.disabled = !may;
  }

  async function submit(activityText) {
    const given = id.value.trim();
    const run = await post('/runs', { activityText, ...(given ? { runId: given } : {}) });
    if (!left) app.go(`#/runs/${encodeURIComponent(run.runId)}`);
  }

  async function check(activityText) {
    const answer = await post('/checks', { activityText });
    if (left) return;
    put(results, checksTable(answer));
    app.announce(`Check: ${answer.verdict}, ${several(answer.checks.length, 'check')}`);
    results.focus();
  }

  async function plan(activityText) {
    let run = await post('/plans', { activityText });
    for (let turn = 0; turn < PLAN_TURNS && !run.isFinal && !left; turn += 1) {
      setText(working, run.copy.filesTotal > 0 ? `Planning … ${several(run.copy.filesTotal, 'file')} so far` : 'Planning …');
      await new Promise((done) => setTimeout(done, PLAN_MS));
      run = await get(at('runs', run.runId));
    }
    if (!left) app.go(`#/runs/${encodeURIComponent(run.runId)}${run.state === 'Planned' ? '/plan' : ''}`);
  }

  const element = el('div', { class: 'page submit' },
    el('div', { class: 'page-head' }, el('h1', null, route.parts[0] === 'check' ? 'Check an activity' : 'Submit a copy activity')),
    may ? null : el('section', { class: 'note warn' }, el('p', null, `Your role is ${app.session.role}. Planning, checking and submitting need the role operator.`)),
    el('div', { class: 'tools' },
      el('label', { for: 'template' }, 'Example'), template,
      el('label', { for: 'run-id' }, 'Run id'), id,
      el('p', { class: 'faint' }, 'The same id twice is one run.')),
    el('div', { class: 'two' }, el('div', { class: 'form' }, text.element, el('div', { class: 'actions submit-actions' }, buttons, working), results), side.element));

  get('/schema').then((schema) => {
    side.load(schema);
    side.show(text.value(), 0);
  }, () => side.fail());
  return { title: 'Submit', element, leave() {
    left = true;
  } };
}
