// From an empty data directory to typing in a terminal of this machine, by following the README alone: `make run`, open the link.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { by, launch, pageOf, person, running, shows, typeLine } from './lib/browser.mjs';
import { freePort, OWNER, ROOT } from './lib/installation.mjs';
import { family, isAlive, Process, until } from './lib/processes.mjs';

let browser;
let dir;
let env;

before(async () => {
  browser = await launch();
  dir = mkdtempSync(join(tmpdir(), 'rexec-first-'));
  const { DATABASE_URL, JWT_SECRET, NODE_TEST_CONTEXT, MAKEFLAGS, MAKELEVEL, ...rest } = process.env;
  const [port, tunnel] = [await freePort(), await freePort()];
  env = { ...rest, PORT: `${port}`, REXEC_TUNNEL_ADDR: `127.0.0.1:${tunnel}`, REXEC_DATA_DIR: join(dir, 'data') };
});

after(async () => {
  await browser.close();
  rmSync(dir, { recursive: true, force: true });
});

const makeRun = () => new Process('make run', 'make', ['run'], { cwd: ROOT, env, log: join(dir, 'log'), group: true });

/** Ctrl-C; everything that ran must be gone afterwards. */
async function end(run) {
  if (!run.alive) throw new Error(`${run.name} ended by itself:\n${run.said}`);
  const all = family(run.pid);
  assert.ok(all.length >= 4, `make, its script, control, agent and more: ${all}`);
  await run.interrupt();
  await until('the end of every process', 15_000, () => all.every((pid) => !isAlive(pid)));
}

test('make run, the link, a machine, echo hello; Ctrl-C leaves nothing; the second make run finds everything as it was', async (t) => {
  let machine;
  await t.test('the first run', async () => {
    const run = makeRun();
    try {
      const [link] = await run.says(/http:\/\/localhost:\d+\/setup#\S+/, 600_000);
      const page = await pageOf(await person(browser));
      await page.goto(link);
      await by(page, 'email').fill(OWNER.email);
      await by(page, 'name').fill(OWNER.name);
      await by(page, 'password').fill(OWNER.password);
      await by(page, 'submit').click();

      const row = page.locator('[data-testid="machine-row"][data-online="true"]');
      await row.waitFor({ timeout: 30_000 });
      machine = await row.getAttribute('data-machine');
      await row.getByTestId('open-terminal').click();
      await running(page);
      await typeLine(page, 'echo hel""lo');
      await shows(page, /^hello$/m);
      assert.deepEqual(page.complaints, []);

      const stranger = await pageOf(await person(browser));
      await stranger.goto(link);
      await by(stranger, 'setup-used').waitFor();
      await stranger.context().close();
      await page.context().close();
    } finally {
      await end(run);
    }
  });

  await t.test('the second run', async () => {
    const run = makeRun();
    try {
      await run.says(/Ctrl-C ends everything/, 600_000);
      assert.ok(!/setup#/.test(run.said), 'there is an owner already');
      const page = await pageOf(await person(browser));
      await page.goto(`http://localhost:${env.PORT}/sign-in`);
      await by(page, 'email').fill(OWNER.email);
      await by(page, 'password').fill(OWNER.password);
      await by(page, 'submit').click();
      await page.locator(`[data-machine="${machine}"][data-online="true"]`).waitFor({ timeout: 30_000 });
      assert.equal(await by(page, 'machine-row').count(), 1, 'it was not enrolled twice');
      await page.context().close();
    } finally {
      await end(run);
    }
  });
});
