// News from the coordinator: one stream of server-sent events at a time, opened again whenever it is lost, and closed while
// the tab is hidden, so that many tabs do not use up the streams that a coordinator or a browser allows.
//
// The stream is read with fetch, not EventSource: only so are heartbeats seen, and an answer's status.

import { address, ApiError, problem } from './api.js';

/** Silence after which a stream is dead: heartbeats come every 15 s. */
const SILENCE_MS = 40_000;
const WAIT_FIRST_MS = 1_000;
const WAIT_LAST_MS = 15_000;
/** How often is asked while the coordinator has no stream to spare. */
const POLL_MS = 5_000;
/** A tab may be looked away from for a moment. */
const HIDDEN_MS = 10_000;

let tell = () => {};

/** Calls `handler` with `{state: 'live' | 'retrying' | 'polling' | 'off', seconds}` on each change. */
export function onConnection(handler) {
  tell = handler;
}

/** Reads one stream to its end; `heard` is called with each event's name and data. */
async function read(path, signal, heard) {
  const guard = new AbortController();
  const stop = () => guard.abort();
  signal.addEventListener('abort', stop);
  let timer = setTimeout(stop, SILENCE_MS);
  try {
    const response = await fetch(address(path), {
      headers: { accept: 'text/event-stream' },
      credentials: 'same-origin',
      cache: 'no-store',
      signal: guard.signal,
    });
    if (!response.ok) throw await problem(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    let event = { name: 'message', data: [] };
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE_MS);
      text += value;
      let end;
      while ((end = text.indexOf('\n')) >= 0) {
        const line = text.slice(0, end).replace(/\r$/, '');
        text = text.slice(end + 1);
        if (line === '') {
          if (event.data.length) heard(event.name, JSON.parse(event.data.join('\n')));
          event = { name: 'message', data: [] };
        } else if (line.startsWith('event:')) {
          event.name = line.slice(6).trim();
        } else if (line.startsWith('data:')) {
          event.data.push(line.slice(5).replace(/^ /, ''));
        }
      }
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

/**
 * Follows a stream. `handlers` has a function for each event; `poll` asks once for the same, for when there is no stream;
 * `isOver` says that nothing more will come. Returns a function that ends it.
 */
export function follow(path, handlers, poll, isOver = () => false) {
  let stopped = false;
  let attempt = null;
  let wake = () => {};
  let hiding = 0;

  const pause = (wait) => new Promise((done) => {
    const timer = setTimeout(done, wait);
    wake = () => {
      clearTimeout(timer);
      done();
    };
  });
  const shown = () => new Promise((done) => {
    wake = done;
  });

  const watchTab = () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => attempt?.abort(), HIDDEN_MS);
    else wake();
  };
  document.addEventListener('visibilitychange', watchTab);
  window.addEventListener('online', watchTab);

  async function run() {
    let wait = WAIT_FIRST_MS;
    while (!stopped) {
      if (document.hidden) {
        tell({ state: 'off' });
        await shown();
        continue;
      }
      attempt = new AbortController();
      let failure = null;
      try {
        await read(path, attempt.signal, (name, data) => {
          if (stopped) return;
          wait = WAIT_FIRST_MS;
          tell({ state: 'live' });
          handlers[name]?.(data);
        });
      } catch (error) {
        failure = error;
      }
      if (stopped || isOver()) break;
      if (document.hidden) continue;
      if (failure instanceof ApiError && (failure.status === 401 || failure.status === 404)) break;
      // It answers, but not with a stream: it may have none to spare, or a proxy holds them back.
      if (failure instanceof ApiError && (await asked())) {
        tell({ state: 'polling' });
        await pause(POLL_MS);
        continue;
      }
      if (stopped) break;
      // Not all at the same moment after a restart.
      const next = wait * (0.75 + Math.random() / 2);
      tell({ state: 'retrying', seconds: Math.max(1, Math.round(next / 1000)) });
      await pause(next);
      wait = Math.min(WAIT_LAST_MS, wait * 2);
    }
    document.removeEventListener('visibilitychange', watchTab);
    window.removeEventListener('online', watchTab);
    if (!stopped) tell({ state: 'off' });
  }

  async function asked() {
    try {
      await poll();
      return true;
    } catch {
      return false;
    }
  }

  run();
  return () => {
    stopped = true;
    clearTimeout(hiding);
    attempt?.abort();
    wake();
    tell({ state: 'off' });
  };
}

/** Calls `ask` now and every `wait` ms while the tab is seen. Returns a function that ends it. */
export function repeat(wait, ask) {
  let stopped = false;
  let timer = 0;
  const turn = async () => {
    clearTimeout(timer);
    if (stopped) return;
    if (!document.hidden) {
      try {
        await ask();
        if (!stopped) tell({ state: 'live' });
      } catch (error) {
        if (error instanceof ApiError && error.status !== 0 && error.isOurs) {
          if (error.status === 401 || error.status === 403) return;
        } else if (!stopped) {
          tell({ state: 'retrying', seconds: Math.round(wait / 1000) });
        }
      }
    }
    if (!stopped) timer = setTimeout(turn, wait);
  };
  turn();
  return () => {
    stopped = true;
    clearTimeout(timer);
    tell({ state: 'off' });
  };
}
