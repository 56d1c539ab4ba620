// Which page is shown: the address behind `#`. Holds who is signed in; pages hold the rest.

import { get, onSignedOut } from './api.js';
import { put, setText } from './dom.js';
import { refreshTimes } from './format.js';
import { header } from './header.js';
import { onConnection } from './live.js';
import { failureNote } from './parts/failure.js';
import { nodesPage } from './pages/nodes.js';
import { runPage } from './pages/run.js';
import { runsPage } from './pages/runs.js';
import { runtimesPage } from './pages/runtimes.js';
import { schedulePage } from './pages/schedule.js';
import { schedulesPage } from './pages/schedules.js';
import { signInPage } from './pages/sign_in.js';
import { submitPage } from './pages/submit.js';

const TIMES_MS = 5_000;
const RANKS = { viewer: 1, operator: 2, admin: 3 };

/** Each page makes `{title, element, leave?, moved?}`; `moved(route)` is asked first when only a part of the address changes. */
const PAGES = {
  runs: (app, route) => (route.parts.length > 1 ? runPage(app, route) : runsPage(app, route)),
  nodes: nodesPage,
  runtimes: runtimesPage,
  schedules: (app, route) => (route.parts.length > 1 ? schedulePage(app, route) : schedulesPage(app, route)),
  submit: submitPage,
  check: submitPage,
  'sign-in': signInPage,
};

const main = document.getElementById('main');
const announcer = document.getElementById('announcer');
let shown = null;

const app = {
  session: { role: null, needsSignIn: false, isInsecure: false, version: '' },

  /** The role that is signed in may do this. */
  may: (role) => (RANKS[app.session.role] ?? 0) >= RANKS[role],

  /** Says something to screen readers, when they have time. */
  announce: (text) => setText(announcer, text),

  go(hash) {
    if (location.hash === hash) move();
    else location.hash = hash;
  },

  /** Asks who is signed in. */
  async refresh() {
    app.session = await get('/whoami');
    top.show();
  },
};

const top = header(app, document.getElementById('header'), document.getElementById('notes'));

/** The address: its parts, and what stands behind `?`. */
function route() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const part = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  return { parts: path.split('/').filter(Boolean).map(part), query: new URLSearchParams(query), hash: location.hash };
}

function pageKey({ parts }) {
  return ['runs', 'schedules'].includes(parts[0]) && parts.length > 1 ? `${parts[0]}/${parts[1]}` : parts[0];
}

function move() {
  const to = route();
  if (to.parts.length === 0 || !Object.hasOwn(PAGES, to.parts[0])) {
    location.replace('#/runs');
    return;
  }
  if (app.session.needsSignIn && to.parts[0] !== 'sign-in') {
    askForSignIn();
    return;
  }
  const key = pageKey(to);
  if (shown?.key === key && shown.page.moved?.(to)) {
    document.title = `${shown.page.title} · ferry`;
    return;
  }
  const isFirst = shown === null;
  shown?.page.leave?.();
  put(document.getElementById('side'));
  shown = { key, page: PAGES[to.parts[0]](app, to) };
  put(main, shown.page.element);
  document.title = `${shown.page.title} · ferry`;
  top.show(to.parts[0]);
  window.scrollTo(0, 0);
  if (!isFirst && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
}

function askForSignIn() {
  if (route().parts[0] === 'sign-in') return;
  const back = location.hash || '#/runs';
  location.replace(`#/sign-in?back=${encodeURIComponent(back)}`);
}

onSignedOut(() => {
  app.session = { ...app.session, role: null, needsSignIn: true };
  top.show();
  askForSignIn();
});
onConnection((connection) => top.connection(connection));
window.addEventListener('hashchange', move);
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault(); // The address behind # is the router's.
  main.focus();
  main.scrollIntoView();
});
setInterval(refreshTimes, TIMES_MS);

/** The coordinator may be away when the page is opened. */
async function begin() {
  try {
    await app.refresh();
  } catch (error) {
    if (error.status !== 401) {
      put(main, failureNote({ code: error.title ?? 'NoAnswer', message: error.message, remedy: 'This page tries again every few seconds.' }));
      setTimeout(begin, 3_000);
      return;
    }
  }
  move();
}
begin();
