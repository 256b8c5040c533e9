// What breaks mends itself in front of the person: the page comes back alone, with nothing lost and nothing twice.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { countTo, launch, numbers, openTerminal, pageOf, person, shows, signIn, state, typeLine } from './lib/browser.mjs';
import { Installation } from './lib/installation.mjs';
import { isAlive } from './lib/processes.mjs';

const LAST = 1500;
const BACK_MS = 10_000;

let browser;
let installation;
let machine;
let page;

before(async () => {
  browser = await launch();
  installation = await Installation.start();
  machine = await installation.machine('workbench');
  page = await pageOf(await person(browser));
  await signIn(page, installation.origin);
  await openTerminal(page, installation.origin, machine.id);
});

after(async () => {
  await browser.close();
  await installation.stop();
});

const isRunning = (deadline) =>
  page.waitForFunction(() => window.__rexec.state()?.status === 'running', null, { timeout: deadline });

/** Counts, breaks something in the middle, types meanwhile, and looks at every number afterwards. */
async function survives(fault) {
  await typeLine(page, 'clear');
  await page.keyboard.press('Control+l');
  await typeLine(page, countTo(LAST));
  await shows(page, /^n100\.$/m);
  const [shell] = machine.shells();
  await fault();
  // Typed into the broken moment: it arrives once, when the loop has ended.
  await page.keyboard.type(`echo typ''ed-meanwhile`);
  await page.keyboard.press('Enter');
  await isRunning(BACK_MS);
  await shows(page, /^over$/m, 40_000);
  await shows(page, /^typed-meanwhile$/m);
  assert.ok(isAlive(shell), 'the shell lives');
  const seen = await numbers(page);
  assert.deepEqual(seen.slice(-LAST), Array.from({ length: LAST }, (_, number) => number));
  assert.equal((await state(page)).inputPending, 0);
}

test('control and broker are killed and started again', async () => {
  await survives(async () => {
    await installation.control.kill9();
    await page.waitForFunction(() => window.__rexec.state()?.status !== 'running');
    await installation.startControl();
  });
});

test('the uplink is killed and another takes over', async () => {
  await survives(async () => process.kill(await machine.uplink(), 'SIGKILL'));
});

test('an agent that is stopped is told as such, and its machine comes back with a new session', async () => {
  await machine.agent.stop();
  await page.waitForFunction(() => ['ended', 'offline', 'stopped'].includes(window.__rexec.state()?.status));
  machine.start();
  await machine.online();
  await page.goto(`${installation.origin}/m/${machine.id}`);
  await page.waitForFunction(() => window.__rexec?.state() !== undefined);
  assert.deepEqual(page.complaints, []);
});
