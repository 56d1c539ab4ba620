// Uses the pages of a real coordinator as people do. tests/scenarios/pages.rs starts it; by hand:
//
//   FERRY_URL=http://127.0.0.1:7480 node tests/pages/pages.mjs walk
//
// walk     all pages at three widths, light and dark; submits, watches, cancels, drains, pauses and deletes. Needs the runs
//          `failing` and `left-out`, the nodes node-1 to node-3, the schedules `hourly`, with a run, `stuck`, which does not
//          go on, `spare-1` to `spare-3` and `extra-1` to `extra-3`, and FERRY_PAGES_GOOD and FERRY_PAGES_SLOW: activities, as JSON
// restart  stays open while the coordinator is restarted: writes the file FERRY_PAGES_SIGNAL when it may go
// units    the small parts alone
// sign-in  signs in with FERRY_PAGES_TOKEN, a viewer's, and may do little. Needs the schedule `hourly`
//
// FERRY_PAGES_SHOTS: a folder for pictures.

import { writeFileSync } from 'node:fs';
import { base, check, go, launch, look, tab, THEMES, WIDTHS } from './browser.mjs';
import { units } from './units.mjs';

/** A file of the good run. What would run as a script stays text. */
const NASTY = '<img src=x onerror=alert(1)>.csv';

/** YAML that no JSON parser reads. */
const yaml = (activity) => `# From the browser's test.\n${Object.entries(activity).map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join('\n')}\n`;

const press = (page, name) => page.getByRole('button', { name, exact: true }).click();
const state = (page) => page.textContent('.page-head .badge');

async function write(page, activity, run) {
  await page.fill('textarea', yaml(activity));
  if (run) await page.fill('#run-id', run);
}

/** Submits from the form and follows both stages to the end. */
async function submitAndWatch(at, activity) {
  const { page } = at;
  await go(at, '#/submit', '.help-list li');
  await page.fill('textarea', yaml(activity).replace('source:', 'sourc:'));
  await press(page, 'Submit');
  await page.waitForSelector('.results .note.bad');
  const words = await page.textContent('.results');
  check(/source/.test(words), `the nearest key must be named: ${words}`);
  await look(at, 'submit-refused');

  await write(page, activity, `good-${at.name}`);
  // Before the first news arrive: every state that is shown is kept.
  await page.evaluate(() => {
    window.seen = new Set();
    new MutationObserver(() => {
      const badge = document.querySelector('.page-head .badge')?.textContent;
      const note = document.querySelector('.explains')?.textContent;
      if (badge) window.seen.add(badge);
      if (note?.includes('the table shows none of it yet')) window.seen.add('explained');
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  await press(page, 'Submit');
  await page.waitForURL(new RegExp(`good-${at.name}`));
  await page.waitForSelector('.timeline');
  await look(at, 'run-going');
  await page.waitForSelector('.page-head .badge:text-is("Succeeded")');
  const seen = await page.evaluate(() => [...window.seen]);
  for (const one of ['Copying', 'explained', 'Ingesting']) check(seen.includes(one), `${one} must be shown: ${seen}`);
  for (const bar of await page.locator('.timeline [role=progressbar]').all()) {
    check((await bar.getAttribute('aria-valuenow')) === '100.0', 'both stages must be complete');
  }
  await page.waitForSelector('.shares li');
  await look(at, 'run-done');
}

/** Plan and check, from the same form. */
async function planAndCheck(at, activity) {
  const { page } = at;
  await go(at, '#/submit', '.help-list li');
  await write(page, activity);
  await press(page, 'Check');
  await page.waitForSelector('.checks tbody tr');
  await look(at, 'checks');
  await press(page, 'Plan');
  await page.waitForURL(/\/plan$/);
  await page.waitForSelector('.plan .figures');
  await look(at, 'plan');
}

/** A name that would be a script is text, in the table and in the panel; so are files found. */
async function files(at) {
  const { page } = at;
  await go(at, `#/runs/good-${at.name}/files`, '.rows-body .row');
  await page.fill('input[type=search]', 'onerror');
  await page.waitForFunction(() => document.querySelectorAll('.rows-body .row').length === 1);
  check((await page.textContent('.rows-body .row a')) === NASTY, 'the name must be text');
  await page.click('.rows-body .row a');
  await page.waitForSelector('.panel .facts');
  check((await page.textContent('.panel-path code')) === NASTY, 'the name must be text');
  check((await page.locator('main img, #side img').count()) === 0, 'no name may become an element');
  await page.waitForSelector('.panel [aria-label=Chunks] tbody tr');
  await page.waitForSelector('.panel [aria-label=Commands] .badge:text-is("Confirmed")');
  await look(at, 'file');
  await page.keyboard.press('Escape');
  await page.waitForSelector('.panel', { state: 'detached' });
}

/** From the list of runs to the cause of a failure, and what to do. */
async function failedFile(at) {
  const { page } = at;
  await go(at, '#/runs?state=Failed', '.runs tbody tr');
  await page.click('a[href="#/runs/failing"]');
  await page.waitForSelector('.note.bad .remedy');
  await look(at, 'run-failed');
  await page.click('.note.bad a');
  await page.click('.rows-body .row a');
  await page.waitForSelector('.panel .note.bad .remedy');
  const words = await page.textContent('.panel .note.bad');
  check(/UnclosedQuote/.test(words) && /quoteChar/.test(words), `cause and remedy: ${words}`);
  await look(at, 'file-failed');
}

async function cancel(at, activity) {
  const { page } = at;
  await go(at, '#/submit', '.help-list li');
  await write(page, activity, `slow-${at.name}`);
  await press(page, 'Submit');
  await page.waitForSelector('.page-head .badge:text-is("Copying")');
  await press(page, 'Cancel run');
  await look(at, 'cancel');
  await press(page, 'Let it run');
  check((await state(page)) === 'Copying', 'nothing may happen before it is confirmed');
  await press(page, 'Cancel run');
  await press(page, 'Cancel the run');
  await page.waitForSelector('.page-head .badge:text-is("Cancelled")');
  await look(at, 'run-cancelled');
}

async function drain(at, node) {
  const { page } = at;
  await go(at, '#/nodes', '.nodes tbody tr');
  await page.click(`[aria-label="Drain ${node}"]`);
  await press(page, 'Drain the node');
  await page.waitForSelector(`tr:has(strong:text-is("${node}")) .badge:text-matches("Drain")`);
  await look(at, 'nodes');
}

/** Whether the API says that a schedule is paused. */
async function isPaused(page, name) {
  const answer = await page.request.get(`${base}/api/v1/schedules/${name}`);
  check(answer.ok(), `schedule ${name}: ${answer.status()}`);
  return (await answer.json()).isPaused;
}

const inSchedule = (name, wanted) => `.schedules tr:has(.name a:text-is("${name}")) ${wanted}`;

/** What is due is seen; a schedule is paused and resumed by keyboard, another one deleted. */
async function schedules(at, spare) {
  const { page } = at;
  await go(at, '#/schedules', inSchedule('hourly', 'a[href^="#/runs/hourly-"]'));
  const words = await page.textContent(inSchedule('hourly', ''));
  for (const part of ['every 1h', 'UTC', NASTY, 'Test.good']) check(words.includes(part), `${part} must be told: ${words}`);
  const other = await page.textContent(inSchedule(spare, ''));
  for (const part of ['5 * * * *', 'Europe/Berlin']) check(other.includes(part), `${part} must be told: ${other}`);
  check((await page.locator('main img').count()) === 0, 'no pattern may become an element');

  await page.focus('[aria-label="Pause hourly"]');
  await page.keyboard.press('Enter');
  await page.waitForSelector(inSchedule('hourly', '.badge:text-is("Paused")'));
  check(await isPaused(page, 'hourly'), 'the API must say that it is paused');
  await look(at, 'schedule-paused');
  check((await page.evaluate(() => document.activeElement.getAttribute('aria-label'))) === 'Resume hourly', 'the keyboard must keep its place');
  await page.keyboard.press('Enter');
  await page.waitForSelector(inSchedule('hourly', '.badge:text-is("Active")'));
  check(!(await isPaused(page, 'hourly')), 'the API must say that it goes on');

  await page.click(`[aria-label="Delete ${spare}"]`);
  await look(at, 'schedule-delete');
  await press(page, 'Keep it');
  check((await page.locator(inSchedule(spare, '.badge')).count()) === 1, 'nothing may happen before it is confirmed');
  await page.click(`[aria-label="Delete ${spare}"]`);
  await press(page, 'Delete the schedule');
  await page.waitForSelector(inSchedule(spare, '.badge'), { state: 'detached' });
  check((await page.request.get(`${base}/api/v1/schedules/${spare}`)).status() === 404, 'the API must not know it any more');
  await page.click(inSchedule('hourly', 'a[href^="#/runs/hourly-"]'));
  await page.waitForSelector('.timeline');
}

/** The page of one schedule tells what it runs, when, and how far it came; it is paused and resumed by keyboard; a run is followed. */
async function oneSchedule(at, extra) {
  const { page } = at;
  await go(at, '#/schedules', inSchedule('hourly', '.badge'));
  await page.click(inSchedule('hourly', '.name a'));
  await page.waitForSelector('.schedule .runs a[href^="#/runs/hourly-"]');
  check(page.url().endsWith('#/schedules/hourly'), `its page has an address of its own: ${page.url()}`);
  const words = await page.textContent('.schedule-cards');
  for (const part of ['every 1h', 'UTC', 'only the newest gets a run', NASTY, 'Test.good', 'Succeeded']) check(words.includes(part), `${part} must be told: ${words}`);
  check((await page.locator('.schedule-cards ol li').count()) === 5, 'the next windows must be told');
  check((await page.textContent('.schedule .json')).includes(NASTY), 'the activity must be shown');
  check((await page.locator('.runs tbody tr').count()) === 1, 'it must show its own run alone');
  check((await page.locator('main img').count()) === 0, 'no pattern may become an element');

  await page.focus('[aria-label="Pause hourly"]');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.page-head .badge:text-is("Paused")');
  check(await isPaused(page, 'hourly'), 'the API must say that it is paused');
  await page.waitForSelector('.schedule-cards :text("none until it is resumed")');
  await look(at, 'one-schedule-paused');
  check((await page.evaluate(() => document.activeElement.getAttribute('aria-label'))) === 'Resume hourly', 'the keyboard must keep its place');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.page-head .badge:text-is("Active")');
  check(!(await isPaused(page, 'hourly')), 'the API must say that it goes on');
  await page.click('.schedule .runs a[href^="#/runs/hourly-"]');
  await page.waitForSelector('.timeline');

  await go(at, '#/schedules/stuck', '.note.bad .remedy');
  const why = await page.textContent('.note.bad');
  check(/SettingsInvalid/.test(why) && /is there already, with another activity/.test(why), `the failure must be told: ${why}`);
  check((await page.textContent('.schedule-cards')).includes('not submitted'), 'the run of somebody else is not its own');

  await go(at, `#/schedules/${extra}`, '.schedule .empty');
  await page.click(`[aria-label="Delete ${extra}"]`);
  await press(page, 'Delete the schedule');
  await page.waitForSelector(inSchedule('hourly', '.badge'));
  check((await page.locator(inSchedule(extra, '.badge')).count()) === 0, 'the list must not have it any more');
  check((await page.request.get(`${base}/api/v1/schedules/${extra}`)).status() === 404, 'the API must not know it any more');
}

/** Every page as it stands, at every width and in both colours. */
const STILL = [
  ['runs', '#/runs', '.runs tbody tr'],
  ['run', '#/runs/left-out', '.timeline'],
  ['files', '#/runs/left-out/files', '.rows-body .row'],
  ['commands', '#/runs/left-out/commands', '.rows-body .row'],
  ['quarantine', '#/runs/left-out/quarantine', '.quarantine tbody tr'],
  ['activity', '#/runs/left-out/activity', '.json'],
  ['failing', '#/runs/failing', '.note.bad .remedy'],
  ['no-run', '#/runs/there-is-none', '.empty'],
  ['nodes', '#/nodes', '.nodes tbody tr'],
  ['runtimes', '#/runtimes', 'tbody tr'],
  ['schedules', '#/schedules', '.schedules tbody tr'],
  ['one-schedule', '#/schedules/hourly', '.schedule .runs tbody tr'],
  ['schedule-failing', '#/schedules/stuck', '.note.bad .remedy'],
  ['no-schedule', '#/schedules/there-is-none', '.empty'],
  ['submit', '#/submit', '.help-list li'],
];

async function walk(browser) {
  const good = JSON.parse(process.env.FERRY_PAGES_GOOD);
  const slow = JSON.parse(process.env.FERRY_PAGES_SLOW);
  for (const [n, size] of WIDTHS.entries()) {
    const at = await tab(browser, size, THEMES[n % THEMES.length]);
    if (n === 0) {
      await go(at, '#/runs', 'h1');
      await units(at);
    }
    await submitAndWatch(at, good);
    await files(at);
    await failedFile(at);
    await planAndCheck(at, good);
    await cancel(at, slow);
    await drain(at, `node-${n + 1}`);
    await schedules(at, `spare-${n + 1}`);
    await oneSchedule(at, `extra-${n + 1}`);
    await at.context.close();
  }
  for (const size of WIDTHS) {
    for (const theme of THEMES) {
      const at = await tab(browser, size, theme);
      for (const [title, hash, ready] of STILL) {
        await go(at, hash, ready);
        await look(at, title);
      }
      await at.context.close();
    }
  }
}

async function restart(browser) {
  const at = await tab(browser, WIDTHS[1], 'light');
  await go(at, '#/schedules', '.empty:has-text("ferry schedules put FILE")');
  await look(at, 'no-schedules');
  await go(at, '#/nodes', '.nodes tbody tr');
  await at.page.waitForSelector('.link-state:text-is("live")');
  writeFileSync(process.env.FERRY_PAGES_SIGNAL, 'ready');
  await at.page.waitForSelector('.lost:visible');
  await look(at, 'connection-lost');
  await at.page.waitForSelector('.lost', { state: 'hidden' });
  await at.page.waitForSelector('.link-state:text-is("live")');
  await look(at, 'connection-back');
}

async function signIn(browser) {
  const at = await tab(browser, WIDTHS[1], 'light');
  const { page } = at;
  await go(at, '#/nodes', '#token');
  await page.fill('#token', 'fapi_none_wrong');
  await press(page, 'Sign in');
  await page.waitForSelector('.note.bad');
  await look(at, 'sign-in');
  await page.fill('#token', process.env.FERRY_PAGES_TOKEN);
  await press(page, 'Sign in');
  await page.waitForSelector('.nodes tbody tr');
  check(page.url().endsWith('#/nodes'), `it must lead to where one wanted to go: ${page.url()}`);
  check((await page.textContent('header .chip')) === 'viewer', 'the role must be shown');
  check(await page.locator('[aria-label^="Drain"]').first().isDisabled(), 'a viewer may drain nothing');
  const script = await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage }));
  check(!script.includes(process.env.FERRY_PAGES_TOKEN), 'scripts may not see the token');
  await go(at, '#/schedules', inSchedule('hourly', '.badge'));
  check((await page.locator('main button').count()) === 0, 'a viewer has nothing to press on a schedule');
  await look(at, 'schedules-as-viewer');
  await page.click(inSchedule('hourly', '.name a'));
  await page.waitForSelector('.schedule .json');
  check((await page.locator('main :is([aria-label^="Pause"], [aria-label^="Resume"], [aria-label^="Delete"])').count()) === 0, 'nor on its page');
  await look(at, 'one-schedule-as-viewer');
  await go(at, '#/submit', 'textarea');
  check(await page.getByRole('button', { name: 'Submit', exact: true }).isDisabled(), 'a viewer may submit nothing');
  await look(at, 'submit-as-viewer');
  await press(page, 'Sign out');
  await page.waitForSelector('#token');
  await go(at, '#/runs', '#token');
}

/** The parts alone, for who changes them. */
async function alone(browser) {
  const at = await tab(browser, WIDTHS[1], 'light');
  await go(at, '#/runs', 'h1');
  await units(at);
}

const MODES = { walk, restart, 'sign-in': signIn, units: alone };
const mode = MODES[process.argv[2]];
check(mode && base, 'usage: FERRY_URL=... node pages.mjs walk|restart|sign-in|units');
const browser = await launch();
try {
  await mode(browser);
} finally {
  await browser.close();
}
