// The list of machines: groups, kinds, doing things to several at once, what happened beside it, and all of it from the palette.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertNoBarriers } from './lib/axe.mjs';
import { by, openTerminal, pageOf, running, state } from './lib/browser.mjs';
import { until } from './lib/processes.mjs';
import { Stage } from './lib/stage.mjs';

let stage;
let others;

before(async () => {
  stage = await Stage.set();
  others = [await stage.installation.machine('build-01'), await stage.installation.machine('build-02')];
});

after(() => stage.strike());

const row = (page, machine) => page.locator(`[data-machine="${machine.id}"]`);

async function list(options) {
  const page = await pageOf(options ? await stage.newPerson(options) : stage.context);
  await page.goto(`${stage.origin}/`);
  await by(page, 'machine-row').nth(2).waitFor();
  return page;
}

test('several machines are tagged and removed together, by keyboard and by pointer', async () => {
  const page = await list();
  await row(page, others[0]).getByTestId('machine-name').focus();
  await page.keyboard.press('x');
  await row(page, others[1]).hover();
  await row(page, others[1]).getByTestId('select-machine').check();
  await by(page, 'bulk-bar').getByText('2 selected').waitFor();
  await assertNoBarriers(page);
  await by(page, 'bulk-tags').click();
  await by(page, 'bulk-tag').click();
  await by(page, 'bulk-tag-value').fill('ci');
  await by(page, 'bulk-tag-save').click();
  for (const machine of others) await row(page, machine).getByText('ci', { exact: true }).waitFor();
  await by(page, 'bulk-bar').waitFor({ state: 'detached' });

  await by(page, 'sort-group').click();
  await by(page, 'group-tag').click();
  await by(page, 'machine-group').getByText('ci', { exact: true }).waitFor();
  assert.deepEqual(await by(page, 'machine-group').locator('h2').allInnerTexts(), ['ci', 'No tag']);
  await assertNoBarriers(page);
  await by(page, 'filter-kind').click();
  await page.getByRole('menuitemradio', { name: 'Sandboxes' }).or(page.getByRole('menuitem', { name: 'Sandboxes' })).click();
  await page.getByText('No machine matches').waitFor();
  await page.getByRole('button', { name: 'Clear the filter' }).click();

  const more = await stage.installation.machine('short-lived');
  await row(page, more).waitFor();
  await row(page, more).getByTestId('machine-menu').click();
  await by(page, 'menu-select').click();
  await by(page, 'bulk-remove').click();
  await by(page, 'bulk-remove-dialog').getByText('short-lived').waitFor();
  await by(page, 'bulk-remove-confirm').click();
  await row(page, more).waitFor({ state: 'detached' });
  await page.keyboard.press('Escape');
  await stage.leave(page);
});

test('the activity tells what was done in another browser, and by machines, without a reload', async () => {
  const page = await list({ viewport: { width: 1500, height: 900 } });
  await by(page, 'activity-entry').first().waitFor();
  await assertNoBarriers(page);
  const other = await list();
  await row(other, others[0]).getByTestId('machine-menu').click();
  await by(other, 'rename-machine').click();
  await by(other, 'edit-value').fill('build-one');
  await by(other, 'edit-save').click();
  await by(page, 'activity-entry').first().getByText('You changed build-one').waitFor();
  const late = await stage.installation.machine('late');
  await by(page, 'activity').getByText('late joined').waitFor();
  await openTerminal(other, stage.origin, late.id);
  await by(page, 'activity').getByText('You opened a terminal on late').waitFor();
  await by(page, 'toggle-activity').click();
  await by(page, 'activity').waitFor({ state: 'detached' });
  await page.reload();
  await by(page, 'machine-row').first().waitFor();
  assert.equal(await by(page, 'activity').count(), 0);
  await page.keyboard.press('l');
  await by(page, 'activity').waitFor();
  await late.agent.stop();
  await stage.leave(page, other);
});

test('from a terminal the palette renames another machine, adds one, and comes to a session elsewhere', async () => {
  const first = await stage.terminal(stage.context, others[1]);
  const elsewhere = await state(first);
  const page = await stage.terminal();
  const ask = async (query) => {
    await page.keyboard.press('Control+K');
    await by(page, 'palette-query').waitFor();
    await page.keyboard.type(query);
  };
  await ask('rename build-02');
  await page.keyboard.press('Enter');
  await by(page, 'edit-value').fill('build-two');
  await by(page, 'edit-save').click();
  await until('the new name', 5_000, async () => {
    const names = await page.evaluate(async () => (await (await fetch('/api/machines')).json()).map(({ name }) => name));
    return names.includes('build-two');
  });
  await ask('add a machine');
  await page.keyboard.press('Enter');
  await by(page, 'install-steps').waitFor();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+K');
  await by(page, 'palette-query').fill('shell on build-two');
  await page.locator(`[data-command="attach-${elsewhere.session}"]`).click();
  await page.waitForFunction((session) => window.__rexec.state()?.session === session, elsewhere.session);
  await running(page);
  await stage.leave(first, page);
});
