// Screenshots of every place, in three sizes and both themes: `make shots`. For a person to look at, so nothing is compared.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { by, launch, openTerminal, pageOf, person, shows, signIn, typeLine } from './lib/browser.mjs';
import { Installation, Machine } from './lib/installation.mjs';

const SIZES = { desktop: { width: 1440, height: 900 }, tablet: { width: 1024, height: 768 }, phone: { width: 390, height: 844 } };
const FADE_MS = 300;
const REPAINT_MS = 700;
const out = process.argv[2] ?? 'shots';
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const browser = await launch();
const installation = await Installation.start({ owner: false });

/** Colours fade; a terminal is resized after a pause, and its program then paints anew. */
async function calm(page) {
  const terminals = await page.locator('.xterm-screen').count();
  await page.waitForTimeout(terminals ? REPAINT_MS : FADE_MS);
}

async function shoot(page, place) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ['dark', 'light']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await calm(page);
      await page.screenshot({ path: join(out, `${place}-${size}-${colorScheme}.png`) });
    }
  }
  await page.setViewportSize(SIZES.desktop);
}

try {
  const page = await pageOf(await person(browser));
  const link = installation.run(['setup-link']).trim();
  await page.goto(link);
  await by(page, 'setup-form').waitFor();
  await shoot(page, 'setup');
  installation.makeOwner();

  await page.goto(`${installation.origin}/`);
  await by(page, 'live-preview').locator('.xterm-screen').waitFor();
  await shoot(page, 'landing');
  await page.goto(`${installation.origin}/ai-tools`);
  await by(page, 'install-steps').first().waitFor();
  await shoot(page, 'ai-tools');
  await page.goto(`${installation.origin}/sign-in`);
  await by(page, 'sign-in-form').waitFor();
  await shoot(page, 'sign-in');
  await by(page, 'email').fill('nobody');
  await by(page, 'submit').click();
  await shoot(page, 'sign-in-errors');

  await page.goto(`${installation.origin}/`);
  await signIn(page, installation.origin).catch(() => by(page, 'first-machine').waitFor());
  await shoot(page, 'machines-empty');

  const machines = [];
  for (const name of ['workbench', 'build-01', 'raspberry', 'old-laptop']) machines.push(await installation.machine(name));
  await machines[3].agent.stop();
  await page.locator(`[data-machine="${machines[3].id}"][data-online="false"]`).waitFor();
  await shoot(page, 'machines');
  await by(page, 'machine-name').first().focus();
  await page.keyboard.press('x');
  await by(page, 'bulk-bar').waitFor();
  await shoot(page, 'machines-selected');
  await page.keyboard.press('Escape');
  await page.keyboard.press('Control+K');
  await by(page, 'palette-query').fill('term');
  await shoot(page, 'palette');
  await page.keyboard.press('Escape');
  await by(page, 'machine-menu').first().click();
  await by(page, 'ports-machine').click();
  for (const port of ['3000', '8888']) {
    await by(page, 'port-input').fill(port);
    await by(page, 'open-port').click();
    await page.locator(`[data-testid="port-row"][data-port="${port}"]`).waitFor();
  }
  await shoot(page, 'ports');
  await page.keyboard.press('Escape');
  await page.goto(`${installation.origin}/settings`);
  await by(page, 'preview').locator('.xterm-screen').waitFor();
  await shoot(page, 'settings');

  const home = join(machines[0].dir, 'home');
  for (const name of ['project', 'archive', 'photos 2026']) mkdirSync(join(home, name));
  for (const [name, size] of [['README.md', 1_200], ['deploy.sh', 482], ['dump.sql.gz', 8_300_211], ['report (2).pdf', 401_233]]) {
    writeFileSync(join(home, name), Buffer.alloc(size, 'a line of text\n'));
  }
  await page.goto(`${installation.origin}/m/${machines[0].id}/files`);
  await page.getByText('README.md').waitFor();
  await shoot(page, 'files');
  await by(page, 'second-pane').click();
  await by(page, 'upload-input').last().setInputFiles(join(home, 'dump.sql.gz'));
  await by(page, 'confirm-replace').click();
  await page.locator('[data-testid="transfer"][data-state="done"]').waitFor();
  await shoot(page, 'files-two');
  await page.locator('[data-name="README.md"]').first().getByTestId('open-entry').click();
  await by(page, 'editor-text').waitFor();
  await shoot(page, 'files-editor');
  await page.keyboard.press('Escape');

  const asking = new Machine(installation, 'new').begin(['register', '--name', 'my-laptop', '--server', installation.origin]);
  const [, code] = await asking.says(/\b([A-Z]{4}-[A-Z]{4})\b/);
  await page.goto(`${installation.origin}/device?code=${code}`);
  await by(page, 'device-request').waitFor();
  await shoot(page, 'device');

  await openTerminal(page, installation.origin, machines[0].id);
  await typeLine(page, 'ls --color=always -la /etc | head -40');
  await shows(page, /total/);
  await shoot(page, 'workspace');
  await page.waitForFunction(() => window.__rexec.state().rttMs !== null);
  await by(page, 'rtt').click();
  await by(page, 'rtt-breakdown').waitFor();
  await shoot(page, 'workspace-connection');
  await page.keyboard.press('Escape');
  await typeLine(page, 'htop');
  await shows(page, /F10Quit/);
  await shoot(page, 'workspace-htop');
  await page.keyboard.press('q');
  for (const key of ['Alt+Shift+D', 'Alt+Shift+E']) {
    const before = await page.evaluate(() => window.__rexec.state().session);
    await page.keyboard.press(key);
    await page.waitForFunction((before) => window.__rexec.state()?.session !== before, before);
    await shows(page, /[#$]/);
  }
  await page.keyboard.type('ls --color=always /usr\n');
  await shows(page, /share/);
  await shoot(page, 'workspace-split');
  await page.goto(`${installation.origin}/no/such/place`);
  await by(page, 'not-found').waitFor();
  await shoot(page, 'not-found');
} finally {
  await browser.close();
  await installation.stop();
}
