// The command palette and snippets: found by a few letters, run by keyboard alone, put into a real shell.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, afterEach, before, test } from 'node:test';
import { by, shows, state, typeLine } from './lib/browser.mjs';
import { Stage } from './lib/stage.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let stage;

before(async () => {
  stage = await Stage.set();
});

after(() => stage.strike());
afterEach(() => stage.endShells());

async function ask(page, query) {
  await page.keyboard.press('Control+K');
  await by(page, 'palette-query').waitFor();
  await page.keyboard.type(query);
}

const chosen = (page) => page.locator('[data-testid="palette-line"][aria-selected="true"]');
const closed = (page) => by(page, 'palette-query').waitFor({ state: 'detached' });

test('from the terminal a few letters do what the mouse can, and the key pressed twice is the shell’s own', async () => {
  const page = await stage.terminal();
  await ask(page, 'fnd in trm');
  await chosen(page).getByText('Find in the terminal').waitFor();
  await page.keyboard.press('Enter');
  await by(page, 'find-input').waitFor();
  await page.keyboard.press('Escape');
  await page.keyboard.type('echo kept taken');
  for (let i = 0; i < 6; i += 1) await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('Control+K');
  await by(page, 'palette-query').waitFor();
  await page.keyboard.press('Control+K');
  await closed(page);
  await page.keyboard.press('Enter');
  await shows(page, /^kept$/m);
  await ask(page, 'no such thing at all');
  await page.getByText('Nothing here is called').waitFor();
  await page.keyboard.press('Escape');
  await closed(page);
  await typeLine(page, `echo ba''ck`);
  await shows(page, /^back$/m);
  await stage.leave(page);
});

test('a new session is opened, and the tabs found again, by keyboard alone', async () => {
  const page = await stage.terminal();
  const first = await state(page);
  await ask(page, 'new session on');
  await page.keyboard.press('Enter');
  await page.waitForFunction((session) => window.__rexec.state()?.session !== session, first.session);
  await page.keyboard.press('Control+K');
  await by(page, 'palette-line').and(page.locator(`[data-command="attach-${first.session}"]`)).waitFor();
  await page.keyboard.press('Escape');
  await closed(page);
  await stage.leave(page);
});

test('a snippet is written, asks for its parameters, is inserted or run, and is exported and imported again', async () => {
  const page = await stage.terminal();
  await ask(page, 'snippets');
  await page.keyboard.press('Enter');
  await by(page, 'snippet-new').click();
  await by(page, 'snippet-save').click();
  await page.getByText('A snippet needs a name').waitFor();
  await by(page, 'snippet-name').fill('greet somebody');
  await by(page, 'snippet-body').fill('echo "<{{greeting=hello}} {{who}}>"');
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run({ exclude: ['.xterm'] }));
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`), []);
  await by(page, 'snippet-save').click();
  await by(page, 'snippet-row').getByText('greet somebody').waitFor();

  const download = page.waitForEvent('download');
  await by(page, 'snippet-export').click();
  const file = await (await download).path();
  await by(page, 'snippet-delete').click();
  await page.getByText('No snippet yet').waitFor();
  await by(page, 'snippet-file').setInputFiles(file);
  await by(page, 'snippet-row').getByText('greet somebody').waitFor();
  await page.keyboard.press('Escape');

  await ask(page, 'greet');
  await chosen(page).getByText('greet somebody').waitFor();
  await page.keyboard.press('Control+Enter');
  await by(page, 'snippet-parameter-who').fill('world');
  await by(page, 'snippet-insert').click();
  await shows(page, /^<hello world>$/m);

  await ask(page, 'greet');
  await page.keyboard.press('Enter');
  await by(page, 'snippet-parameter-who').fill('moon');
  await by(page, 'snippet-insert').click();
  await shows(page, /echo "<hello moon>"$/m);
  await page.keyboard.press('Enter');
  await shows(page, /^<hello moon>$/m);
  await stage.leave(page);
});
