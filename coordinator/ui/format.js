// Numbers and times as people read them. Bytes count in powers of 1000.

import { el } from './dom.js';

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
const counts = new Intl.NumberFormat('en');
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const hours = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });

function digits(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function bytes(value) {
  if (!Number.isFinite(value)) return '–';
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return unit === 0 ? `${Math.round(value)} B` : `${digits(value)} ${UNITS[unit]}`;
}

export function rate(bytesPerSecond) {
  return Number.isFinite(bytesPerSecond) ? `${bytes(bytesPerSecond)}/s` : '–';
}

export function count(value) {
  return Number.isFinite(value) ? counts.format(Math.round(value)) : '–';
}

/** Large counts short: 337 M, 2.71 bn. */
export function short(value) {
  if (!Number.isFinite(value)) return '–';
  for (const [size, name] of [[1e12, 'tn'], [1e9, 'bn'], [1e6, 'M']]) {
    if (value >= size) return `${digits(value / size)} ${name}`;
  }
  return counts.format(Math.round(value));
}

/** Rows a second, short enough for an axis: 220 k rows/s. */
export function rowRate(value) {
  return value >= 10_000 && value < 1e6 ? `${digits(value / 1000)} k rows/s` : `${short(value)} rows/s`;
}

export function several(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function percent(part, whole) {
  if (!(whole > 0)) return 0;
  const share = Math.min(100, (part / whole) * 100);
  // 100 % is said only of what is complete.
  return part < whole ? Math.min(share, 99.9) : share;
}

export function percentText(share) {
  return `${share === 0 || share >= 100 ? share.toFixed(0) : share.toFixed(1)} %`;
}

export function seconds(value) {
  if (!Number.isFinite(value)) return '–';
  if (value < 10) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  const two = (n) => String(n).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

export function clock(at) {
  return hours.format(new Date(at));
}

function relative(at) {
  const gone = (Date.now() - at) / 1000;
  const far = Math.abs(gone);
  if (far < 5) return 'now';
  const text =
    far < 60 ? `${Math.floor(far)} s` : far < 3600 ? `${Math.floor(far / 60)} min`
    : far < 86_400 ? `${Math.floor(far / 3600)} h` : `${Math.floor(far / 86_400)} d`;
  return gone < 0 ? `in ${text}` : `${text} ago`;
}

/** A time as "3 min ago", with the full one in its title. It is kept up to date. */
export function time(text) {
  const at = Date.parse(text ?? '');
  if (Number.isNaN(at)) return el('span', { class: 'faint' }, '–');
  return el('time', { datetime: text, title: `${moments.format(at)} (${text})` }, relative(at));
}

/** Changes a time made by [`time`] to another one. */
export function setTime(node, text) {
  const at = Date.parse(text ?? '');
  if (Number.isNaN(at) || node.getAttribute('datetime') === text) return;
  node.setAttribute('datetime', text);
  node.title = `${moments.format(at)} (${text})`;
  node.textContent = relative(at);
}

export function moment(text) {
  const at = Date.parse(text ?? '');
  return Number.isNaN(at) ? '–' : moments.format(at);
}

/** Brings every "3 min ago" up to date. */
export function refreshTimes() {
  for (const node of document.querySelectorAll('time[datetime]')) {
    const said = relative(Date.parse(node.getAttribute('datetime')));
    if (node.textContent !== said) node.textContent = said;
  }
}
