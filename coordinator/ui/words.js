// What states and faults are called on the pages, in plain words. The states themselves are the coordinator's.

/** Tone of a state: its colour. */
const TONES = {
  Queued: 'wait', Planning: 'run', Copying: 'run', Ingesting: 'run', Publishing: 'run', Clearing: 'run', Cancelling: 'warn', Failing: 'bad',
  Succeeded: 'ok', Cancelled: 'off', Failed: 'bad', Planned: 'ok',
  Pending: 'wait', Leased: 'run', Staged: 'part', Ingested: 'ok', Skipped: 'warn', Dropped: 'off',
  Issued: 'run', Confirmed: 'ok', Rejected: 'bad',
  Ready: 'ok', Draining: 'warn', Drained: 'off', Lost: 'bad', Left: 'off',
  Active: 'ok', Paused: 'warn', Ended: 'off',
  yes: 'ok', no: 'bad', unknown: 'warn', ok: 'ok', degraded: 'warn', failed: 'bad',
};

const MEANINGS = {
  Queued: 'waits until the coordinator takes it up',
  Planning: 'a node lists the source; the coordinator looks at the table',
  Copying: 'stage 1: nodes copy files to staging',
  Ingesting: 'stage 2: the cluster takes the staged data into the table',
  Publishing: 'all rows are made visible at once',
  Clearing: 'all rows are visible; nodes delete or move the files that were loaded',
  Cancelling: 'nodes and cluster finish or stop what they hold',
  Failing: 'nodes and cluster stop; then it has failed',
  Planned: 'a dry run: nothing was copied',
  Pending: 'waits for a node',
  Leased: 'a node copies it',
  Staged: 'all of it is in staging, not yet in the table',
  Ingested: 'its rows are in the table',
  Skipped: 'left out, as the settings allow',
  Dropped: 'given up, since the run was stopped',
  Issued: 'the cluster works on it',
  Confirmed: 'its rows are in the table',
  Rejected: 'the cluster refused it',
  Draining: 'finishes what it holds, takes no more',
  Drained: 'holds nothing and takes nothing: it may be stopped',
  Lost: 'not heard of; what it held goes to others',
  Left: 'said goodbye',
  Active: 'each window gets its run when it is over',
  Paused: 'begins no new window until it is resumed',
  Ended: 'there is no further window',
};

const FAULTS = {
  Settings: 'the author of the activity or of ferry’s settings',
  Source: 'the owner of the source',
  Sink: 'the owner of the table or the cluster',
  Runtime: 'who runs ferry: machines, network, storage',
};

export const tone = (state) => TONES[state] ?? 'wait';
export const meaning = (state) => MEANINGS[state] ?? '';
export const fault = (name) => FAULTS[name] ?? name;

/** Whether and when a failure is tried again. */
export function retry(value) {
  if (value === undefined || value === null) return '';
  if (value === 'Never' || value === 'never') return 'Not tried again by itself.';
  return 'Tried again by itself, after a wait.';
}

/** How a run's rows become visible. */
export function publishing(publish) {
  if (publish === 'atomic') return 'All rows become visible at once, when stage 2 is complete (publish: atomic).';
  if (publish === 'replace') return 'All rows become visible at once and take the place of what the table held (publish: replace).';
  return 'Rows become visible command by command during stage 2 (publish: append).';
}

/** What a run's figures mean right now: above all why data that is uploaded cannot be seen yet. */
export function explanation(run, figures) {
  const later = run.publish === 'atomic' || run.publish === 'replace';
  switch (run.state) {
    case 'Queued':
      if (run.waitsFor) {
        return `The run waits for the end of run ${run.waitsFor}: both load into one table and leave out files that were loaded before.`;
      }
      return 'The run waits its turn. Nothing is read yet.';
    case 'Planning':
      return `A node of the integration runtime ${run.runtime ?? 'default'} lists the source, and the coordinator compares it with the table. If this lasts, see whether that runtime has a node that is ready.`;
    case 'Copying':
      if (run.ingest.commandsDone > 0) {
        return 'Stage 2 runs beside stage 1, as the activity asks for. Rows of finished commands may be visible already.';
      }
      return `${figures.written} of records (${figures.sent} on the wire) are uploaded to staging, and the table shows none of it yet. That is as it should be: the cluster takes the staged data in stage 2, which begins when every file is staged.`;
    case 'Ingesting':
      return later
        ? 'Everything is staged. The cluster takes it into a table of this run’s own; nothing is visible until all of it is there.'
        : 'Everything is staged. The cluster now takes it into the table; rows become visible command by command.';
    case 'Publishing':
      return 'Everything is ingested. One command makes all rows visible.';
    case 'Clearing':
      return `All rows are visible in ${run.sink}. Nodes that may do so delete or move the files that were loaded. Cancelling now leaves the rest of them in place; the run ends as succeeded.`;
    case 'Cancelling':
      return 'The run stops: nodes give back their files, and commands that the cluster has begun run to their end.';
    case 'Failing':
      return 'The run stops because of the failure above. Commands that the cluster has begun run to their end.';
    case 'Succeeded':
      return `All rows that were read and not left out are visible in ${run.sink}.`;
    case 'Cancelled':
    case 'Failed':
      if (later) return 'No row of this run is visible: all become visible at once, or none.';
      return run.ingest.rowsVisible > 0
        ? 'Some rows of this run are visible and stay: those of the commands that had finished. The commands page says which.'
        : 'No row of this run is visible.';
    case 'Planned':
      return 'A dry run: nothing was copied. The plan says what a run would do.';
    default:
      return '';
  }
}
