// Facts as a list of names and values, and any JSON as lists and tables.

import { el } from '../dom.js';
import { bytes, count, seconds } from '../format.js';

/** `entries`: [name, value, explanation?]; those without a value are left out. */
export function facts(entries) {
  return el('dl', { class: 'facts' }, entries
    .filter(([, value]) => value !== undefined && value !== null && value !== '')
    .map(([name, value, why]) => el('div', null, el('dt', { title: why ?? null, class: why ? 'told' : null }, name), el('dd', null, value))));
}

/** `sizeBytes` as "size bytes": names of properties as words. */
export function words(name) {
  const text = name.replace(/([a-z0-9])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`);
  // Values are shown with their units.
  const bare = text.replace(/ (bytes|seconds)$/, '');
  return bare.charAt(0).toUpperCase() + bare.slice(1);
}

function scalar(name, value) {
  if (value === null || value === undefined) return el('span', { class: 'faint' }, '–');
  if (typeof value === 'number') {
    if (/bytes/i.test(name)) return bytes(value);
    if (/seconds|duration/i.test(name)) return seconds(value);
    return Number.isInteger(value) ? count(value) : String(Math.round(value * 1000) / 1000);
  }
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return String(value);
}

const isPlain = (value) => value === null || typeof value !== 'object';

/** A table of objects, in a box that scrolls. */
export function table(label, list, name = '') {
  const keys = [...new Set(list.flatMap((row) => Object.keys(row)))];
  const kind = (key) => (list.every((row) => isPlain(row[key]) && (typeof row[key] === 'number' || row[key] === undefined || row[key] === null)) ? 'number' : null);
  return el('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': label },
    el('table', null,
      el('thead', null, el('tr', null, keys.map((key) => el('th', { scope: 'col', class: kind(key) }, words(key))))),
      el('tbody', null, list.map((row) => el('tr', null, keys.map((key) =>
        el('td', { class: kind(key) }, isPlain(row[key]) ? scalar(key, row[key]) : tree(row[key], key || name))))))));
}

/** Any JSON. */
export function tree(value, name = '') {
  if (isPlain(value)) return el('span', null, scalar(name, value));
  if (Array.isArray(value)) {
    if (value.length === 0) return el('span', { class: 'faint' }, 'none');
    if (value.every(isPlain)) return el('ul', { class: 'plain' }, value.map((item) => el('li', null, scalar(name, item))));
    if (value.every((item) => item !== null && typeof item === 'object' && !Array.isArray(item))) return table(words(name), value, name);
    return el('ul', { class: 'plain' }, value.map((item) => el('li', null, tree(item, name))));
  }
  return facts(Object.entries(value).map(([key, item]) => [words(key), tree(item, key)]));
}
