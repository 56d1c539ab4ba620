// The coordinator's HTTP API. Addresses are relative to the page, so that it works behind a proxy's path, too.

/** Longest wait for an answer; checks ask clusters, and take their time. */
const PATIENCE_MS = 125_000;

/** An answer that is not what was asked for. `status` 0: there was none. */
export class ApiError extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

let whenSignedOut = () => {};

/** Calls `handler` whenever the coordinator wants a sign-in. */
export function onSignedOut(handler) {
  whenSignedOut = handler;
}

/** Address of a part of the API; values of `query` that are empty are left out. */
export function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const text = new URLSearchParams(given).toString();
  return `api/v1${path}${text ? `?${text}` : ''}`;
}

/** A path of escaped parts: `at('runs', id, 'files')`. */
export function at(...parts) {
  return parts.map((part) => `/${encodeURIComponent(part)}`).join('');
}

/** The error in an answer. */
export async function problem(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's page, or nothing: the status has to do.
  }
  const error = new ApiError(response.status, body.title ?? `HTTP ${response.status}`, body.detail);
  error.isOurs = body.title !== undefined;
  if (response.status === 401) whenSignedOut(error);
  return error;
}

async function ask(method, path, { query, body, signal } = {}) {
  const waited = AbortSignal.timeout(PATIENCE_MS);
  let response;
  try {
    response = await fetch(address(path, query), {
      method,
      credentials: 'same-origin',
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, waited]) : waited,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'NoAnswer', 'The coordinator does not answer. Is it running, and is the network up?');
  }
  if (!response.ok) throw await problem(response);
  if (response.status === 204) return null;
  return response.json();
}

export const get = (path, query, signal) => ask('GET', path, { query, signal });
export const post = (path, body = {}) => ask('POST', path, { body });
export const remove = (path) => ask('DELETE', path);
