// The activity of a run as it was submitted, and the plan of a dry run.

import { at, get } from '../api.js';
import { el, put } from '../dom.js';
import { copyButton } from '../parts/copy.js';
import { empty } from '../parts/empty.js';
import { errorNote } from '../parts/failure.js';
import { keepDraft } from './draft.js';
import { planView } from './plan_view.js';

/** A value as it is written in JSON. */
export function json(label, value) {
  return el('pre', { class: 'json', tabindex: 0, role: 'group', 'aria-label': label }, JSON.stringify(value, null, 2));
}

export function activityPart(app, { id }) {
  const element = el('div', null, el('p', { class: 'faint loading' }, 'Loading …'));
  get(`${at('runs', id)}/activity`).then((activity) => {
    const text = JSON.stringify(activity, null, 2);
    put(element,
      el('div', { class: 'tools' },
        copyButton(() => text),
        app.may('operator') ? el('a', { class: 'button small', href: '#/submit', on: { click: () => keepDraft(text) } }, 'Edit and submit again') : null,
        el('p', { class: 'faint' }, 'Secrets stand in it as references only.')),
      json('The activity as submitted', activity));
  }, (error) => put(element, errorNote(error, 'The activity could not be loaded')));
  return { element };
}

export function planPart(app, { id }) {
  const element = el('div', null, el('p', { class: 'faint loading' }, 'Loading …'));
  get(`${at('runs', id)}/plan`).then((plan) => {
    put(element,
      el('p', { class: 'faint' }, 'What a run of this activity would do. Nothing was copied.'),
      planView(plan),
      el('details', null, el('summary', null, 'The plan as JSON'), json('The plan', plan)));
  }, (error) => put(element, error.status === 404 ? empty('This run has no plan', 'Only dry runs have one.') : errorNote(error, 'The plan could not be loaded')));
  return { element };
}
