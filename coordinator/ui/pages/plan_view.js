// The plan of a dry run: what a copy would do, how long it may take, and what stands in its way.

import { el, prose } from '../dom.js';
import { bytes, count, seconds, several, short } from '../format.js';
import { facts, table, tree } from '../parts/facts.js';

const about = (value, write) => (value === null || value === undefined ? '–' : `about ${write(value)}`);

function list(kind, title, texts) {
  if (!texts?.length) return null;
  return el('section', { class: `note ${kind}` }, el('h2', { class: 'note-title' }, title),
    el('ul', null, texts.map((text) => el('li', null, typeof text === 'string' ? prose(text) : tree(text)))));
}

const card = (title, ...content) => el('section', { class: 'card' }, el('h2', null, title), content);

/** Whether the time of stage 2 rests on commands that are known. */
function stage2(of) {
  if (!of) return null;
  return of.basis === 'measured' ? `measured in ${several(of.measuredCommands, 'command')}` : 'assumed, not measured';
}

/** Columns of the source beside those of the table. */
function mapping({ source = [], mapping: rows = [] }) {
  const kinds = new Map(source.map((column) => [column.name, column.type]));
  return table('Mapping', rows.map((row) => ({ sourceColumn: row.from, sampleType: kinds.get(row.from) ?? null, tableColumn: row.column, tableType: row.type })));
}

export function planView(plan) {
  const { files, units, chunks, estimate, schema } = plan;
  if (!files || !estimate || !schema) return el('section', { class: 'card plan' }, tree(plan));
  const code = (texts) => [texts].flat().filter(Boolean).map((text) => el('code', { class: 'raw' }, text));
  const commands = [...code(schema.create), ...code(schema.alter)];
  const hasDifferences = schema.unmatchedSource?.length > 0 || schema.unmatchedTable?.length > 0 || commands.length > 0;
  return el('div', { class: 'plan' },
    list('bad', 'A run would fail as things are', plan.obstacles),
    list('warn', 'Warnings', plan.warnings),
    list('ok', 'Advice', plan.advice),
    el('dl', { class: 'figures' }, [
      ['Files', count(files.count)], ['To read', bytes(files.bytes)],
      ['Units', count(units?.count)], ['Chunks', count(chunks?.count)],
      ['Stage 1', about(estimate.stage1Seconds, seconds)], ['Stage 2', about(estimate.stage2Seconds, seconds)],
      ['In all', about(estimate.totalSeconds, seconds)],
    ].map(([name, value]) => el('div', null, el('dt', null, name), el('dd', null, value)))),
    card('What this rests on', facts([
      ['Estimate', estimate.basis ? prose(estimate.basis) : null],
      ['Stage 2 is', stage2(estimate.stage2)],
      ['Before stage 1', about(estimate.planningSeconds, seconds), 'Listing the source and looking at the sink'],
      ['Chunks', chunks?.basis ? prose(chunks.basis) : null],
      ['Rows', about(estimate.rows, short)],
      ['Data written', about(estimate.dataWritten, bytes), 'Bytes of records before compression'],
      ['Sent to staging', about(estimate.stagedBytes, bytes)],
      ['Slots', `${several(estimate.slots, 'slot')} on ${several(estimate.nodesReady, 'node')} ready`],
      ['Small files together', units?.packed ? several(units.packed, 'unit') : null],
      ['Large files split', units?.split ? several(units.split, 'file') : null],
      ['Records are', plan.pathWhy ? prose(plan.pathWhy) : plan.path],
      ['Staged as', plan.stagedFormat],
      ['Fingerprint', plan.fingerprint ? el('code', null, plan.fingerprint) : null],
    ])),
    hasDifferences ? card('Differences between source and table', facts([
      ['Not in the table', schema.unmatchedSource?.join(', ')],
      ['Not in the source', schema.unmatchedTable?.join(', ')],
      ['Would be sent', commands.length ? commands : null],
    ])) : null,
    schema.mappingReference ? card('Mapping', el('p', null, 'The ingestion mapping ', el('code', null, schema.mappingReference), ' of the table.')) : null,
    schema.mapping?.length ? card('Columns', mapping(schema)) : null,
    files.largest?.length ? card('Largest files', table('Largest files', files.largest)) : null);
}
