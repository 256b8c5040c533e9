// A sandbox from the browser: made with a few clicks, typed into, stopped, started, deleted.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { by, launch, pageOf, person, signIn, shows } from './lib/browser.mjs';
import { freePort, Installation, programs, ROOT } from './lib/installation.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const engine = process.env.REXEC_TEST_DOCKER;
const skip = engine || process.env.CI ? false : 'no Docker engine: scripts/with-docker brings one';
const IMAGE = 'rexec-test/debian:12';

let browser;
let installation;
let agents;

before(async () => {
  if (skip) return;
  assert.ok(engine, 'CI lacks a Docker engine');
  browser = await launch();
  // The agent by the name that it has in a release.
  agents = mkdtempSync(join(tmpdir(), 'rexec-agents-'));
  symlinkSync(join(programs(), 'rexec-agent'), join(agents, `rexec-agent-linux-${arch() === 'arm64' ? 'arm64' : 'amd64'}`));
  const more = { REXEC_DOWNLOAD_DIR: agents, REXEC_SANDBOX_ENGINE: engine, REXEC_SANDBOX_IMAGES: `${IMAGE},rexec-test/busybox:1`, REXEC_BIND: '0.0.0.0', REXEC_SANDBOX_PROXY_PORT: `${await freePort()}` };
  installation = await Installation.start({ host: '0.0.0.0', name: 'localhost', more });
});

after(async () => {
  if (skip) return;
  await browser.close();
  await installation.stop();
  rmSync(agents, { recursive: true, force: true });
  const docker = (...args) => execFileSync('docker', args, { env: { ...process.env, DOCKER_HOST: engine }, stdio: 'ignore' });
  for (const id of made) {
    for (const what of [['rm', '-f'], ['network', 'rm']]) {
      try {
        docker(...what, `rexec-${id}`);
      } catch {
        // It was gone already.
      }
    }
  }
  for (const id of snapshots) docker('rmi', '-f', `rexec-snapshot:${id}`);
});

const made = new Set();
const snapshots = new Set();

async function picture(page, name) {
  const dir = join(ROOT, 'e2e/shots');
  mkdirSync(dir, { recursive: true });
  await page.screenshot({ path: join(dir, `sandbox-${name}.png`) });
}

test('made with a few clicks, typed into, stopped, started, deleted', { skip }, async () => {
  const context = await person(browser);
  const page = await pageOf(context);
  await signIn(page, installation.origin).catch(() => by(page, 'first-machine').waitFor());
  await by(page, 'first-sandbox').click();
  await by(page, `image-${IMAGE}`).click();
  await by(page, 'sandbox-name').fill('not a name');
  await by(page, 'create-sandbox').click();
  await page.getByText('Letters, digits, dots').waitFor();
  await by(page, 'sandbox-name').fill('playground');
  await picture(page, 'form');
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`), []);
  const clicked = Date.now();
  await by(page, 'create-sandbox').click();
  await by(page, 'sandbox-progress').waitFor();
  await picture(page, 'progress');
  // It ends in the terminal by itself.
  await page.waitForURL(/\/m\//, { timeout: 30_000, waitUntil: 'commit' });
  const id = /\/m\/([^/]+)/.exec(page.url())[1];
  made.add(id);
  await page.locator('.xterm-helper-textarea').waitFor();
  await page.keyboard.type('echo in-$((40 + 2)) $PWD\n');
  await shows(page, 'in-42 /home/user');
  console.log(`from click to a prompt that answered: ${Date.now() - clicked} ms`);
  await picture(page, 'terminal');

  await page.goto(`${installation.origin}/`);
  const row = page.locator(`[data-machine="${id}"]`);
  await row.waitFor();
  await picture(page, 'list');
  const choose = async (action) => {
    await row.getByRole('button', { name: /More for/ }).click();
    await by(page, action).click();
  };
  // What it uses is seen within seconds, and over the last quarter of an hour.
  await row.locator('[data-testid="usage"] .number').first().waitFor({ timeout: 20_000 });
  await picture(page, 'usage');
  await choose('usage-machine');
  await by(page, 'usage-dialog').getByText('Memory').waitFor();
  await picture(page, 'usage-dialog');
  await page.keyboard.press('Escape');

  // A snapshot, and another one made of it.
  await choose('snapshot-sandbox');
  await by(page, 'snapshot-name').fill('golden');
  await picture(page, 'snapshot');
  await by(page, 'take-snapshot').click();
  await page.locator('[data-testid="snapshot-state"][data-state="ready"]').waitFor({ timeout: 20_000 });
  for (const one of await page.evaluate(() => fetch('/api/snapshots').then((answer) => answer.json()))) snapshots.add(one.id);
  await picture(page, 'snapshot-ready');
  await page.keyboard.press('Escape');
  await by(page, 'new-sandbox').click();
  await page.getByText('A snapshot').click();
  await by(page, 'snapshot-golden').locator('label').click();
  await picture(page, 'of-snapshot');
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run());
  assert.deepEqual(found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`), []);
  await by(page, 'sandbox-name').fill('second');
  await page.getByText('A list').click();
  await by(page, 'create-sandbox').click();
  await page.getByText('List at least one host').waitFor();
  await by(page, 'sandbox-allow').fill('pypi.org, localhost');
  await page.getByText('is no host').waitFor();
  await picture(page, 'restricted');
  await by(page, 'sandbox-allow').fill('pypi.org, *.pythonhosted.org');
  await by(page, 'create-sandbox').click();
  await page.waitForURL(/\/m\//, { timeout: 30_000, waitUntil: 'commit' });
  const second = /\/m\/([^/]+)/.exec(page.url())[1];
  made.add(second);
  await page.waitForFunction((id) => window.__rexec?.state()?.machine === id && window.__rexec.state().status === 'running', second);
  await page.keyboard.type('echo by-${http_proxy##*@}\n');
  await shows(page, 'by-rexec.internal:');
  await page.goto(`${installation.origin}/`);
  await row.waitFor();

  await choose('stop-sandbox');
  await row.getByText('Stopped').waitFor();
  await choose('start-sandbox');
  await page.locator(`[data-machine="${id}"][data-online="true"]`).waitFor();
  await choose('remove-machine');
  await page.getByText('Delete them too').click();
  await picture(page, 'delete');
  await by(page, 'confirm-delete').click();
  await row.waitFor({ state: 'detached' });
  assert.deepEqual(page.complaints, []);
  await context.close();
});
