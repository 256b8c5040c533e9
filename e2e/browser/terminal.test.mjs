// A terminal in the browser behaves as a terminal does: full-screen programs, sizes, scripts of the world, reload, two browsers.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { by, clipboard, countTo, numbers, running, shows, state, text, typeLine } from './lib/browser.mjs';
import { until } from './lib/processes.mjs';
import { Stage } from './lib/stage.mjs';

let stage;
let dir;

before(async () => {
  stage = await Stage.set();
  dir = stage.dir;
});

after(() => stage.strike());
afterEach(() => stage.endShells());

test('vim edits a file', async () => {
  const page = await stage.terminal();
  const file = join(dir, 'note.txt');
  await typeLine(page, `vim -u NONE -N ${file}`);
  await shows(page, /^~$/m);
  await page.keyboard.type('iwritten in vim');
  await shows(page, /^written in vim$/m);
  await page.keyboard.press('Escape');
  await page.keyboard.type(':wq');
  await page.keyboard.press('Enter');
  // The command line that started it is on the screen from before.
  await shows(page, /vim -u NONE/);
  await typeLine(page, `echo le''ft`);
  await shows(page, /^left$/m);
  assert.equal(readFileSync(file, 'utf8'), 'written in vim\n');
  assert.ok(!/^~$/m.test(await text(page)), 'the screen from before vim is back');
  await stage.leave(page);
});

test('htop paints the whole screen and gives it back', async () => {
  const page = await stage.terminal();
  await typeLine(page, 'htop');
  await shows(page, /Load average[\s\S]*F10Quit/);
  await page.keyboard.press('q');
  await typeLine(page, `echo le''ft`);
  await shows(page, /^left$/m);
  await stage.leave(page);
});

test('tmux splits, and survives a reload', async () => {
  const page = await stage.terminal();
  const tmux = `tmux -L rexec-${process.pid} -f /dev/null`;
  await typeLine(page, `${tmux} new-session 'echo one-pa""ne; exec sh'`);
  await shows(page, 'one-pane');
  await page.keyboard.press('Control+b');
  await page.keyboard.type('%');
  await shows(page, /│/);
  await typeLine(page, 'echo other-""pane');
  await shows(page, 'other-pane');
  await page.reload();
  await running(page);
  await shows(page, /one-pane[\s\S]*│|│[\s\S]*other-pane/);
  await typeLine(page, `${tmux} kill-server`);
  await shows(page, /exited|server/);
  await stage.leave(page);
});

test('a terminal of 200 by 60 is 200 by 60 for the program, too', async () => {
  const page = await stage.terminal();
  const viewport = page.viewportSize();
  // Cells are as wide as the font makes them: the window is fitted until 200 by 60 cells fit, as a person would drag it.
  for (let tries = 0; tries < 8; tries += 1) {
    const { cols, rows } = await state(page);
    if (cols === 200 && rows === 60) break;
    const cell = await page.locator('.xterm-screen').first().evaluate((screen, { cols, rows }) => ({ width: screen.clientWidth / cols, height: screen.clientHeight / rows }), { cols, rows });
    viewport.width = Math.ceil(viewport.width + (200 - cols) * cell.width + (tries ? 1 : 0));
    viewport.height = Math.ceil(viewport.height + (60 - rows) * cell.height + (tries ? 1 : 0));
    await page.setViewportSize(viewport);
    await page.waitForFunction(([cols, rows]) => { const now = window.__rexec.state(); return now.cols !== cols || now.rows !== rows; }, [cols, rows]);
  }
  await typeLine(page, 'stty size');
  await shows(page, /^60 200$/m);
  await typeLine(page, `printf '%0200d\\n' 7 | tr 0 x`);
  await shows(page, new RegExp(`^x{199}7$`, 'm'));
  await stage.leave(page);
});

test('the scripts of the world arrive, are as wide as they should be, and can be typed', async () => {
  const page = await stage.terminal();
  await typeLine(page, `printf '%s\\n' '日本語|' '한국어|' 'a🦀b|' 'é→ß|'`);
  await shows(page, /^日本語\|$/m);
  await shows(page, /^한국어\|$/m);
  await shows(page, /^a🦀b\|$/m);
  await shows(page, /^é→ß\|$/m);
  await page.locator('.xterm-helper-textarea').first().focus();
  await page.keyboard.insertText(`printf '[%s]\\n' 漢字🎉`);
  await page.keyboard.press('Enter');
  await shows(page, /^\[漢字🎉\]$/m);
  // Wide characters fill two cells: the shell's own idea of the width and the terminal's agree when the marker ends in one column.
  await typeLine(page, `printf '日本\\033[6G#\\nabcd\\033[6G#\\n'`);
  await shows(page, /^日本 #\nabcd #$/m);
  await stage.leave(page);
});

test('a reload in the middle of a counting loop shows every number once', async () => {
  const page = await stage.terminal();
  const last = 900;
  await typeLine(page, countTo(last));
  await shows(page, /^n150\.$/m);
  await page.reload();
  await running(page);
  await shows(page, /^n400\.$/m);
  await page.reload();
  await running(page);
  await shows(page, /^over$/m, 30_000);
  assert.deepEqual(await numbers(page), Array.from({ length: last }, (_, number) => number));
  await stage.leave(page);
});

test('two browsers on one session see the same, and both can type', async () => {
  const page = await stage.terminal();
  const { session } = await state(page);
  await typeLine(page, `printf '\\033[32mgreen\\033[m %s\\n' {1..60}`);
  await shows(page, /^green 60$/m);

  const other = await stage.newPerson();
  const second = await stage.terminal(other);
  await second.waitForFunction((session) => window.__rexec.state()?.session === session, session);
  await shows(second, /^green 60$/m);
  await typeLine(second, `echo from-the-se''cond`);
  await shows(page, /^from-the-second$/m);
  await typeLine(page, `echo from-the-fi''rst`);
  await shows(second, /^from-the-first$/m);
  await until('both at the same byte', 5_000, async () => {
    const [one, two] = [await state(page), await state(second)];
    return one.parsed === two.parsed && one.parsed === one.offset;
  });
  assert.equal(await text(second), await text(page));
  await by(page, 'viewer-count').waitFor();
  await other.close();
  await stage.leave(page);
});

test('closing the page leaves the shell running', async () => {
  const page = await stage.terminal();
  await typeLine(page, `sleep 0.5 && touch ${dir}/went-on; echo fin''ished`);
  await page.close();
  const again = await stage.terminal();
  await shows(again, /^finished$/m);
  await stage.leave(again);
});

test('5 MB pasted into cat arrive byte for byte, after a question', async () => {
  const page = await stage.terminal();
  const file = join(dir, 'pasted');
  // Lines shorter than the 4,095 bytes a terminal takes as one.
  const pasted = randomBytes(3_750_000).toString('base64').replaceAll(/.{100}/g, '$&\n').concat('\n');
  assert.ok(pasted.length > 5_000_000);
  await typeLine(page, `cat > ${file}`);
  await until('cat', 5_000, () => existsSync(file));
  await clipboard(page, pasted);
  await page.keyboard.press('Control+Shift+V');
  await by(page, 'paste-bar').getByText(/50,\d\d\d lines/).waitFor();
  assert.equal((await state(page)).inputPending, 0, 'nothing is typed before the answer');
  await by(page, 'paste-confirm').click();
  await by(page, 'input-pending').waitFor();
  await until('all of it in the file', 120_000, () => statSync(file).size >= pasted.length);
  await page.waitForFunction(() => window.__rexec.state().inputPending === 0);
  await page.keyboard.press('Control+d');
  await typeLine(page, `echo pas''ted`);
  await shows(page, /^pasted$/m, 60_000);
  const hash = (bytes) => createHash('sha256').update(bytes).digest('hex');
  assert.equal(hash(readFileSync(file)), hash(pasted));
  await stage.leave(page);
});
