// How fast a run goes, and how long it still takes.

/** Time over which a rate is taken: short enough to follow a change, long enough to be calm. */
const WINDOW_MS = 15_000;

const samples = new Map(); // run -> [{at, bytes, rows}]

/** Notes a run as it is now. */
export function note(run) {
  if (run.isFinal) {
    samples.delete(run.runId);
    return;
  }
  const list = samples.get(run.runId) ?? [];
  const at = Date.now();
  list.push({ at, bytes: run.copy.bytesDone, rows: run.ingest.rowsVisible, commands: run.ingest.commandsDone });
  while (list.length > 2 && at - list[0].at > WINDOW_MS) list.shift();
  samples.set(run.runId, list);
}

function lately(run, key) {
  const list = samples.get(run.runId) ?? [];
  const first = list[0];
  const last = list.at(-1);
  if (!first || last.at - first.at < 3_000) return null;
  return Math.max(0, ((last[key] - first[key]) * 1000) / (last.at - first.at));
}

const mean = (done, time) => (time > 0 ? done / time : null);

/** Bytes a second that are read: lately where it is known, else over the stage. */
export function copyRate(run) {
  const overall = mean(run.copy.bytesDone, run.copy.durationSeconds);
  return run.state === 'Copying' ? lately(run, 'bytes') ?? overall : overall;
}

/** Seconds that the stage under way still takes; `null` where nobody can know. */
export function secondsLeft(run) {
  if (run.state === 'Copying') {
    const speed = copyRate(run);
    return speed > 0 && run.copy.bytesTotal > 0 ? (run.copy.bytesTotal - run.copy.bytesDone) / speed : null;
  }
  if (run.state === 'Ingesting') {
    const { commandsDone, commandsTotal, durationSeconds } = run.ingest;
    const speed = mean(commandsDone, durationSeconds);
    return speed > 0 ? (commandsTotal - commandsDone) / speed : null;
  }
  return null;
}

/** How each stage goes: 'wait', 'run', 'done', 'bad', or 'off' where it was cancelled. */
export function moods(run) {
  const stopped = ['Failed', 'Cancelled', 'Failing', 'Cancelling'].includes(run.state);
  if (run.state === 'Planned') return { stage1: 'wait', stage2: 'wait' };
  const end = ['Cancelled', 'Cancelling'].includes(run.state) ? 'off' : 'bad';
  const copied = run.copy.filesTotal > 0 && run.copy.filesDone >= run.copy.filesTotal;
  const ingested = run.state === 'Succeeded' || run.state === 'Clearing';
  const begun = Boolean(run.times?.ingesting) || run.ingest.commandsDone > 0 || ['Ingesting', 'Publishing'].includes(run.state);
  const stage1 = ingested || ['Ingesting', 'Publishing'].includes(run.state) || (copied && stopped) ? 'done'
    : stopped ? end : run.state === 'Copying' ? 'run' : 'wait';
  const stage2 = ingested ? 'done' : stopped ? (begun ? end : 'wait') : begun ? 'run' : 'wait';
  return { stage1, stage2 };
}
