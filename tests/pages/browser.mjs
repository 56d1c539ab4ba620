// A browser for the pages: what goes wrong in it is a failure of the test, and each page that is looked at is held against axe.

import { mkdirSync, readFileSync, existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const tools = process.env.FERRY_TOOLS ?? fileURLToPath(new URL('../../.tools', import.meta.url));
const require = createRequire(path.join(tools, 'pages/package.json'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export const base = process.env.FERRY_URL;
const shots = process.env.FERRY_PAGES_SHOTS;
/** Far beyond what a slow machine needs. */
const PATIENCE_MS = 90_000;

export const WIDTHS = [[360, 780], [1280, 860], [3840, 2160]];
export const THEMES = ['light', 'dark'];

function program() {
  const places = [process.env.FERRY_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
  const found = places.find((place) => place && existsSync(place));
  if (!found) throw new Error('there is no chromium: run tests/install.sh, or set FERRY_CHROMIUM');
  return found;
}

export function launch() {
  return chromium.launch({
    executablePath: program(),
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
  });
}

export function check(holds, what) {
  if (!holds) throw new Error(what);
}

/** A tab. `faults` collects what must not happen. */
export async function tab(browser, [width, height], theme) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, reducedMotion: 'reduce', ignoreHTTPSErrors: true });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(`script: ${error.stack}`));
  page.on('dialog', (dialog) => {
    faults.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('console', (message) => {
    if (/content security policy/i.test(message.text())) faults.push(message.text());
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(base)) faults.push(`the page asks another host: ${request.url()}`);
  });
  return { page, faults, context, name: `${width}-${theme}` };
}

/** Looks at the page as it is: nothing went wrong, it fits its width, axe finds nothing serious. Keeps a picture. */
export async function look({ page, faults, name }, title) {
  check(faults.length === 0, `${title} at ${name}: ${faults.join('; ')}`);
  if (shots) {
    mkdirSync(shots, { recursive: true });
    await page.screenshot({ path: path.join(shots, `${title}-${name}.png`) });
  }
  const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  check(over <= 0, `${title} at ${name}: ${over} pixels wider than the window`);
  await page.evaluate(`${axe};0`);
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
    return violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
      .map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target} (${n.failureSummary})`).join(', ')}`);
  });
  check(found.length === 0, `${title} at ${name}: axe: ${found.join('\n')}`);
}

/** Goes to a page, and waits for what shows that it is there. */
export async function go({ page }, hash, ready) {
  await page.goto(`${base}/${hash}`);
  await page.waitForSelector(ready);
}
