// The workspace around a terminal: copy, find, tabs over several machines, viewers of different sizes, ending and closing.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { by, cell, clipboard, launchTab, pageOf, running, shows, state, typeLine } from './lib/browser.mjs';
import { isAlive, until } from './lib/processes.mjs';
import { Stage } from './lib/stage.mjs';

let stage;

before(async () => {
  stage = await Stage.set();
});

after(() => stage.strike());
afterEach(() => stage.endShells());

const fits = ({ cols, rows }) => `${rows} ${cols}`;

test('a word is copied by the keyboard and pasted, into the shell and by a program that brackets pastes', async () => {
  const page = await stage.terminal();
  await clipboard(page, 'something else');
  await typeLine(page, `printf '\\033[2J\\033[Hcopied%s here\\n' 42`);
  await shows(page, /^copied42 here$/m);
  await page.mouse.dblclick(...(await cell(page, 3, 0)));
  await page.keyboard.press('Control+Shift+C');
  await until('the word in the clipboard', 5_000, async () => (await clipboard(page)) === 'copied42');
  await page.keyboard.type(`echo "<`);
  await page.keyboard.press('Control+Shift+V');
  await page.keyboard.type(`>"`);
  await page.keyboard.press('Enter');
  await shows(page, /^<copied42>$/m);
  await stage.leave(page);
});

test('find counts, goes on and back, minds case and regular expressions, and gives the keyboard back', async () => {
  const page = await stage.terminal();
  await typeLine(page, `printf '%s\\n' need''le Need''le need''le-9 && seq 200`);
  await shows(page, /^200$/m);
  await page.keyboard.press('Control+Shift+F');
  await by(page, 'find-input').fill('needle-');
  const outcome = (words) => by(page, 'find-outcome').getByText(words, { exact: true }).waitFor();
  await outcome('1 of 1');
  await by(page, 'find-input').fill('^needle');
  await outcome('nothing found');
  await by(page, 'find-regex').click();
  await outcome(/^\d of 3$/);
  await by(page, 'find-case').click();
  await outcome(/^\d of 2$/);
  const first = await by(page, 'find-outcome').innerText();
  await by(page, 'find-next').click();
  await page.waitForFunction((first) => document.querySelector('[data-testid="find-outcome"]').textContent !== first, first);
  await by(page, 'find-previous').click();
  await outcome(first);
  await by(page, 'find-input').press('Escape');
  await by(page, 'find-bar').waitFor({ state: 'detached' });
  await page.keyboard.type(`echo ba''ck`);
  await page.keyboard.press('Enter');
  await shows(page, /^back$/m);
  await stage.leave(page);
});

test('tabs hold sessions of two machines, and each key goes to the one in front', async () => {
  const other = await stage.installation.machine('second');
  const page = await stage.terminal();
  await typeLine(page, 'here=fir""st');
  await launchTab(page, other.id);
  await typeLine(page, 'here=sec""ond');
  await launchTab(page, stage.machine.id);
  assert.equal(await by(page, 'tab').count(), 3);
  await typeLine(page, 'echo "[$here]"');
  await shows(page, /^\[\]$/m);
  assert.deepEqual([stage.machine.shells().length, other.shells().length], [2, 1]);

  for (const [key, machine, said] of [['Alt+1', stage.machine, 'first'], ['Alt+2', other, 'second']]) {
    await page.keyboard.press(key);
    await page.waitForFunction((id) => window.__rexec.state()?.machine === id, machine.id);
    assert.equal(new URL(page.url()).pathname, `/m/${machine.id}`);
    await typeLine(page, 'echo "[$here]"');
    await shows(page, new RegExp(`^\\[${said}\\]$`, 'm'));
  }
  // There is no ninth tab: the key is the shell's, for which it begins an argument.
  await page.keyboard.press('Alt+9');
  await page.keyboard.type('x');
  await shows(page, /x{9}$/m);
  await page.keyboard.press('Control+c');
  await page.reload();
  await running(page);
  assert.equal(await by(page, 'tab').count(), 3);
  await shows(page, /^\[second\]$/m);
  await stage.leave(page);
  await other.agent.stop();
});

test('the round trip is shown as a number, and taken apart', async () => {
  const page = await stage.terminal();
  await by(page, 'rtt').getByText(/^\d+(\.\d+)? ms$/).waitFor();
  await by(page, 'rtt').click();
  await by(page, 'rtt-breakdown').getByText('WebTransport, then QUIC').waitFor();
  await by(page, 'rtt-breakdown').getByText(/^\d+(\.\d+)? ms$/).first().waitFor();
  await page.keyboard.press('Escape');
  await stage.leave(page);
});

test('a smaller screen shows a larger session whole, and takes control of its size', async () => {
  const large = await stage.terminal();
  const before = await state(large);
  const small = await stage.terminal(await stage.newPerson({ viewport: { width: 700, height: 500 } }));
  await by(small, 'lease-bar').getByText(`${before.cols} × ${before.rows}`).waitFor();
  const seen = await state(small);
  assert.deepEqual([fits(seen), seen.lease], [fits(before), false]);
  const inside = await small.locator('[data-testid="terminal"]:visible').evaluate((pane) => {
    const [screen, place] = [pane.querySelector('.xterm-screen'), pane].map((each) => each.getBoundingClientRect());
    return screen.right <= place.right && screen.bottom <= place.bottom;
  });
  assert.ok(inside, 'all of it is on the small screen');
  await typeLine(small, 'stty size');
  await shows(large, new RegExp(`^${fits(before)}$`, 'm'));

  await by(small, 'take-control').click();
  await small.waitForFunction(() => window.__rexec.state().lease);
  const after = await state(small);
  assert.ok(after.cols < before.cols && after.rows < before.rows, fits(after));
  await large.waitForFunction((cols) => window.__rexec.state().cols === cols && !window.__rexec.state().lease, after.cols);
  await large.locator('.boxed').waitFor();
  await typeLine(large, 'stty size');
  await shows(small, new RegExp(`^${fits(after)}$`, 'm'));
  await by(large, 'take-control').click();
  await large.waitForFunction((cols) => window.__rexec.state().cols === cols, before.cols);
  await stage.leave(large, small);
});

test('letters stay in their cells when the window changes its size, with less motion too', async () => {
  const page = await stage.terminal(await stage.newPerson({ reducedMotion: 'reduce' }));
  const before = await state(page);
  await page.setViewportSize({ width: 700, height: 600 });
  await page.waitForFunction((cols) => window.__rexec.state().cols < cols, before.cols);
  // Drawn by the DOM, where letters are spaced by what xterm measured; a canvas has its own grid.
  const spacing = () => page.locator('[data-testid="terminal"]:visible').evaluate((pane) => Number.parseFloat(pane.querySelector('.xterm-rows')?.style.letterSpacing ?? '0'));
  await until('letters in their cells', 5_000, async () => Math.abs(await spacing()) < 0.5);
  await stage.leave(page);
});

test('an ended session is gone from the machine before its tab is', async () => {
  const page = await stage.terminal();
  const [shell] = stage.machine.shells();
  await by(page, 'session-menu').click();
  await by(page, 'menu-end').click();
  await by(page, 'end-confirm').click();
  await by(page, 'tab').waitFor({ state: 'detached' });
  await until('the end of the shell', 5_000, () => !isAlive(shell));
  await stage.leave(page);
});

test('what has not arrived is not dropped without a question', async () => {
  const page = await stage.terminal();
  const uplink = await stage.machine.uplink();
  const { inputAcked } = await state(page);
  process.kill(uplink, 'SIGSTOP');
  try {
    await typeLine(page, 'echo ke""pt');
    await page.keyboard.press('Alt+Shift+W');
    await by(page, 'close-dialog').getByText('may not have reached').waitFor();
    await by(page, 'close-dialog').getByText('Keep it open').click();
    const asked = page.waitForEvent('dialog');
    const reloaded = page.reload({ waitUntil: 'commit' }).catch(() => 'stayed');
    const dialog = await asked;
    assert.equal(dialog.type(), 'beforeunload');
    await dialog.dismiss();
    await Promise.race([reloaded, page.evaluate(() => 'alive')]);
    assert.equal((await state(page)).inputAcked, inputAcked);
  } finally {
    process.kill(uplink, 'SIGCONT');
  }
  await shows(page, /^kept$/m);
  await page.close();
});

test('seven tabs of one person share one stream of events, whichever of them is closed', async () => {
  const context = await stage.newPerson();
  const open = new Set();
  context.on('request', (request) => request.url().endsWith('/api/events') && open.add(request));
  for (const end of ['requestfinished', 'requestfailed']) context.on(end, (request) => open.delete(request));
  const pages = [];
  for (let n = 0; n < 7; n += 1) {
    const page = await pageOf(context);
    pages.push(page);
    await page.goto(`${stage.origin}/`);
    await page.locator(`[data-machine="${stage.machine.id}"][data-online="true"]`).waitFor();
    await page.locator('[data-testid="stream-state"][data-state="live"]').waitFor();
  }
  assert.equal(open.size, 1);
  const renamed = async (name) => {
    const status = await pages.at(-1).evaluate(async ([id, name]) => {
      const headers = { 'content-type': 'application/json', 'x-rexec-csrf': '1' };
      return (await fetch(`/api/machines/${id}`, { method: 'PATCH', headers, body: JSON.stringify({ name }) })).status;
    }, [stage.machine.id, name]);
    assert.equal(status, 200);
    for (const page of pages) await page.getByText(name).first().waitFor();
  };
  await renamed('one-for-all');
  await pages.shift().close();
  await until('another stream', 5_000, () => open.size === 1);
  await pages[0].locator('[data-testid="stream-state"][data-state="live"]').waitFor();
  await renamed('workbench');
  await context.close();
});

test('another person who signs in in the same browser tab does not find the tabs of the one before', async () => {
  const page = await stage.terminal(await stage.newPerson());
  const layout = await page.evaluate(() => sessionStorage.getItem('rexec.workspace'));
  const { user } = JSON.parse(layout);
  assert.match(user, /^[0-9a-f-]{36}$/);
  const another = layout.replace(user, '00000000-0000-4000-8000-000000000000');
  await page.goto(`${stage.origin}/`);
  await page.evaluate((layout) => sessionStorage.setItem('rexec.workspace', layout.replaceAll('"name":""', '"name":"not yours"')), another);
  await page.goto(`${stage.origin}/m/${stage.machine.id}`);
  await running(page);
  await by(page, 'tab').waitFor();
  assert.ok(!(await by(page, 'tab').allInnerTexts()).join().includes('not yours'));
  await page.context().close();
});
