/** One Chromium for a file of tests, a context for each person in it, and what a person does at a terminal. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chromium } from 'playwright-core';
import { OWNER } from './installation.mjs';

const SOON = 15_000;

function executable() {
  if (process.env.REXEC_CHROMIUM) return process.env.REXEC_CHROMIUM;
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    try {
      return execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    } catch {}
  }
  throw new Error('no Chromium: install it, or name one in REXEC_CHROMIUM');
}

/** Starts a browser; in a network namespace, if one is given. */
export function launch(namespace) {
  // Root cannot be given Chromium's sandbox; the pages are our own.
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  const executablePath = namespace ? namespace.script(executable()) : executable();
  return chromium.launch({ executablePath, args: [...args, '--disable-dev-shm-usage'] });
}

/** A person's own browser profile. What the page complains about fails the test that looks at `complaints`. */
export async function person(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  context.setDefaultTimeout(SOON);
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  return context;
}

/** A page that notes what goes wrong in it. */
export async function pageOf(context) {
  const page = await context.newPage();
  page.complaints = [];
  page.on('pageerror', (error) => page.complaints.push(`${error}`));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/Failed to load resource|WebSocket connection|ERR_/.test(message.text())) {
      page.complaints.push(message.text());
    }
  });
  return page;
}

export const by = (page, id) => page.getByTestId(id);

export async function signIn(page, origin, who = OWNER) {
  await page.goto(`${origin}/sign-in`);
  await by(page, 'email').fill(who.email);
  await by(page, 'password').fill(who.password);
  await by(page, 'submit').click();
  await by(page, 'machine-list').waitFor();
}

/** Opens a machine's workspace and waits for its prompt. */
export async function openTerminal(page, origin, machine) {
  await page.goto(`${origin}/m/${machine}`);
  await running(page);
}

export async function running(page, deadline = SOON) {
  await page.waitForFunction(() => window.__rexec?.state()?.status === 'running' && window.__rexec.text().trim() !== '', null, {
    timeout: deadline,
  });
}

/** What the terminal shows; programs fill lines with blanks that nobody sees. */
export const text = (page) => page.evaluate(() => window.__rexec.text().replace(/ +$/gm, ''));
export const state = (page) => page.evaluate(() => window.__rexec.state());

/** Waits until the terminal shows a text or matches a pattern. */
export async function shows(page, what, deadline = SOON) {
  const [source, flags] = what instanceof RegExp ? [what.source, what.flags] : [what.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), ''];
  const see = ([source, flags]) => new RegExp(source, flags).test((window.__rexec?.text() ?? '').replace(/ +$/gm, ''));
  try {
    await page.waitForFunction(see, [source, flags], { timeout: deadline });
  } catch (error) {
    assert.fail(`the terminal never showed ${what}; it shows:\n${await text(page).catch(() => error)}`);
  }
}

/** Types a line. Never the text that is waited for: the shell echoes what is typed. */
export async function typeLine(page, line) {
  await page.locator('[data-testid="terminal"]:visible .xterm-helper-textarea').focus();
  await page.keyboard.type(line);
  await page.keyboard.press('Enter');
}

/** Where on the page a cell of the terminal is. */
export async function cell(page, col, row) {
  const { cols, rows } = await state(page);
  const box = await page.locator('[data-testid="terminal"]:visible .xterm-screen').boundingBox();
  return [box.x + ((col + 0.5) * box.width) / cols, box.y + ((row + 0.5) * box.height) / rows];
}

/** Opens a new session in a tab and waits for its prompt. */
export async function launchTab(page, machine) {
  const before = await state(page);
  await by(page, 'new-tab').click();
  await by(page, `new-session-${machine}`).click();
  await page.waitForFunction((session) => window.__rexec.state().session !== session, before.session);
  await running(page);
}

/** Puts a text into the clipboard, or looks at what is there. */
export const clipboard = (page, text) =>
  page.evaluate((text) => (text === undefined ? navigator.clipboard.readText() : navigator.clipboard.writeText(text)), text);

/** Every number of a counting loop, as the terminal shows them. */
export async function numbers(page) {
  return [...(await text(page)).matchAll(/^n(\d+)\.$/gm)].map(([, number]) => Number(number));
}

/** A counting loop for a shell: some hundred numbers a second, each on a line of its own; what is typed meanwhile is not echoed into them. */
export const countTo = (last) =>
  `exec 9<> <(:); stty -echo; for ((i = 0; i < ${last}; i++)); do echo "n$i."; read -t 0.004 -u 9; done; stty echo; echo o''ver`;
