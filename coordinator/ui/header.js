// What stands above every page: navigation, who is signed in, warnings, and whether news arrive.

import { remove } from './api.js';
import { el, put, setText } from './dom.js';

const LINKS = [['runs', 'Runs'], ['nodes', 'Nodes'], ['runtimes', 'Runtimes'], ['schedules', 'Schedules'], ['submit', 'Submit']];
const THEMES = { auto: 'light', light: 'dark', dark: 'auto' };
const THEME_NAMES = { auto: 'as the system', light: 'light', dark: 'dark' };
const THEME_MARKS = { auto: '◐', light: '☀', dark: '☾' };

function themeButton() {
  const mark = el('span', { 'aria-hidden': 'true' });
  const button = el('button', { class: 'quiet icon', type: 'button' }, mark);
  const now = () => document.documentElement.dataset.theme ?? 'auto';
  const show = () => {
    setText(mark, THEME_MARKS[now()]);
    button.title = `Colours: ${THEME_NAMES[now()]}. Press for: ${THEME_NAMES[THEMES[now()]]}.`;
    button.setAttribute('aria-label', button.title);
  };
  button.addEventListener('click', () => {
    const next = THEMES[now()];
    if (next === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem('ferry.theme', next);
    } catch {
      // Storage may be forbidden: the choice lasts as long as the page.
    }
    show();
  });
  show();
  return button;
}

function logo() {
  return el('a', { class: 'brand', href: '#/runs' }, el('img', { src: 'ui/favicon.svg', alt: '', width: 22, height: 22 }), 'ferry');
}

export function header(app, place, notes) {
  const nav = el('nav', { 'aria-label': 'Pages' });
  const status = el('span', { class: 'link-state' });
  const lost = el('div', { class: 'bar-note lost', role: 'status' });
  const insecure = el('div', { class: 'bar-note insecure', role: 'note' });
  const role = el('span', { class: 'chip' });
  const version = el('span', { class: 'faint version' });
  const out = el('button', { class: 'quiet', type: 'button' }, 'Sign out');
  out.addEventListener('click', async () => {
    try {
      await remove('/session');
    } finally {
      location.hash = '#/sign-in';
      location.reload();
    }
  });
  put(place, logo(), nav, el('div', { class: 'spring' }), status, version, role, themeButton(), out);
  put(notes, insecure, lost);
  insecure.hidden = true;
  lost.hidden = true;
  let current = '';

  return {
    show(page = current) {
      current = page;
      const { session } = app;
      const isIn = session.role !== null && session.role !== undefined;
      // Where nothing is asked for, everybody is called so.
      const hasName = isIn && Boolean(session.name) && session.name !== 'anybody';
      const isHere = (name) => name === page || (name === 'submit' && page === 'check');
      const links = LINKS.map(([name, text]) =>
        el('a', { href: `#/${name}`, 'aria-current': isHere(name) ? 'page' : null }, text));
      if (isIn) put(nav, links);
      else put(nav);
      setText(role, isIn ? session.role : '');
      role.hidden = !isIn;
      role.title = hasName ? `Signed in as ${session.name}, role ${session.role}` : 'No sign-in is asked for here';
      // Without a door there is nothing to sign out of.
      out.hidden = !hasName;
      setText(version, session.version ? `v${session.version}` : '');
      insecure.hidden = !session.isInsecure;
      setText(insecure, session.isInsecure
        ? 'Insecure: this coordinator is reached over plain HTTP. Tokens and names of files can be read on the way. Start it with TLS, or keep it on 127.0.0.1.'
        : '');
    },

    connection({ state, seconds }) {
      const isLost = state === 'retrying';
      lost.hidden = !isLost;
      if (isLost) setText(lost, 'Connection lost, retrying. What is shown may be out of date; runs go on without this page.');
      else setText(lost, '');
      status.dataset.state = state;
      setText(status, { live: 'live', retrying: 'lost', polling: 'every 5 s', off: '' }[state]);
      status.title = {
        live: 'News arrive as they happen.',
        retrying: `The coordinator does not answer. Trying again in ${seconds} s.`,
        polling: 'The coordinator has no stream to spare, or a proxy holds it back: this page asks every 5 s.',
        off: '',
      }[state];
    },
  };
}
