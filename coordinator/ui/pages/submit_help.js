// What may stand where the cursor is: properties of the activity's schema, nearest to the word being written first.

import { el, lately, prose, put, setText } from '../dom.js';
import { nearest, place, properties } from '../schema.js';

const WAIT_MS = 120;

function entry(property, isNear, pick) {
  return el('li', { class: isNear ? 'near' : null },
    el('div', { class: 'help-name' },
      el('button', { type: 'button', class: 'link', title: 'Write it at the cursor', on: { click: () => pick(property.name) } }, property.name),
      el('span', { class: 'faint' }, property.type),
      property.isRequired ? el('span', { class: 'tag' }, 'needed') : null),
    el('p', null, prose(property.text),
      property.default !== undefined && property.default !== '' ? el('span', { class: 'faint' }, ` Default ${property.default}.`) : null),
    property.choices.length ? el('ul', { class: 'choices' }, property.choices.map((c) => el('li', null, el('code', null, String(c.value)), c.text ? ` ${c.text}` : ''))) : null);
}

export function help() {
  const where = el('p', { class: 'faint' }, 'Loading …');
  const list = el('ul', { class: 'help-list' });
  const element = el('aside', { class: 'help card', 'aria-label': 'Properties', tabindex: 0 }, el('h2', null, 'What may stand here'), where, list);
  let known = [];
  let pick = () => {};
  let shown = '';

  const show = (text, at) => {
    if (known.length === 0) return;
    const spot = place(text, at);
    const found = nearest(known, spot);
    const path = found[0]?.path ?? [];
    const key = [path.join('.'), spot.word, found[0]?.name].join('|');
    if (key === shown) return;
    shown = key;
    setText(where, path.length ? `inside ${path.join('.')}` : 'at the top of the activity');
    put(list, found.map((property, n) => entry(property, n === 0 && spot.word !== '', pick)));
    element.scrollTop = 0;
  };
  return {
    element,
    show: lately(WAIT_MS, show),
    load(schema) {
      known = properties(schema);
    },
    fail() {
      setText(where, 'The schema could not be loaded. `ferry schema` prints it.');
    },
    onPick(handler) {
      pick = handler;
    },
  };
}
