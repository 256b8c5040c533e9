// One tab, several panes: divided, dragged, typed in together, taken apart, in a window of their own, back after a reload and on another device.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { by, pageOf, running, shows, state, text, typeLine } from './lib/browser.mjs';
import { until } from './lib/processes.mjs';
import { Stage } from './lib/stage.mjs';

let stage;

before(async () => {
  stage = await Stage.set();
});

after(() => stage.strike());
afterEach(() => stage.endShells());

const panes = (page) => page.locator('[data-testid="terminal"]:visible');
const boxes = async (page) => Promise.all((await panes(page).all()).map((pane) => pane.boundingBox()));

/** Divides the tab and waits for the new shell. */
async function split(page, key) {
  const before = await state(page);
  await page.keyboard.press(key);
  await page.waitForFunction((session) => window.__rexec.state()?.session !== session, before.session);
  await running(page);
}

/** Goes to the pane that way. */
async function go(page, key) {
  const before = await state(page);
  await page.keyboard.press(key);
  await page.waitForFunction((session) => window.__rexec.state()?.session !== session, before.session);
}

async function type(page, line) {
  await page.keyboard.type(line);
  await page.keyboard.press('Enter');
}

/** What is kept in the account. */
const kept = (page) => page.evaluate(async () => (await (await fetch('/api/me/preferences')).json()).workspace);

test('panes are opened beside and below, each with a shell of its own size, and the keyboard goes from one to the next', async () => {
  const page = await stage.terminal();
  const whole = await state(page);
  await type(page, 'here=fir""st');
  await split(page, 'Alt+Shift+D');
  await type(page, 'here=sec""ond');
  await split(page, 'Alt+Shift+E');
  assert.equal(await panes(page).count(), 3);
  assert.equal(await by(page, 'tab').count(), 1);
  await by(page, 'tab-panes').getByText('3', { exact: true }).waitFor();
  const small = await state(page);
  assert.ok(small.cols < whole.cols * 0.6 && small.rows < whole.rows * 0.6, 'a quarter of the space has a quarter of the cells');
  await type(page, 'stty size');
  await shows(page, new RegExp(`^${small.rows} ${small.cols}$`, 'm'));
  await go(page, 'Alt+Shift+ArrowUp');
  await type(page, 'echo "[$here]"');
  await shows(page, /^\[second\]$/m);
  await go(page, 'Alt+Shift+ArrowLeft');
  await type(page, 'echo "[$here]"');
  await shows(page, /^\[first\]$/m);
  // A click gives the keyboard, too.
  await panes(page).nth(2).click();
  await page.waitForFunction((session) => window.__rexec.state().session === session, small.session);
  await stage.leave(page);
});

test('a divider is dragged and moved by keys, and a double click halves it again', async () => {
  const page = await stage.terminal();
  await split(page, 'Alt+Shift+D');
  const width = async () => (await boxes(page))[0].width;
  const [all, half] = [(await page.locator('.stage').boundingBox()).width, await width()];
  assert.ok(Math.abs(half - all / 2) < 2);
  const line = await by(page, 'divider').boundingBox();
  const at = { x: line.x + line.width / 2, y: line.y + line.height / 2 };
  await page.mouse.move(at.x, at.y);
  await page.mouse.down();
  await page.mouse.move(at.x - 200, at.y, { steps: 5 });
  await page.mouse.up();
  await until('a narrower pane', 5_000, async () => Math.abs((await width()) - (half - 200)) < 4);
  await by(page, 'divider').press('ArrowRight');
  await until('a wider pane', 5_000, async () => (await width()) > half - 195);
  await by(page, 'divider').dblclick();
  await until('halves', 5_000, async () => Math.abs((await width()) - half) < 2);
  await stage.leave(page);
});

test('what is typed goes to all panes that take part, reports of the mouse and of focus do not', async () => {
  const page = await stage.terminal();
  await split(page, 'Alt+Shift+D');
  await page.keyboard.press('Alt+Shift+B');
  await by(page, 'broadcast').waitFor();
  await type(page, 'echo tog""ether');
  await shows(page, /^together$/m);
  await go(page, 'Alt+Shift+ArrowLeft');
  await shows(page, /^together$/m);
  // A program that asks for focus and mouse: its reports stay in its own pane.
  await type(page, `stty -echo; printf '\\033[?1004h\\033[?1000h\\033[?1006h'; cat -v`);
  await panes(page).nth(1).click();
  await panes(page).nth(0).click();
  await type(page, 'end');
  await shows(page, /end/);
  const first = await text(page);
  await go(page, 'Alt+Shift+ArrowRight');
  const second = await text(page);
  const reports = (shown) => shown.match(/\^\[\[(?:[IO]|<\d+;\d+;\d+[Mm])/g)?.length ?? 0;
  assert.ok(reports(first) > 0 && reports(second) > 0, 'each pane reports what happens to it');
  assert.equal(first.match(/\^\[\[<\d+;\d+;\d+M/g)?.length, 1, 'one press of the mouse in each pane');
  await page.keyboard.press('Control+C');
  await type(page, `stty echo; printf '\\033[?1004l\\033[?1000l'`);
  await by(page, 'broadcast').click();
  await by(page, 'broadcast').waitFor({ state: 'detached' });
  await panes(page).nth(1).click();
  await type(page, 'echo al""one');
  await shows(page, /^alone$/m);
  await go(page, 'Alt+Shift+ArrowLeft');
  assert.doesNotMatch(await text(page), /^alone$/m);
  await stage.leave(page);
});

test('a tab is dragged into another, a pane into a tab of its own, by pointer and by the menu', async () => {
  const page = await stage.terminal();
  await page.keyboard.press('Alt+Shift+T');
  await page.waitForFunction(() => document.querySelectorAll('[data-testid="tab"]').length === 2);
  await running(page);
  await by(page, 'tab').nth(0).dragTo(page.locator('.stage'), { targetPosition: { x: 30, y: 300 } });
  await until('one tab of two panes', 5_000, async () => (await by(page, 'tab').count()) === 1 && (await panes(page).count()) === 2);
  await by(page, 'session-menu').click();
  await by(page, 'menu-lift').click();
  await until('two tabs', 5_000, async () => (await by(page, 'tab').count()) === 2 && (await panes(page).count()) === 1);
  const order = () => by(page, 'tab').evaluateAll((tabs) => tabs.map((tab) => tab.dataset.session));
  const before = await order();
  await by(page, 'tab').nth(1).dragTo(by(page, 'tab').nth(0));
  await until('the other order', 5_000, async () => (await order()).join() === before.toReversed().join());
  await stage.leave(page);
});

test('the layout is back after a reload, and in another browser, with the bytes that were there', async () => {
  const page = await stage.terminal();
  await split(page, 'Alt+Shift+D');
  await by(page, 'divider').press('ArrowLeft');
  await page.keyboard.press('Alt+Shift+R');
  await page.keyboard.type('right side');
  await page.keyboard.press('Enter');
  await type(page, 'echo st""ill');
  await shows(page, /^still$/m);
  const before = await boxes(page);
  await page.reload();
  await running(page);
  await shows(page, /^still$/m);
  assert.deepEqual(await boxes(page), before);
  await until('the account to have it', 10_000, async () => (await kept(page))?.places.some(({ name }) => name === 'right side'));

  const other = await stage.terminal(await stage.newPerson());
  await panes(other).nth(1).waitFor();
  assert.deepEqual(await boxes(other), before);
  await by(other, 'tab').getByText('right side').waitFor();
  await shows(other, /^still$/m);
  await stage.leave(page, other);
});

test('a session in a window of its own is not in the tab any more, and its window keeps nothing', async () => {
  const page = await stage.terminal();
  await split(page, 'Alt+Shift+D');
  const { session } = await state(page);
  await type(page, 'echo he""re');
  await shows(page, /^here$/m);
  const opened = page.context().waitForEvent('page');
  await by(page, 'session-menu').click();
  await by(page, 'menu-detach').click();
  const own = await opened;
  await running(own);
  assert.equal((await state(own)).session, session);
  assert.equal(await own.evaluate(() => window.opener), null);
  await shows(own, /^here$/m);
  assert.equal(await panes(page).count(), 1);
  await until('the account to know', 10_000, async () => !(await kept(page)).places.some((place) => place.session === session));
  await own.reload();
  await running(own);
  assert.equal((await state(own)).session, session);
  assert.equal((await kept(page)).places.length, 1);
  await own.close();
  await stage.leave(page);
});

test('an address that names a session comes to it', async () => {
  const page = await stage.terminal();
  const { session } = await state(page);
  await page.keyboard.press('Alt+Shift+T');
  await page.waitForFunction((before) => window.__rexec.state()?.session !== before, session);
  const other = await pageOf(await stage.newPerson());
  await other.goto(`${stage.origin}/m/${stage.machine.id}?session=${session}`);
  await running(other);
  assert.equal((await state(other)).session, session);
  assert.equal(new URL(other.url()).search, '');
  await typeLine(other, 'echo to""gether');
  await shows(other, /^together$/m);
  await stage.leave(page, other);
});
