// Files on any machine: listed, uploaded, downloaded, edited, moved, from one machine to another, through cuts.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { by, pageOf, running, shows, typeLine } from './lib/browser.mjs';
import { until } from './lib/processes.mjs';
import { Stage } from './lib/stage.mjs';

let stage;
let other;
/** The home of the first machine, and of the second. */
let home;
let otherHome;
const local = mkdtempSync(join(tmpdir(), 'rexec-files-'));

before(async () => {
  stage = await Stage.set();
  other = await stage.installation.machine('backup');
  [home, otherHome] = [join(stage.machine.dir, 'home'), join(other.dir, 'home')];
});

after(async () => {
  await stage.strike();
  rmSync(local, { recursive: true, force: true });
});

beforeEach(() => {
  for (const dir of [home, otherHome]) for (const name of readdirSync(dir)) rmSync(join(dir, name), { recursive: true, force: true });
});

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const pane = (page, at = 0) => by(page, 'files-pane').nth(at);
const entry = (where, name) => where.locator(`[data-testid="entry"][data-name=${JSON.stringify(name)}]`);
const names = (where) => where.locator('[data-testid="entry"]').evaluateAll((rows) => rows.map((row) => row.dataset.name));
const transfer = (page, state) => page.locator(`[data-testid="transfer"][data-state="${state}"]`);

/** A page that shows the home of the first machine. */
async function opened(path = '') {
  const page = await pageOf(stage.context);
  await page.goto(`${stage.origin}/m/${stage.machine.id}/files${path}`);
  await pane(page).locator('[data-testid="path"]').waitFor();
  await page.waitForFunction(() => document.querySelector('[data-testid="path"]')?.dataset.path !== '');
  return page;
}

async function menu(page, where, name, item) {
  await by(entry(where, name), 'entry-menu').click();
  await by(page, item).click();
}

test('a machine is looked through by mouse and by keys, from its row to a path that is typed', async () => {
  mkdirSync(join(home, 'project/src'), { recursive: true });
  writeFileSync(join(home, 'project/run.sh'), '#!/bin/sh\n');
  chmodSync(join(home, 'project/run.sh'), 0o755);
  writeFileSync(join(home, 'project/src/main.c'), 'int main;\n');
  writeFileSync(join(home, 'notes 10.txt'), '0123456789');
  writeFileSync(join(home, 'notes 9.txt'), '');
  writeFileSync(join(home, '.hidden'), '');
  symlinkSync('project', join(home, 'to-project'));
  symlinkSync('/nowhere/at/all', join(home, 'broken'));
  const page = await pageOf(stage.context);
  await page.goto(stage.origin);
  await page.locator(`[data-machine="${stage.machine.id}"]`).getByTestId('machine-menu').click();
  await by(page, 'files-machine-row').click();
  await entry(pane(page), 'project').waitFor();
  assert.deepEqual(await names(pane(page)), ['project', 'to-project', 'broken', 'notes 9.txt', 'notes 10.txt']);
  await by(page, 'files-hidden').click();
  await entry(pane(page), '.hidden').waitFor();
  // By keys alone: down into a directory and up again.
  await by(entry(pane(page), 'project'), 'open-entry').focus();
  await page.keyboard.press('Enter');
  await entry(pane(page), 'run.sh').getByText('rwxr-xr-x').waitFor();
  await by(entry(pane(page), 'src'), 'open-entry').focus();
  await page.keyboard.press('ArrowDown');
  await page.waitForFunction(() => document.activeElement?.closest('[data-name]')?.dataset.name === 'run.sh');
  await page.keyboard.press('Backspace');
  await entry(pane(page), 'to-project').waitFor();
  await by(entry(pane(page), 'to-project'), 'open-entry').click();
  await entry(pane(page), 'run.sh').waitFor();
  await by(page, 'type-path').click();
  await by(page, 'path-input').fill('~/project/../project/src');
  await page.keyboard.press('Enter');
  await entry(pane(page), 'main.c').waitFor();
  assert.match(page.url(), /path=.*project%2Fsrc/);
  // The way back is the browser's.
  await page.goBack();
  await entry(pane(page), 'run.sh').waitFor();
  await by(page, 'type-path').click();
  await by(page, 'path-input').fill('/no/such/place');
  await page.keyboard.press('Enter');
  await by(page, 'files-error').getByText('there is nothing of this name').waitFor();
  const told = await page.evaluate(async () => (await (await fetch('/api/activity')).json()).map(({ action, target_name }) => [action, target_name]));
  assert.deepEqual(told.filter(([action]) => /^(session|files)/.test(action)), [['files.open', 'workbench']]);
  await stage.leave(page);
});

test('files and folders go up, and down as what they were; what is there is replaced only if that is wished', async () => {
  const page = await opened();
  const bytes = randomBytes(3_000_000);
  writeFileSync(join(local, 'data.bin'), bytes);
  await by(page, 'upload-input').setInputFiles(join(local, 'data.bin'));
  await entry(pane(page), 'data.bin').waitFor();
  assert.equal(sha256(readFileSync(join(home, 'data.bin'))), sha256(bytes));
  assert.equal(readdirSync(home).length, 1, 'nothing else is left');
  // The same name again.
  writeFileSync(join(local, 'data.bin'), 'other');
  await by(page, 'upload-input').setInputFiles(join(local, 'data.bin'));
  await by(page, 'replace-dialog').getByText('Do not upload').click();
  assert.equal(sha256(readFileSync(join(home, 'data.bin'))), sha256(bytes));
  await by(page, 'upload-input').setInputFiles(join(local, 'data.bin'));
  await by(page, 'confirm-replace').click();
  await until('the other file', 5_000, () => readFileSync(join(home, 'data.bin'), 'utf8') === 'other');
  // A folder, with an empty file in it.
  mkdirSync(join(local, 'tree/a/b'), { recursive: true });
  for (const [name, text] of [['tree/one.txt', 'one'], ['tree/a/two.txt', 'two'], ['tree/a/b/three', ''], ['tree/a/b/four', 'four']]) writeFileSync(join(local, name), text);
  await by(page, 'folder-input').setInputFiles(join(local, 'tree'));
  await entry(pane(page), 'tree').waitFor();
  await transfer(page, 'done').nth(2).waitFor();
  execFileSync('diff', ['-r', join(local, 'tree'), join(home, 'tree')]);
  // And back.
  const saved = page.waitForEvent('download');
  await menu(page, pane(page), 'data.bin', 'entry-download');
  const file = await saved;
  assert.equal(file.suggestedFilename(), 'data.bin');
  assert.equal(readFileSync(await file.path(), 'utf8'), 'other');
  const archived = page.waitForEvent('download');
  await menu(page, pane(page), 'tree', 'entry-download');
  const archive = await archived;
  assert.equal(archive.suggestedFilename(), 'tree.tar');
  mkdirSync(join(local, 'back'));
  execFileSync('tar', ['-xf', await archive.path(), '-C', join(local, 'back')]);
  execFileSync('diff', ['-r', join(local, 'tree'), join(local, 'back/tree')]);
  await stage.leave(page);
});

test('an upload whose server is killed half-way goes on by itself and has an equal hash', async () => {
  const page = await opened();
  const bytes = randomBytes(160_000_000);
  writeFileSync(join(local, 'large.bin'), bytes);
  await by(page, 'upload-input').setInputFiles(join(local, 'large.bin'));
  const gathering = () => readdirSync(home).find((name) => name.startsWith('.rexec-upload-'));
  const there = () => { const name = gathering(); return name === undefined ? 0 : statSync(join(home, name)).size; };
  await until('a part of it', 20_000, () => there() > 10_000_000);
  await stage.installation.control.kill9();
  const part = there();
  assert.ok(part < bytes.length, 'it was quicker than the cut');
  await transfer(page, 'retrying').waitFor();
  assert.ok(!existsSync(join(home, 'large.bin')), 'half a file has no name');
  await stage.installation.startControl();
  await stage.machine.online();
  await until('the file', 60_000, () => existsSync(join(home, 'large.bin')));
  assert.equal(sha256(readFileSync(join(home, 'large.bin'))), sha256(bytes));
  await transfer(page, 'done').waitFor();
  assert.deepEqual(readdirSync(home), ['large.bin']);
  page.complaints.length = 0;
  await stage.leave(page);
});

test('an upload is cancelled, and goes on where it was when it is tried again', async () => {
  const page = await opened();
  const bytes = randomBytes(200_000_000);
  writeFileSync(join(local, 'stopped.bin'), bytes);
  await by(page, 'upload-input').setInputFiles(join(local, 'stopped.bin'));
  const part = () => readdirSync(home).filter((name) => name.startsWith('.rexec-upload-')).map((name) => statSync(join(home, name)).size)[0] ?? 0;
  await until('a part of it', 20_000, () => part() > 10_000_000);
  await by(page, 'cancel-transfer').click();
  await transfer(page, 'cancelled').waitFor();
  const kept = part();
  assert.ok(kept > 10_000_000 && kept < bytes.length);
  await by(page, 'retry-transfer').click();
  await until('the file', 60_000, () => existsSync(join(home, 'stopped.bin')));
  assert.equal(sha256(readFileSync(join(home, 'stopped.bin'))), sha256(bytes));
  await stage.leave(page);
});

test('folders are made, things get other names and places, and go only after a question', async () => {
  writeFileSync(join(home, 'draft.txt'), 'draft');
  writeFileSync(join(home, 'taken.txt'), 'taken');
  const page = await opened();
  await by(page, 'new-folder').click();
  await by(page, 'name-input').fill('a/b');
  await by(page, 'name-save').click();
  await page.getByText('A name has no slash').waitFor();
  await by(page, 'name-input').fill('archive');
  await by(page, 'name-save').click();
  await entry(pane(page), 'archive').waitFor();
  await menu(page, pane(page), 'draft.txt', 'entry-rename');
  await by(page, 'name-input').fill('taken.txt');
  await by(page, 'name-save').click();
  await page.getByText('there is something of this name already').waitFor();
  await by(page, 'name-input').fill('archive/final.txt');
  await by(page, 'name-save').click();
  await entry(pane(page), 'draft.txt').waitFor({ state: 'detached' });
  assert.equal(readFileSync(join(home, 'archive/final.txt'), 'utf8'), 'draft');
  await by(entry(pane(page), 'archive'), 'select-entry').click();
  await by(entry(pane(page), 'taken.txt'), 'select-entry').click();
  await by(page, 'files-delete').click();
  await by(page, 'delete-files').getByText('Keep').click();
  assert.ok(existsSync(join(home, 'taken.txt')));
  await by(page, 'files-delete').click();
  await by(page, 'confirm-delete-files').click();
  await until('an empty home', 5_000, () => readdirSync(home).length === 0);
  await pane(page).getByText('Nothing here').waitFor();
  await stage.leave(page);
});

test('a text is edited and keeps its permissions; what somebody else wrote meanwhile is not lost', async () => {
  const path = join(home, 'app.conf');
  writeFileSync(path, 'port = 80\nname = "ü"\n');
  chmodSync(path, 0o640);
  writeFileSync(join(home, 'blob'), Buffer.from([0, 1, 2, 255]));
  const page = await opened();
  await by(entry(pane(page), 'app.conf'), 'open-entry').click();
  await by(page, 'editor-text').waitFor();
  assert.equal(await by(page, 'editor-text').inputValue(), 'port = 80\nname = "ü"\n');
  await by(page, 'editor-text').fill('port = 8080\n');
  await page.keyboard.press('Control+s');
  await by(page, 'editor').getByText('Saved').waitFor();
  assert.equal(readFileSync(path, 'utf8'), 'port = 8080\n');
  assert.equal(statSync(path).mode & 0o777, 0o640);
  writeFileSync(path, 'theirs, which is longer\n');
  await by(page, 'editor-text').fill('mine\n');
  await by(page, 'editor-save').click();
  await by(page, 'editor-error').getByText('It was changed on the machine', { exact: true }).waitFor();
  assert.equal(readFileSync(path, 'utf8'), 'theirs, which is longer\n');
  // Escape drops nothing at once.
  await page.keyboard.press('Escape');
  await by(page, 'editor').getByText('Close again to drop it').waitFor();
  await by(page, 'editor-overwrite').click();
  await until('mine', 5_000, () => readFileSync(path, 'utf8') === 'mine\n');
  await page.keyboard.press('Escape');
  await by(page, 'editor').waitFor({ state: 'detached' });
  await by(entry(pane(page), 'blob'), 'open-entry').click();
  await by(page, 'editor').getByText('This is no text.').waitFor();
  await stage.leave(page);
});

test('in two panes things are moved within a machine and copied to another one', async () => {
  mkdirSync(join(home, 'set/inner'), { recursive: true });
  writeFileSync(join(home, 'set/inner/x.txt'), 'x');
  writeFileSync(join(home, 'single.bin'), randomBytes(500_000));
  mkdirSync(join(home, 'away'));
  const page = await opened();
  await by(page, 'second-pane').click();
  await by(pane(page, 1), 'files-machine').selectOption({ label: 'backup' });
  await page.locator(`[data-testid="files-pane"][data-machine="${other.id}"]`).getByText('Nothing here').waitFor();
  await entry(pane(page, 0), 'set').dragTo(pane(page, 1));
  await until('the folder on the other machine', 10_000, () => existsSync(join(otherHome, 'set/inner/x.txt')));
  // What dragging does, the keyboard can do by the menu.
  await menu(page, pane(page, 0), 'single.bin', 'entry-copy-over');
  await until('the file on the other machine', 10_000, () => existsSync(join(otherHome, 'single.bin')));
  assert.equal(sha256(readFileSync(join(otherHome, 'single.bin'))), sha256(readFileSync(join(home, 'single.bin'))));
  assert.ok(existsSync(join(home, 'single.bin')), 'a copy leaves what it was made of');
  // The address brings both panes back.
  await page.waitForFunction(() => location.search.includes('beside='));
  await page.reload();
  await entry(pane(page, 1), 'single.bin').waitFor();
  await by(pane(page, 1), 'files-machine').selectOption({ label: 'workbench' });
  await by(entry(pane(page, 1), 'away'), 'open-entry').click();
  await pane(page, 1).getByText('Nothing here').waitFor();
  await entry(pane(page, 0), 'single.bin').dragTo(pane(page, 1));
  await until('it has moved', 5_000, () => existsSync(join(home, 'away/single.bin')));
  assert.ok(!existsSync(join(home, 'single.bin')));
  await stage.leave(page);
});

test('a file dropped on a terminal is where its shell is, and replaces nothing there', async () => {
  mkdirSync(join(home, 'work'));
  writeFileSync(join(home, 'work/drop.txt'), 'first');
  writeFileSync(join(local, 'drop.txt'), 'second');
  const page = await stage.terminal();
  await typeLine(page, String.raw`cd ~/work; PS1='$ '; printf '\e]7;file://host%s\e\\' "$PWD"; echo re""ady`);
  await shows(page, /^ready$/m);
  const box = await page.locator('[data-testid="terminal"]:visible').boundingBox();
  const at = { x: box.x + 200, y: box.y + 100 };
  const session = await page.context().newCDPSession(page);
  const data = { items: [], files: [join(local, 'drop.txt')], dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver']) await session.send('Input.dispatchDragEvent', { type, ...at, data });
  await page.getByText(/Drop to upload to .*work/).waitFor();
  await session.send('Input.dispatchDragEvent', { type: 'drop', ...at, data });
  await until('the file', 10_000, () => existsSync(join(home, 'work/drop (2).txt')));
  assert.equal(readFileSync(join(home, 'work/drop (2).txt'), 'utf8'), 'second');
  assert.equal(readFileSync(join(home, 'work/drop.txt'), 'utf8'), 'first');
  await by(page, 'session-menu').click();
  await by(page, 'menu-files').click();
  await entry(pane(page), 'drop (2).txt').waitFor();
  await stage.leave(page);
  await stage.endShells();
});

test('out_09 names that are markup, directions or commands are shown as names', async () => {
  const hostile = ['<img src=x onerror=alert(1)>', '\u202egpj.exe', '"><script>alert(1)</script>', 'a\nb', '$(reboot)', 'javascript:alert(1)'].map((name) => name.replaceAll('/', '∕'));
  for (const name of hostile) writeFileSync(join(home, name), 'x');
  const page = await opened();
  await entry(pane(page), '$(reboot)').waitFor();
  assert.deepEqual((await names(pane(page))).sort(), hostile.toSorted());
  assert.equal(await pane(page).locator('img, script').count(), 0);
  for (const name of hostile) {
    await by(pane(page).locator('[data-testid="entry"]').nth((await names(pane(page))).indexOf(name)), 'select-entry').click();
  }
  await by(page, 'files-delete').click();
  await by(page, 'confirm-delete-files').click();
  await until('they are gone', 5_000, () => readdirSync(home).length === 0);
  await stage.leave(page);
});

test('ten thousand entries are scrolled through, and the end is reached by one key', async () => {
  for (let number = 0; number < 10_000; number += 1) writeFileSync(join(home, `file-${number}`), '');
  const page = await opened();
  await entry(pane(page), 'file-0').waitFor();
  assert.ok((await names(pane(page))).length < 100, 'what is not on the screen is not in the page');
  await by(entry(pane(page), 'file-0'), 'open-entry').focus();
  await page.keyboard.press('End');
  await page.waitForFunction(() => document.activeElement?.closest('[data-name]')?.dataset.name === 'file-9999');
  await page.getByText('10000 entries').waitFor();
  await stage.leave(page);
});

test('who looks at a machine that goes offline is told, and shown it again when it is back', async () => {
  writeFileSync(join(otherHome, 'there.txt'), '');
  const page = await pageOf(stage.context);
  await page.goto(`${stage.origin}/m/${other.id}/files`);
  await entry(pane(page), 'there.txt').waitFor();
  await other.agent.stop();
  await by(page, 'files-refresh').click();
  await by(page, 'files-error').waitFor();
  other.start();
  await other.online();
  await entry(pane(page), 'there.txt').waitFor();
  page.complaints.length = 0;
  await stage.leave(page);
});
