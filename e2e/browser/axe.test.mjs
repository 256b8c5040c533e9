// Every page and every dialog, in both themes, has no barrier that axe can find.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { assertNoBarriers } from './lib/axe.mjs';
import { by, launch, openTerminal, pageOf, person, running, signIn } from './lib/browser.mjs';
import { Installation, Machine } from './lib/installation.mjs';

let browser;
let installation;

before(async () => {
  browser = await launch();
  installation = await Installation.start({ owner: false });
});

after(async () => {
  await browser.close();
  await installation.stop();
});

/** Looks in both themes. */
async function look(page, place) {
  for (const colorScheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    // What fades in or changes its colour has none of its own yet.
    await page.waitForFunction(() => document.getAnimations().every((each) => each.playState !== 'running' || each.effect.getComputedTiming().endTime === Infinity));
    await assertNoBarriers(page, `${place}, ${colorScheme}`);
  }
}

test('before there is an owner', async () => {
  const page = await pageOf(await person(browser));
  await page.goto(installation.run(['setup-link']).trim());
  await by(page, 'setup-form').waitFor();
  await look(page, 'set-up');
  installation.makeOwner();
  await page.context().close();
});

test('for everybody', async () => {
  const page = await pageOf(await person(browser));
  await page.goto(installation.origin);
  await by(page, 'live-preview').locator('.xterm-screen').waitFor();
  await look(page, 'landing');
  await page.goto(`${installation.origin}/ai-tools`);
  await by(page, 'install-steps').first().waitFor();
  await look(page, 'AI tools');
  await page.goto(`${installation.origin}/sign-in`);
  await by(page, 'submit').click();
  await page.getByText('Enter your password').waitFor();
  await look(page, 'sign-in with errors');
  await page.context().close();
});

test('for who is signed in', async () => {
  const page = await pageOf(await person(browser, { viewport: { width: 1500, height: 900 } }));
  await signIn(page, installation.origin).catch(() => by(page, 'first-machine').waitFor());
  await look(page, 'no machine yet');
  const machine = await installation.machine('workbench');
  await by(page, 'machine-row').waitFor();
  await by(page, 'activity-entry').first().waitFor();
  await look(page, 'machines');

  const dialogs = [
    ['add a machine', () => by(page, 'add-machine').click(), 'install-steps'],
    ['new sandbox', () => by(page, 'new-sandbox').click(), null],
    ['tags', async () => { await by(page, 'machine-menu').click(); await by(page, 'tag-machine').click(); }, 'edit-value'],
    ['usage', async () => { await by(page, 'machine-menu').click(); await by(page, 'usage-machine').click(); }, null],
    ['ports', async () => { await by(page, 'machine-menu').click(); await by(page, 'ports-machine').click(); await by(page, 'port-input').fill('3000'); await by(page, 'open-port').click(); }, 'port-row'],
    ['remove', async () => { await by(page, 'machine-menu').click(); await by(page, 'remove-machine').click(); }, 'confirm-remove'],
    ['devices', async () => { await by(page, 'account-menu').click(); await by(page, 'open-logins').click(); }, null],
    ['shortcuts', () => page.keyboard.press('?'), null],
    ['palette', () => page.keyboard.press('Control+K'), 'palette-query'],
  ];
  for (const [name, open, there] of dialogs) {
    await open();
    await (there ? by(page, there) : page.locator('dialog[open]')).first().waitFor();
    await look(page, name);
    await page.keyboard.press('Escape');
    await page.locator('dialog[open]').waitFor({ state: 'detached' });
  }
  await by(page, 'machine-menu').click();
  await look(page, 'the menu of a machine');
  await page.keyboard.press('Escape');

  await page.goto(`${installation.origin}/settings`);
  await by(page, 'preview').locator('.xterm-screen').waitFor();
  await page.locator('summary').click();
  await look(page, 'settings');
  await page.goto(`${installation.origin}/preview?to=${encodeURIComponent(`http://3000-${machine.id.replaceAll('-', '')}.localhost/`)}`);
  await by(page, 'enter-preview').waitFor();
  await look(page, 'the way into a preview');
  await page.goto(`${installation.origin}/no/such/place`);
  await by(page, 'not-found').waitFor();
  await look(page, 'not found');

  const home = join(machine.dir, 'home');
  mkdirSync(join(home, 'folder'));
  writeFileSync(join(home, 'notes.txt'), 'notes');
  await page.goto(`${installation.origin}/m/${machine.id}/files`);
  const notes = page.locator('[data-name="notes.txt"]');
  await by(notes, 'select-entry').click();
  await by(page, 'upload-input').setInputFiles(join(installation.dir, 'control.log'));
  await page.locator('[data-testid="transfer"][data-state="done"]').waitFor();
  await by(page, 'second-pane').click();
  await look(page, 'files, a transfer');
  await by(page, 'clear-transfers').click();
  await by(page, 'second-pane').click();
  const fileDialogs = [
    ['new folder', async () => { await by(page, 'files-pane').getByText('Clear').click(); await by(page, 'new-folder').click(); }, 'name-input'],
    ['delete files', async () => { await by(notes, 'entry-menu').click(); await by(page, 'entry-delete').click(); }, 'confirm-delete-files'],
    ['replace', () => by(page, 'upload-input').setInputFiles(join(installation.dir, 'control.log')), 'confirm-replace'],
    ['a text', () => by(notes, 'open-entry').click(), 'editor-text'],
  ];
  for (const [name, open, there] of fileDialogs) {
    await open();
    await by(page, there).waitFor();
    await look(page, name);
    await page.keyboard.press('Escape');
    await page.locator('dialog[open]').waitFor({ state: 'detached' });
  }

  const asking = new Machine(installation, 'new').begin(['register', '--name', 'laptop', '--server', installation.origin]);
  const [, code] = await asking.says(/\b([A-Z]{4}-[A-Z]{4})\b/);
  await page.goto(`${installation.origin}/device`);
  await page.getByRole('heading').first().waitFor();
  await look(page, 'a code is asked for');
  await page.goto(`${installation.origin}/device?code=${code}`);
  await by(page, 'device-request').waitFor();
  await look(page, 'a machine asks');
  await by(page, 'device-approve').click();
  await by(page, 'device-approved').waitFor();
  await asking.ended;

  await openTerminal(page, installation.origin, machine.id);
  await look(page, 'a terminal');
  for (const key of ['Alt+Shift+D', 'Alt+Shift+E']) {
    const before = await page.evaluate(() => window.__rexec.state().session);
    await page.keyboard.press(key);
    await page.waitForFunction((before) => window.__rexec.state()?.session !== before, before);
    await running(page);
  }
  await page.keyboard.press('Alt+Shift+B');
  await by(page, 'broadcast').waitFor();
  await page.keyboard.press('Control+Shift+F');
  await by(page, 'find-bar').waitFor();
  await look(page, 'three panes, broadcast, find');
  await page.keyboard.press('Escape');
  await by(page, 'rtt').click();
  await by(page, 'rtt-breakdown').waitFor();
  await look(page, 'the connection');
  await page.keyboard.press('Escape');
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});
