// A table of any length: pages are asked for by cursor as they are scrolled to, and only rows in sight are in the page.
//
// `columns`: {title, cell(row) -> text or element, sort?, kind?}; `ask(after, limit, signal)` -> {rows, next, total};
// `id(row)` names a row; `link(row)` is where it leads.

import { el, put, setText } from '../dom.js';
import { count } from '../format.js';
import { errorNote } from './failure.js';

const PAGE_ROWS = 200;
/** Rows held at most; a filter finds what is beyond. */
const HELD_MAX = 200_000;
/** Rows drawn above and below what is in sight. */
const OVERSCAN = 12;
/** A search looks at a bounded number of rows a call: so many calls are made before the user is asked. */
const CALLS_MAX = 25;
/** Height of a row, in rem: as parts.css has it. */
const ROW_REM = 2.25;

export function rows({ label, kind, columns, ask, id, link, empty, things, onSort, sort }) {
  const body = el('div', { class: 'rows-body', role: 'rowgroup' });
  const head = el('div', { class: 'row head', role: 'row', 'aria-rowindex': 1 });
  const table = el('div', { class: `rows ${kind}`, role: 'table', 'aria-label': label },
    el('div', { role: 'rowgroup', class: 'rows-head' }, head), body);
  const scroller = el('div', { class: 'scroller', tabindex: 0, role: 'region', 'aria-label': `${label}, scrollable` }, table);
  const nothing = el('div', { class: 'rows-empty' });
  const status = el('p', { class: 'rows-status faint', role: 'status' });
  const more = el('button', { type: 'button', class: 'small', on: { click: () => load() } }, 'Search on');
  const trouble = el('div', { role: 'alert' });
  const element = el('div', { class: 'rows-frame' }, trouble, scroller, nothing, el('div', { class: 'rows-foot' }, status, more));
  more.hidden = true;

  let held = [];
  let places = new Map(); // id -> index
  let pages = []; // {after, start}
  let drawn = new Map(); // index -> {row, node}
  let next = null;
  let total = null;
  let loading = null;
  let selected = null;
  let order = sort;

  const height = () => ROW_REM * parseFloat(getComputedStyle(document.documentElement).fontSize);

  function drawHead() {
    put(head, columns.map((column) => {
      const cell = el('div', { role: 'columnheader', class: `cell ${column.kind ?? ''}` });
      if (!column.sort) return put(cell, column.title);
      const isThis = order?.by === column.sort;
      cell.setAttribute('aria-sort', isThis ? (order.isDown ? 'descending' : 'ascending') : 'none');
      return put(cell, el('button', {
        type: 'button',
        on: { click: () => {
          order = { by: column.sort, isDown: isThis && !order.isDown };
          drawHead();
          head.querySelectorAll('button')[columns.filter((c) => c.sort).indexOf(column)]?.focus();
          onSort(order);
        } },
      }, column.title, el('span', { 'aria-hidden': 'true', class: 'arrow' }, isThis ? (order.isDown ? '▼' : '▲') : '')));
    }));
  }

  function rowNode(row, index) {
    const node = el('div', {
      class: 'row', role: 'row', 'aria-rowindex': index + 2, data: { index },
      on: { click: (event) => {
        if (link && !event.target.closest('a, button') && !getSelection().toString()) location.hash = link(row);
      } },
    }, columns.map((column) => el('div', { role: 'cell', class: `cell ${column.kind ?? ''}` }, column.cell(row))));
    if (selected !== null && id(row) === selected) node.setAttribute('aria-current', 'true');
    if (link) node.classList.add('leads');
    return node;
  }

  function draw() {
    const tall = height();
    body.style.blockSize = `${held.length * tall}px`;
    const top = Math.max(0, scroller.scrollTop - head.offsetHeight);
    const first = Math.max(0, Math.floor(top / tall) - OVERSCAN);
    const last = Math.min(held.length, Math.ceil((top + scroller.clientHeight) / tall) + OVERSCAN);
    for (const [index, { row, node }] of drawn) {
      if (index < first || index >= last || held[index] !== row) {
        // Not from under the keyboard: a row that has the focus is drawn anew in its place.
        const focused = node.contains(document.activeElement) && index >= first && index < last;
        node.remove();
        drawn.delete(index);
        if (focused) place(index, tall).querySelector('a, button')?.focus({ preventScroll: true });
      }
    }
    for (let index = first; index < last; index += 1) if (!drawn.has(index)) place(index, tall);
    table.setAttribute('aria-rowcount', total === null ? -1 : total + 1);
    if (next !== null && last > held.length - PAGE_ROWS / 2 && more.hidden) load();
  }

  function place(index, tall) {
    const node = rowNode(held[index], index);
    node.style.transform = `translateY(${index * tall}px)`;
    drawn.set(index, { row: held[index], node });
    // In the order of the table, for those who read it without seeing it.
    const after = [...body.children].find((other) => Number(other.dataset.index) > index);
    body.insertBefore(node, after ?? null);
    return node;
  }

  function say() {
    const isOver = next === null;
    const isFull = held.length >= HELD_MAX;
    const part = total === null ? count(held.length) : `${count(held.length)} of ${count(total)}`;
    let text = isOver ? `${count(held.length)} ${things}` : `${part} ${things} loaded; scroll for more`;
    if (loading && held.length === 0) text = 'Loading …';
    else if (loading && !isOver) text = `${part} ${things} so far …`;
    if (isFull && !isOver) text = `The first ${count(HELD_MAX)} ${things}. Use search, filter or sort to see others.`;
    setText(status, text);
    const isEmpty = isOver && !loading && held.length === 0 && trouble.childElementCount === 0;
    put(nothing, isEmpty ? empty() : null);
    scroller.hidden = isEmpty;
  }

  async function load() {
    if (loading || held.length >= HELD_MAX) return;
    const mine = new AbortController();
    loading = mine;
    more.hidden = true;
    say();
    try {
      const wanted = held.length + PAGE_ROWS / 2;
      for (let call = 0; call < CALLS_MAX; call += 1) {
        const after = next;
        const page = await ask(after, PAGE_ROWS, mine.signal);
        if (loading !== mine) return;
        pages.push({ after, start: held.length });
        for (const row of page.rows) {
          if (places.has(id(row))) continue;
          places.set(id(row), held.length);
          held.push(row);
        }
        next = page.next ?? null;
        if (page.total !== undefined) total = page.total;
        put(trouble);
        if (next === null || held.length >= wanted) break;
        say();
        draw();
      }
      more.hidden = next === null || held.length >= wanted;
    } catch (error) {
      if (loading !== mine) return;
      put(trouble, errorNote(error, 'The rows could not be loaded'));
      more.hidden = false;
      setText(more, 'Try again');
      if (next === null && held.length === 0) scroller.hidden = true;
    }
    loading = null;
    say();
    draw();
    if (!more.hidden && trouble.childElementCount === 0) setText(more, 'Search on');
  }

  /** Begins anew, from the first page. */
  function reload() {
    loading?.abort();
    loading = null;
    held = [];
    places = new Map();
    pages = [];
    next = null;
    total = null;
    for (const { node } of drawn.values()) node.remove();
    drawn = new Map();
    scroller.hidden = false;
    scroller.scrollTop = 0;
    load();
  }

  /** Asks again for the pages in sight, and changes their rows in place. */
  async function refresh() {
    if (loading) return;
    if (held.length === 0) {
      reload();
      return;
    }
    const tall = height();
    const first = Math.floor(scroller.scrollTop / tall);
    const last = Math.ceil((scroller.scrollTop + scroller.clientHeight) / tall);
    const current = pages;
    const inSight = pages.filter(({ start }, n) => start <= last && (pages[n + 1]?.start ?? Infinity) > first).slice(0, 3);
    for (const { after } of inSight) {
      const page = await ask(after, PAGE_ROWS);
      if (pages !== current) return;
      for (const row of page.rows) {
        const index = places.get(id(row));
        if (index !== undefined && JSON.stringify(held[index]) !== JSON.stringify(row)) held[index] = row;
      }
      if (page.total !== undefined && page.total !== null) total = page.total;
      // Rows may have been added behind the last one.
      if (next === null && page.next && after === pages.at(-1).after) next = page.next;
    }
    say();
    draw();
  }

  scroller.addEventListener('keydown', (event) => {
    const row = event.target.closest?.('.row[data-index]');
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!row || !step) return;
    event.preventDefault();
    const index = Number(row.dataset.index) + step;
    if (index < 0 || index >= held.length) return;
    const tall = height();
    const top = index * tall;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + 2 * tall > scroller.scrollTop + scroller.clientHeight - head.offsetHeight) {
      scroller.scrollTop = top + 2 * tall - scroller.clientHeight + head.offsetHeight;
    }
    draw();
    drawn.get(index)?.node.querySelector('a, button')?.focus({ preventScroll: true });
  });
  let frame = 0;
  const soon = () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  };
  scroller.addEventListener('scroll', soon, { passive: true });
  const sizes = new ResizeObserver(() => {
    // Text may have another size now.
    for (const { node } of drawn.values()) node.remove();
    drawn = new Map();
    soon();
  });
  sizes.observe(scroller);
  drawHead();

  return {
    element,
    reload,
    refresh,
    /** Marks the row that is open in the side panel. */
    select(wanted) {
      selected = wanted;
      for (const { row, node } of drawn.values()) {
        if (wanted !== null && id(row) === wanted) node.setAttribute('aria-current', 'true');
        else node.removeAttribute('aria-current');
      }
    },
    focus(wanted) {
      const index = places.get(wanted);
      (drawn.get(index)?.node.querySelector('a') ?? scroller).focus({ preventScroll: true });
    },
    leave() {
      loading?.abort();
      loading = null;
      sizes.disconnect();
      cancelAnimationFrame(frame);
    },
  };
}
