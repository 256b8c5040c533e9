// The places around the terminal: sign-in, the machines page, device approval; by keyboard, too, and without barriers.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertNoBarriers } from './lib/axe.mjs';
import { by, launch, openTerminal, pageOf, person, running, shows, signIn } from './lib/browser.mjs';
import { Installation, Machine, OWNER } from './lib/installation.mjs';


let browser;
let installation;

before(async () => {
  browser = await launch();
  installation = await Installation.start();
});

after(async () => {
  await browser.close();
  await installation.stop();
});

test('sign-in says precisely what is wrong', async () => {
  const page = await pageOf(await person(browser));
  await page.goto(`${installation.origin}/sign-in`);
  await by(page, 'submit').click();
  await page.getByText('Enter your password').waitFor();
  await by(page, 'email').fill(OWNER.email);
  await by(page, 'password').fill('not the password at all');
  await by(page, 'submit').click();
  await by(page, 'form-problem').waitFor();
  assert.ok(!(await by(page, 'form-problem').innerText()).includes('undefined'));
  await assertNoBarriers(page);
  await by(page, 'password').fill(OWNER.password);
  await by(page, 'submit').click();
  await by(page, 'first-machine').waitFor();
  await assertNoBarriers(page);
  await page.context().close();
});

test('a new machine appears by itself, is renamed in another browser, and goes when it is removed', async () => {
  const [page, other] = [await pageOf(await person(browser)), await pageOf(await person(browser))];
  await signIn(page, installation.origin).catch(() => by(page, 'first-machine').waitFor());
  const machine = await installation.machine('arriving');
  const row = page.locator(`[data-machine="${machine.id}"]`);
  await page.locator(`[data-machine="${machine.id}"][data-online="true"]`).waitFor();
  await assertNoBarriers(page);

  await signIn(other, installation.origin);
  const theirs = other.locator(`[data-machine="${machine.id}"]`);
  await theirs.getByTestId('machine-menu').click().catch(() => theirs.getByRole('button', { name: /More for/ }).click());
  await by(other, 'rename-machine').click();
  await by(other, 'edit-value').fill('renamed');
  await by(other, 'edit-save').click();
  await row.getByText('renamed').waitFor();

  await machine.agent.stop();
  await page.locator(`[data-machine="${machine.id}"][data-online="false"]`).waitFor();
  machine.start();
  await page.locator(`[data-machine="${machine.id}"][data-online="true"]`).waitFor();

  await theirs.getByRole('button', { name: /More for/ }).click();
  await by(other, 'remove-machine').click();
  await by(other, 'confirm-remove').click();
  await row.waitFor({ state: 'detached' });
  assert.deepEqual([...page.complaints, ...other.complaints], []);
  await page.context().close();
  await other.context().close();
});

test('a machine is approved in the browser by its short code', async () => {
  const page = await pageOf(await person(browser));
  await signIn(page, installation.origin).catch(() => by(page, 'first-machine').waitFor());
  const machine = new Machine(installation, 'laptop');
  const asking = machine.begin(['register', '--name', 'my-laptop', '--server', installation.origin]);
  const [, code] = await asking.says(/\b([A-Z]{4}-[A-Z]{4})\b/);

  await page.goto(`${installation.origin}/device?code=${code}`);
  await by(page, 'device-request').waitFor();
  assert.match(await by(page, 'device-request').innerText(), /my-laptop/);
  assert.match(await by(page, 'device-request').innerText(), /SHA256:/);
  await assertNoBarriers(page);
  await by(page, 'device-approve').click();
  await by(page, 'device-approved').waitFor();
  assert.equal((await asking.ended).code, 0);
  machine.start();
  await machine.online();
  await openTerminal(page, installation.origin, machine.id);
  await assertNoBarriers(page);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test('from sign-in to a command without touching the mouse', async () => {
  const machine = await installation.machine('keys');
  const page = await pageOf(await person(browser));
  await page.goto(`${installation.origin}/sign-in`);
  await by(page, 'email').waitFor();
  await page.keyboard.type(OWNER.email);
  await page.keyboard.press('Tab');
  await page.keyboard.type(OWNER.password);
  await page.keyboard.press('Enter');
  await page.locator(`[data-machine="${machine.id}"]`).waitFor();
  for (let tabs = 0; tabs < 60; tabs += 1) {
    await page.keyboard.press('Tab');
    const there = await page.evaluate((id) => {
      const at = document.activeElement;
      return at?.closest(`[data-machine="${id}"]`) !== null && at?.matches('a[href^="/m/"]');
    }, machine.id);
    if (there) break;
  }
  await page.keyboard.press('Enter');
  await running(page);
  await page.keyboard.type('echo by-key""board');
  await page.keyboard.press('Enter');
  await shows(page, /^by-keyboard$/m);
  await page.context().close();
});

test('a login that is revoked elsewhere is signed out at once, its terminal too', async () => {
  const machine = await installation.machine('shared');
  const [page, other] = [await pageOf(await person(browser)), await pageOf(await person(browser))];
  await signIn(page, installation.origin);
  await openTerminal(page, installation.origin, machine.id);
  await signIn(other, installation.origin);
  const outcome = await other.evaluate(async () => {
    const logins = await (await fetch('/api/logins')).json();
    const headers = { 'content-type': 'application/json', 'x-rexec-csrf': '1' };
    const others = logins.filter((login) => !login.current);
    for (const login of others) await fetch(`/api/logins/${login.id}`, { method: 'DELETE', headers });
    return others.length;
  });
  assert.ok(outcome > 0);
  await by(page, 'sign-in-form').waitFor({ timeout: 5_000 });
  assert.equal(await by(other, 'machine-list').count(), 1, 'the one that revoked goes on');
  await page.context().close();
  await other.context().close();
});
