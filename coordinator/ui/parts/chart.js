// A line over time as SVG: drawn at the width it has, with its figures as text beside it.

import { el, put, setText, svg } from '../dom.js';
import { clock } from '../format.js';

/** Sizes in rem, so that it grows with the text. */
const SIZES = { HEIGHT: 9.5, LEFT: 5.2, RIGHT: 0.8, TOP: 0.6, BOTTOM: 1.6, GAP: 0.5, DROP: 0.3, DOT: 0.25 };

/** A round number at or above `value`: the top of an axis. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((n) => n * power).find((n) => n >= value);
}

/** `title` names it; `say(value)` writes a value with its unit; `tone` is its colour. */
export function chart({ title, say, tone }) {
  const now = el('span', { class: 'chart-now' });
  const drawing = svg('svg', { role: 'img', class: `chart ${tone}` });
  const frame = el('div', { class: 'chart-frame' }, drawing);
  const node = el('figure', { class: 'chart-box' }, el('figcaption', null, el('span', { class: 'chart-title' }, title), now), frame);
  let points = []; // {at: ms, value}
  let width = 0;
  let rest = '';

  function draw() {
    if (width < 80) return;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const { HEIGHT, LEFT, RIGHT, TOP, BOTTOM, GAP, DROP, DOT } = Object.fromEntries(Object.entries(SIZES).map(([name, size]) => [name, size * rem]));
    drawing.setAttribute('height', HEIGHT);
    drawing.setAttribute('width', width);
    drawing.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    const first = points[0]?.at ?? 0;
    const last = points.at(-1)?.at ?? 1;
    const peak = Math.max(0, ...points.map((p) => p.value));
    const top = ceiling(peak);
    const x = (at) => LEFT + ((at - first) / Math.max(1, last - first)) * (width - LEFT - RIGHT);
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    const lines = (peak > 0 ? [0, 0.5, 1] : [0]).map((share) => svg('g', null,
      svg('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: y(top * share), y2: y(top * share) }),
      svg('text', { class: 'tick', x: LEFT - GAP, y: y(top * share) + DROP, 'text-anchor': 'end' }, say(top * share))));
    const path = points.map((p, n) => `${n ? 'L' : 'M'}${x(p.at).toFixed(1)} ${y(p.value).toFixed(1)}`).join('');
    const area = points.length > 1 ? `${path}L${x(last).toFixed(1)} ${y(0)}L${x(first).toFixed(1)} ${y(0)}Z` : '';
    const mark = svg('g', { class: 'mark' });
    put(drawing, lines,
      svg('path', { class: 'area', d: area }), svg('path', { class: 'line', d: path }),
      points.length ? [
        svg('text', { class: 'tick', x: LEFT, y: HEIGHT - GAP }, clock(first)),
        svg('text', { class: 'tick', x: width - RIGHT, y: HEIGHT - GAP, 'text-anchor': 'end' }, clock(last)),
      ] : null, mark);
    const latest = points.at(-1)?.value ?? 0;
    rest = points.length ? `${say(latest)} now, ${say(peak)} at most` : '';
    setText(now, rest);
    drawing.setAttribute('aria-label', `${title}: ${rest || 'nothing yet'}`);
    drawing.onpointermove = (event) => {
      const at = first + ((event.offsetX - LEFT) / (width - LEFT - RIGHT)) * (last - first);
      const near = points.reduce((best, p) => (Math.abs(p.at - at) < Math.abs(best.at - at) ? p : best), points[0]);
      if (!near) return;
      put(mark, svg('line', { x1: x(near.at), x2: x(near.at), y1: TOP, y2: HEIGHT - BOTTOM }), svg('circle', { cx: x(near.at), cy: y(near.value), r: DOT }));
      setText(now, `${clock(near.at)}  ${say(near.value)}`);
    };
    drawing.onpointerleave = () => {
      put(mark);
      setText(now, rest);
    };
  }

  const sizes = new ResizeObserver(([entry]) => {
    width = Math.floor(entry.contentRect.width);
    draw();
  });
  sizes.observe(frame);
  return {
    node,
    set(list) {
      points = list;
      draw();
    },
    leave: () => sizes.disconnect(),
  };
}
