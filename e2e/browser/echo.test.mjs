// Predictive echo: what is typed is seen at once on a far machine, and only where it is safe.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { by, shows, text, typeLine } from './lib/browser.mjs';
import { Stage } from './lib/stage.mjs';

const DELAY_MS = 150;
const RTT_MS = 2 * DELAY_MS;
const AT_ONCE_MS = 50;
/** A round trip, the grace, and a busy machine's share. */
const SETTLED_MS = RTT_MS + 500;

let stage;
let far;

before(async () => {
  stage = await Stage.set();
  far = await stage.newPerson();
  await far.addInitScript(delayWebSockets, DELAY_MS);
  await far.addInitScript(watchEcho);
});

after(() => stage.strike());
afterEach(() => stage.endShells());

/** In the page: every message takes so long, in both directions and in order; there is no other way. */
function delayWebSockets(ms) {
  delete window.WebTransport;
  window.WebSocket = class extends WebSocket {
    send(bytes) {
      const copy = bytes.slice();
      setTimeout(() => this.readyState === WebSocket.OPEN && super.send(copy), ms);
    }

    set onmessage(listener) {
      super.onmessage = (event) => setTimeout(() => listener?.(event), ms);
    }
  };
}

/** In the page: notes every key and everything that is ever drawn before the host has said it, with the time. */
function watchEcho() {
  window.echoes = { keys: [], drawn: [] };
  const note = () => {
    const echo = document.querySelector('[data-testid="terminal"]:not(.hidden) .echo');
    if (!echo || echo.hidden) return;
    const cells = [...echo.querySelectorAll('.guess')].sort((a, b) => Number.parseFloat(a.style.left) - Number.parseFloat(b.style.left));
    const text = cells.map((cell) => cell.textContent).join('');
    if (text !== '') window.echoes.drawn.push({ at: performance.now(), text });
  };
  document.addEventListener('keydown', ({ key }) => window.echoes.keys.push({ at: performance.now(), key }), true);
  new MutationObserver(note).observe(document, { subtree: true, childList: true, attributes: true });
}

const drawn = (page) => page.evaluate(() => window.echoes.drawn);
const forget = (page) => page.evaluate(() => void (window.echoes = { keys: [], drawn: [] }));
const overlay = (page) => page.locator('[data-testid="terminal"]:visible .echo');

/** A prompt whose round trip has been measured. */
async function farTerminal() {
  const page = await stage.terminal(far);
  await page.waitForFunction((rtt) => window.__rexec.state().rttMs >= rtt, RTT_MS);
  await shows(page, /[#$]$/);
  await page.locator('[data-testid="terminal"]:visible .xterm-helper-textarea').focus();
  return page;
}

/** Waits until all that was typed has been read, and all that was said is in the terminal. */
async function settled(page) {
  await page.waitForFunction(() => {
    const { inputPending, offset, parsed } = window.__rexec.state();
    return inputPending === 0 && offset === parsed;
  });
}

/** Types a first character and waits until the line is trusted. */
async function begin(page, first) {
  await page.keyboard.type(first);
  await shows(page, new RegExp(`[#$] ${first}$`));
  await settled(page);
}

test('characters are seen within 50 ms, underlined, and confirmed after the round trip', async () => {
  const page = await farTerminal();
  await begin(page, 'e');
  await forget(page);
  const typed = `cho hi''gher`;
  await page.keyboard.type(typed, { delay: 40 });
  const line = await page.evaluate(() => getComputedStyle(document.querySelector('.echo .guess')).textDecorationLine);
  assert.match(line, /underline/);
  const { keys, drawn } = await page.evaluate(() => window.echoes);
  const late = keys.filter(({ key }) => key.length === 1).map(({ at, key }) => {
    const seen = drawn.find((draw) => draw.at >= at && draw.text.endsWith(key));
    return (seen?.at ?? Number.POSITIVE_INFINITY) - at;
  });
  assert.equal(late.length, typed.length);
  assert.ok(Math.max(...late) < AT_ONCE_MS, `seen after ${late.map((ms) => ms.toFixed(1)).join(', ')} ms`);
  await settled(page);
  await overlay(page).waitFor({ state: 'hidden' });
  assert.match(await text(page), /[#$] echo hi''gher$/);
  await page.keyboard.press('Enter');
  await shows(page, /^higher$/m);
  await stage.leave(page);
});

test('erasing and moving are seen at once, too, and the line is right in the end', async () => {
  const page = await farTerminal();
  await begin(page, 'e');
  await page.keyboard.type('chx');
  await page.keyboard.press('Backspace');
  await page.keyboard.type('o lft');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.type('e');
  const seen = await overlay(page).locator('.guess').allTextContents();
  assert.ok(seen.length >= 8, `${seen}`);
  await settled(page);
  await overlay(page).waitFor({ state: 'hidden' });
  assert.match(await text(page), /[#$] echo left$/);
  await page.keyboard.press('Enter');
  await shows(page, /^left$/m);
  await stage.leave(page);
});

test('what turns out wrong is withdrawn', async () => {
  const page = await farTerminal();
  await typeLine(page, `bind '"q": "ZZ"'`);
  await shows(page, /ZZ"'\n.*[#$]$/);
  await begin(page, 'a');
  await forget(page);
  await page.keyboard.type('qb');
  assert.equal((await drawn(page)).at(-1).text, 'qb');
  await overlay(page).waitFor({ state: 'hidden', timeout: SETTLED_MS });
  await shows(page, /[#$] aZZb$/);
  await stage.leave(page);
});

test('nothing of a password is ever shown', async () => {
  const page = await farTerminal();
  await typeLine(page, `read -sp 'Secret: ' secret; echo; echo "$\{#secret} characters"`);
  await shows(page, /^Secret:/m);
  await settled(page);
  await forget(page);
  await page.keyboard.type('hunter2 hunter2', { delay: 60 });
  await page.keyboard.press('Enter');
  await shows(page, /^15 characters$/m);
  assert.deepEqual(await drawn(page), []);
  await stage.leave(page);
});

test('vim and the like are not guessed at', async () => {
  const page = await farTerminal();
  await typeLine(page, 'vim -u NONE -N');
  await shows(page, /^~$/m);
  await page.keyboard.type('i');
  await settled(page);
  await forget(page);
  await page.keyboard.type('abc', { delay: 40 });
  await shows(page, /^abc$/m);
  await settled(page);
  await page.keyboard.type('defgh', { delay: 40 });
  await shows(page, /^abcdefgh$/m);
  assert.deepEqual(await drawn(page), []);
  await page.keyboard.press('Escape');
  await typeLine(page, ':q!');
  await shows(page, /[#$]$/);
  await stage.leave(page);
});

test('a person may have it never, and the choice stays with the device', async () => {
  const page = await farTerminal();
  await by(page, 'rtt').click();
  await by(page, 'echo-setting').getByText('Never', { exact: true }).click();
  await page.keyboard.press('Escape');
  await page.reload();
  await page.waitForFunction((rtt) => window.__rexec?.state()?.rttMs >= rtt, RTT_MS);
  await page.locator('[data-testid="terminal"]:visible .xterm-helper-textarea').focus();
  await begin(page, 'e');
  await page.keyboard.type('cho', { delay: 40 });
  await shows(page, /[#$] echo$/);
  assert.deepEqual(await drawn(page), []);
  await by(page, 'rtt').click();
  await by(page, 'echo-setting').getByText('Auto', { exact: true }).click();
  await stage.leave(page);
});

test('on a near machine nothing is guessed', async () => {
  const near = await stage.newPerson();
  await near.addInitScript(watchEcho);
  const page = await stage.terminal(near);
  await page.waitForFunction(() => window.__rexec.state().rttMs !== null);
  await typeLine(page, `echo ne''ar`);
  await shows(page, /^near$/m);
  assert.deepEqual(await drawn(page), []);
  await near.close();
});
