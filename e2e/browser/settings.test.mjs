// Settings apply at once, per device and per account; what shells and programs say beside their output is heard, with consent.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, afterEach, before, test } from 'node:test';
import { by, clipboard, openTerminal, pageOf, running, shows, state, text, typeLine } from './lib/browser.mjs';
import { until } from './lib/processes.mjs';
import { Stage } from './lib/stage.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let stage;

before(async () => {
  stage = await Stage.set();
});

after(() => stage.strike());
afterEach(() => stage.endShells());

const setting = (page, name) => by(page, `setting-${name}`);
const background = (page) => page.locator('[data-testid="terminal"]:visible').evaluate((pane) => getComputedStyle(pane).backgroundColor);

async function openSettings(context = stage.context) {
  const page = await pageOf(context);
  await page.goto(`${stage.origin}/settings`);
  await by(page, 'preview').locator('.xterm-screen').waitFor();
  return page;
}

test('a setting of the account applies in a terminal that is open elsewhere, and a device may differ', async () => {
  const terminal = await stage.terminal();
  const before = await state(terminal);
  const other = await stage.newPerson();
  const page = await openSettings(other);
  await setting(page, 'fontSize').locator('input').fill('20');
  await terminal.waitForFunction((cols) => window.__rexec.state().cols < cols * 0.8, before.cols);
  await setting(page, 'colours').locator('select').selectOption('dracula');
  await until('the colours', 10_000, async () => (await background(terminal)) === 'rgb(40, 42, 54)');

  await page.getByText('This device only').click();
  await setting(page, 'fontSize').locator('input').fill('10');
  const small = await stage.terminal(other);
  await until('its own size', 10_000, async () => (await small.evaluate(() => window.__rexec.state().lease)) || true);
  await by(small, 'take-control').click();
  await small.waitForFunction((cols) => window.__rexec.state().cols > cols * 1.2, before.cols);
  await by(page, 'reset-fontSize').click();
  await small.waitForFunction((cols) => window.__rexec.state().cols < cols, before.cols);

  await page.getByText('All my devices').click();
  await setting(page, 'fontSize').locator('input').fill('900');
  await page.getByText('Not set: font size is from 8 to 32').waitFor();
  assert.equal(await setting(page, 'fontSize').locator('input').getAttribute('aria-invalid'), 'true');
  await setting(page, 'fontSize').locator('input').fill('13.5');
  await setting(page, 'colours').locator('select').selectOption('rexec');
  await terminal.waitForFunction((cols) => window.__rexec.state().cols === cols, before.cols);
  await stage.leave(terminal, small, page);
});

test('the page of settings has no violations, in both themes, and is walked through by keyboard', async () => {
  for (const colorScheme of ['dark', 'light']) {
    const page = await openSettings(await stage.newPerson({ colorScheme, bypassCSP: true }));
    await page.addScriptTag({ content: axe });
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`), []);
    await setting(page, 'cursorBlink').getByRole('switch').focus();
    await page.keyboard.press('Space');
    assert.equal(await setting(page, 'cursorBlink').getByRole('switch').isChecked(), false);
    await page.keyboard.press('Space');
    await stage.leave(page);
  }
});

test('Shift and Enter make a line feed, and the key itself where a program asks for kitty’s protocol', async () => {
  const page = await stage.terminal();
    await typeLine(page, `stty raw -echo; echo re""ady; head -c 3 | od -An -c; stty sane; echo pl""ain`);
  await shows(page, /ready$/m);
  await page.keyboard.type('a');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.press('Enter');
  await shows(page, /^ *a {2}\\n {2}\\r$/m);
  await typeLine(page, `printf '\\033[>1u'; stty raw -echo; echo lis""tening; head -c 18 | od -An -c; stty sane; printf '\\033[<u'; echo do""ne`);
  await shows(page, /listening$/m);
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.press('Control+i');
  await page.keyboard.type('x');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await shows(page, /^ *033 {3}\[ {3}1 {3}3 {3}; {3}2 {3}u 033 {3}\[ {3}1 {3}0 {3}5 {3}; {3}5 {3}u {3}x$/m);
  await shows(page, /^ *\\t {2}\\r$/m);
  await stage.leave(page);
});

test('the host answers what is switched on, and what was switched on holds after a reload', async () => {
  const page = await stage.terminal();
  await typeLine(page, `printf '\\033[>5u\\033[?u'; read -rsn5 -t 5 answer; printf '%q\\n' "$answer"`);
  await shows(page, /\[\\\?5u|\[\?5u/);
  await page.reload();
  await running(page);
  await typeLine(page, 'cat -v');
  await page.keyboard.press('Control+j');
  await page.keyboard.press('Enter');
  await shows(page, /\^\[\[106;5u/);
  await stage.leave(page);
});

test('the directory is in the title, prompts are jumped between, and a command that ends unseen is told with its exit code', async () => {
  const page = await stage.terminal();
  const settings = await openSettings();
  await settings.getByText('This device only').click();
  await setting(settings, 'finishedAfter').locator('input').fill('1');
  await settings.locator('summary').click();
  const line = await by(settings, 'shell-bash').innerText();
  await typeLine(page, `${line}; PS1='> '`);
  await typeLine(page, 'cd /usr/share');
  await by(page, 'crumb-cwd').getByText('/usr/share').waitFor();
  await typeLine(page, 'echo first; seq 100');
  await typeLine(page, 'echo second; seq 100; echo e""nd');
  await shows(page, /^end$/m);
  const top = async () => (await page.locator('[data-testid="terminal"]:visible .scrollbar.vertical .slider').boundingBox()).y;
  const bottom = await top();
  await page.keyboard.press('Control+Shift+ArrowUp');
  await until('to have scrolled', 5_000, async () => (await top()) < bottom);
  const once = await top();
  await page.keyboard.press('Control+Shift+ArrowUp');
  await until('to have scrolled on', 5_000, async () => (await top()) < once);
  await page.keyboard.press('Control+Shift+ArrowDown');
  await until('to be back', 5_000, async () => Math.abs((await top()) - once) < 2);

  await typeLine(page, 'sleep 1.5; (exit 7)');
  await page.keyboard.press('Alt+Shift+T');
  await page.getByText(/workbench: .* failed with exit code 7 after [12] s/).waitFor();
  await stage.leave(page, settings);
});

test('out_01 a program that would copy is asked about, remembered for its session, and can never read', async () => {
  const page = await stage.terminal();
  await clipboard(page, 'mine');
  const offer = (words) => typeLine(page, `printf '\\033]52;c;%s\\007' "$(printf %s ${words} | base64)"`);
  await offer('the""irs');
  await by(page, 'offer-bar').getByText('theirs').waitFor();
  assert.equal(await clipboard(page), 'mine');
  await by(page, 'offer-no').click();
  assert.equal(await clipboard(page), 'mine');
  await offer('on""ce');
  await by(page, 'offer-once').click();
  await until('the offer in the clipboard', 5_000, async () => (await clipboard(page)) === 'once');
  await offer('al""ways');
  await by(page, 'offer-always').click();
  await until('the offer in the clipboard', 5_000, async () => (await clipboard(page)) === 'always');
  await offer('from""-now-on');
  await until('the offer in the clipboard', 5_000, async () => (await clipboard(page)) === 'from-now-on');
  await page.getByText(/copied 11 characters/).waitFor();
  await typeLine(page, `printf '\\033]52;c;?\\007'; read -rsn1 -t 1 answer || echo "no""thing"`);
  await shows(page, /^nothing$/m);
  await stage.leave(page);
});

test('a phone has the keys its keyboard lacks, and scrolls by touch', async () => {
  const context = await stage.newPerson({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  const page = await stage.terminal(context);
  await typeLine(page, 'cat -v');
  for (const key of ['Escape', 'Up', 'Pipe']) await by(page, `deck-${key}`).tap();
  await by(page, 'deck-Alt').tap();
  await page.keyboard.type('xy');
  await by(page, 'deck-Ctrl').tap();
  await by(page, 'deck-Left').tap();
  await page.keyboard.press('Enter');
  await shows(page, /\^\[\^\[\[A\|\^\[xy\^\[\[1;5D/);
  await by(page, 'deck-Ctrl').tap();
  assert.equal(await by(page, 'deck-Ctrl').getAttribute('aria-pressed'), 'true');
  await page.keyboard.type('c');
  assert.equal(await by(page, 'deck-Ctrl').getAttribute('aria-pressed'), 'false');
  await typeLine(page, 'seq 300; echo e""nd');
  await shows(page, /^end$/m);
  const box = await page.locator('[data-testid="terminal"]:visible .xterm-screen').boundingBox();
  const session = await context.newCDPSession(page);
  const touch = (type, y) => session.send('Input.dispatchTouchEvent', { type, touchPoints: y === null ? [] : [{ x: box.x + 100, y }] });
  const top = () => page.evaluate(() => document.querySelector('[data-testid="terminal"] .scrollbar.vertical .slider').getBoundingClientRect().top);
  const before = await top();
  await touch('touchStart', box.y + 100);
  for (let moved = 0; moved < 400; moved += 40) await touch('touchMove', box.y + 100 + moved);
  await touch('touchEnd', null);
  await until('to have scrolled', 5_000, async () => (await top()) < before);
  await stage.leave(page);
});

test('an input method composes on the screen, and what it settles on is typed once, with kitty’s protocol too', async () => {
  const page = await stage.terminal();
  const keyboard = await page.context().newCDPSession(page);
  for (const [protocol, text] of [['', '日本語'], [String.raw`\e[>1u`, '한국어']]) {
    await typeLine(page, String.raw`clear; printf '${protocol}'; echo re""ady; read line; printf '\e[<u'; echo "[$line]"`);
    await shows(page, /^ready$/m);
    const composed = text.slice(0, 2);
    await keyboard.send('Input.imeSetComposition', { text: composed, selectionStart: 2, selectionEnd: 2 });
    await page.locator('.composition-view.active').getByText(composed).waitFor();
    await keyboard.send('Input.insertText', { text });
    await shows(page, new RegExp(`^${text}$`, 'm'));
    await page.keyboard.press('Enter');
    await shows(page, new RegExp(`^\\[${text}\\]$`, 'm'));
  }
  await stage.leave(page);
});

test('where pages may not notify, as on phones, the service worker does', async () => {
  const context = await stage.newPerson({ permissions: ['notifications'] });
  const page = await pageOf(context);
  await page.addInitScript(() => {
    const { Notification } = window;
    window.Notification = class extends Notification {
      constructor() {
        throw new TypeError('Illegal constructor. Use ServiceWorkerRegistration.showNotification() instead.');
      }
    };
  });
  await openTerminal(page, stage.origin, stage.machine.id);
  assert.equal(await page.evaluate(() => Notification.permission), 'granted');
  await page.evaluate(() => (document.hasFocus = () => false));
  await typeLine(page, String.raw`printf '\a'`);
  const told = () => page.evaluate(async () => (await (await navigator.serviceWorker.getRegistration())?.getNotifications())?.map(({ title, body }) => [title, body]) ?? []);
  await until('a notification', 10_000, async () => (await told()).length > 0);
  const [[title, body]] = await told();
  assert.ok(title === 'Rexec' && /^workbench: .* rang the bell$/.test(body), body);
  await stage.leave(page);
  await context.close();
});
