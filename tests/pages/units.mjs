// Small parts of the pages that need no page: run in the browser, as it is there that they live.

import { check } from './browser.mjs';

/** Each: what it shows, the module, an expression with `m` for the module, what must come of it. */
const CASES = [
  ['bytes count in powers of 1000', 'format.js', 'm.bytes(1000)', '1.00 kB'],
  ['a value is rounded up to the next unit, never to 1000', 'format.js', 'm.bytes(999_950)', '1.00 MB'],
  ['single bytes have no fraction', 'format.js', 'm.bytes(17)', '17 B'],
  ['what is not known is a dash', 'format.js', 'm.bytes(undefined) + m.count(null ?? NaN)', '––'],
  ['100 % is said only of what is complete', 'format.js', 'm.percentText(m.percent(99_999, 100_000))', '99.9 %'],
  ['nothing of nothing is 0 %', 'format.js', 'm.percentText(m.percent(0, 0))', '0 %'],
  ['minutes and seconds', 'format.js', 'm.seconds(185)', '3 min 05 s'],
  ['days and hours', 'format.js', 'm.seconds(93_600)', '1 d 2 h'],
  ['one file is no files', 'format.js', 'm.several(1, "file")', '1 file'],
  ['a stage that was cancelled is not called done', 'parts/rates.js',
    'm.moods({state: "Cancelled", times: {}, copy: {filesTotal: 4, filesDone: 2}, ingest: {commandsDone: 0}}).stage1', 'off'],
  ['stage 1 is done when stage 2 fails', 'parts/rates.js',
    'Object.values(m.moods({state: "Failed", times: {ingesting: "x"}, copy: {filesTotal: 4, filesDone: 4}, ingest: {commandsDone: 1}})).join()', 'done,bad'],
  ['the place in YAML is told by indents', 'schema.js', 'm.place("sink:\\n  type: A\\n  pub", 22).path.join() + m.place("sink:\\n  type: A\\n  pub", 22).word', 'sinkpub'],
  ['deeper places, too', 'schema.js', 'm.place("source:\\n  format:\\n    type: Json\\n    x", 40).path.join(".")', 'source.format'],
  ['the place in braces on one line', 'schema.js', 'm.place("source:\\n  format: {type: Json, fi", 36).path.join(".")', 'source.format'],
  ['the nearest property comes first', 'schema.js',
    'm.nearest([{path: [], name: "sink"}, {path: [], name: "source"}], {path: [], word: "sorce"})[0].name', 'source'],
  ['text between backticks is code, and nothing else is markup', 'dom.js', 'm.el("p", null, m.prose("a `<b>` <i>")).innerHTML', 'a <code>&lt;b&gt;</code> &lt;i&gt;'],
  ['text is never parsed', 'dom.js', 'm.el("p", {title: "\\"><img>"}, "<img src=x>").children.length', 0],
];

export async function units({ page }) {
  for (const [what, module, expression, wanted] of CASES) {
    const got = await page.evaluate(`import(new URL('ui/${module}', document.baseURI)).then((m) => ${expression})`);
    check(got === wanted, `${what}: ${expression} is ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
  }
}
