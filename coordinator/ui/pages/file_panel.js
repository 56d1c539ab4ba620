// One file of a run in detail: why it failed, its chunks, its commands.

import { at, get } from '../api.js';
import { el, put } from '../dom.js';
import { bytes, count } from '../format.js';
import { badge } from '../parts/badge.js';
import { copyButton } from '../parts/copy.js';
import { facts } from '../parts/facts.js';
import { errorNote, failureNote } from '../parts/failure.js';
import { panel } from '../parts/panel.js';

function box(label, head, lines) {
  return el('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': label }, el('table', null,
    el('thead', null, el('tr', null, head.map(([name, kind]) => el('th', { scope: 'col', class: kind }, name)))),
    el('tbody', null, lines.map((cells) => el('tr', null, cells.map((cell, n) => el('td', { class: head[n][1] }, cell)))))));
}

function chunks(file) {
  if (!file.chunks?.length) return el('p', { class: 'faint' }, 'No chunk of it is staged yet.');
  return box('Chunks', [['Chunk', 'number'], ['Rows', 'number'], ['Written', 'number'], ['Staged', 'number'], ['Try', 'number'], ['Blob', 'code'], ['CRC-32', 'code']],
    file.chunks.map((c) => [String(c.chunk), count(c.rows), bytes(c.rawBytes), bytes(c.stagedBytes), String(c.attempt), [c.blob, c.quarantine ? el('div', { class: 'faint' }, `rows left out: ${c.quarantine}`) : null], el('span', { class: 'nowrap' }, typeof c.crc32 === 'number' ? c.crc32.toString(16).padStart(8, '0') : c.crc32 ?? '')]));
}

function commands(file) {
  if (!file.commands?.length) return el('p', { class: 'faint' }, 'No command names its chunks yet: that is stage 2.');
  return [
    file.commands.filter((c) => c.failure).map((c) => failureNote(c.failure, { title: `Chunk ${c.chunk}:` })),
    box('Commands', [['Chunk', 'number'], ['State', null], ['Rows', 'number'], ['Counted', 'number'], ['Tag', 'code'], ['Operation', 'code']],
      file.commands.map((c) => [String(c.chunk), badge(c.state), count(c.rows), c.rowsCounted === undefined || c.rowsCounted === null ? '–' : count(c.rowsCounted), c.tag, [c.operationId ?? '', c.requestId ? el('div', { class: 'faint' }, c.requestId) : null]])),
  ];
}

/** Several small files may be one unit: which of them the staged chunks hold. */
function members(file) {
  const found = new Map();
  for (const { relativePath, rows = 0, skipped = 0 } of (file.chunks ?? []).flatMap((c) => c.files ?? [])) {
    const sum = found.get(relativePath) ?? { rows: 0, skipped: 0 };
    found.set(relativePath, { rows: sum.rows + rows, skipped: sum.skipped + skipped });
  }
  if (found.size < 2) return null;
  return [el('h3', null, 'Files in this unit'), box('Files in this unit', [['File', 'breaks'], ['Rows', 'number'], ['Left out', 'number']],
    [...found].map(([path, { rows, skipped }]) => [path, count(rows), count(skipped)]))];
}

export function filePanel({ id, base, unit, close }) {
  const side = panel({ title: `File ${unit}`, onClose: close });
  const { content } = side;
  put(content, el('p', { class: 'faint' }, 'Loading …'));
  let shown = '';
  let left = false;

  async function refresh() {
    try {
      const file = await get(at('runs', id, 'files', unit));
      const text = JSON.stringify(file);
      // What did not change is not drawn again: somebody may be reading or copying it.
      if (left || text === shown) return;
      shown = text;
      const isOver = file.state === 'Failed' || file.state === 'Skipped';
      put(content,
        el('p', { class: 'panel-path' }, el('code', null, file.relativePath), ' ', copyButton(() => file.path, 'Copy path')),
        file.lastFailure ? failureNote(file.lastFailure, { title: isOver ? 'It failed:' : 'The last try failed:', kind: isOver ? 'bad' : 'warn' }) : null,
        facts([
          ['State', badge(file.state)],
          ['Size', `${bytes(file.sizeBytes)} (${count(file.sizeBytes)} bytes)`],
          ['Rows read', count(file.rowsRead)],
          ['Rows left out', file.rowsSkipped ? el('a', { href: `${base}/quarantine` }, count(file.rowsSkipped)) : count(file.rowsSkipped)],
          ['Data written', bytes(file.dataWritten), 'Bytes of its records before compression'],
          ['Sent to staging', bytes(file.stagedBytes)],
          ['Tries', count(file.attempts)],
          ['Node', file.node],
          ['Part', file.part ? `${file.part.number} of ${file.part.count}` : null],
          ['Files in this unit', file.filesInUnit > 1 ? count(file.filesInUnit) : null],
          ['Version', el('code', null, file.etag || '–'), 'As it was listed: if it changes under the copy, the copy fails'],
        ]),
        el('h3', null, 'Chunks'), chunks(file),
        el('h3', null, 'Ingest commands'), commands(file),
        members(file));
    } catch (error) {
      if (!left && !shown) put(content, errorNote(error, 'The file could not be loaded'));
    }
  }
  refresh();
  return {
    refresh,
    leave() {
      left = true;
      side.leave();
    },
  };
}
