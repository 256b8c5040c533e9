// What somebody sees who is not signed in: a page that says what Rexec is, with a recording that plays, and how AI tools are set up.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertNoBarriers } from './lib/axe.mjs';
import { by, clipboard, launch, pageOf, person, signIn } from './lib/browser.mjs';
import { Installation } from './lib/installation.mjs';
import { until } from './lib/processes.mjs';

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

for (const colorScheme of ['dark', 'light'])
  test(`the landing page plays its recording, answers, and leads to the sign-in: ${colorScheme}`, async () => {
    const page = await pageOf(await person(browser, { colorScheme }));
    const requests = [];
    page.on('request', (request) => requests.push(new URL(request.url()).origin));
    await page.goto(installation.origin);
    await by(page, 'live-preview').locator('.xterm-screen').waitFor();
    await by(page, 'live-preview').getByRole('button', { name: 'Pause' }).click();
    await by(page, 'live-preview').getByRole('button', { name: 'Play' }).waitFor();
    await page.getByRole('link', { name: 'Add a machine' }).click();
    await by(page, 'copy-install').click();
    await until('the commands in the clipboard', 5_000, async () => (await clipboard(page)).includes(`${installation.origin}/install-agent.sh | bash && rexec-agent register`));
    await page.getByText('Why not simply SSH?').click();
    await page.getByText('SSH needs a port that can be reached').waitFor();
    await assertNoBarriers(page);
    await page.getByRole('link', { name: 'How to set them up' }).click();
    await page.getByRole('heading', { name: /Your AI assistant/ }).waitFor();
    await assertNoBarriers(page);
    await page.getByRole('link', { name: 'Questions' }).click();
    await page.getByRole('heading', { name: 'Questions' }).waitFor();
    await until('the questions in view', 5_000, () => page.evaluate(() => document.getElementById('questions').getBoundingClientRect().top < innerHeight / 2));
    await by(page, 'go-sign-in').click();
    await by(page, 'sign-in-form').waitFor();
    assert.deepEqual([...new Set(requests)], [installation.origin], 'nothing is asked of anybody else');
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

test('who wants less motion sees how the recording ends, and who is signed in sees the machines', async () => {
  const page = await pageOf(await person(browser, { reducedMotion: 'reduce' }));
  await page.goto(installation.origin);
  await by(page, 'live-preview').getByRole('button', { name: 'Play' }).waitFor();
  await signIn(page, installation.origin).catch(() => by(page, 'first-machine').waitFor());
  await page.goto(`${installation.origin}/ai-tools`);
  await page.getByRole('link', { name: 'My machines' }).click();
  await by(page, 'first-machine').waitFor();
  await page.goto(`${installation.origin}/`);
  await by(page, 'account-menu').click();
  await by(page, 'sign-out').click();
  await by(page, 'live-preview').waitFor();
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test('on a phone nothing is wider than the screen', async () => {
  const page = await pageOf(await person(browser, { viewport: { width: 390, height: 844 } }));
  for (const path of ['/', '/ai-tools', '/sign-in']) {
    await page.goto(`${installation.origin}${path}`);
    await page.getByRole('heading', { level: 1 }).waitFor();
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), path);
    const cut = await page.evaluate(() => [...document.querySelectorAll('h1, h2, p, li, section')].filter((each) => each.getBoundingClientRect().right > innerWidth + 1).map(({ outerHTML }) => outerHTML.slice(0, 80)));
    assert.deepEqual(cut, [], path);
  }
  await page.context().close();
});

test('the page is an app that can be installed', async () => {
  const page = await pageOf(await person(browser));
  await page.goto(installation.origin);
  const session = await page.context().newCDPSession(page);
  const { url, errors, data } = await session.send('Page.getAppManifest');
  assert.deepEqual([url, errors], [`${installation.origin}/manifest.webmanifest`, []]);
  const { icons } = JSON.parse(data);
  for (const { src, sizes, type } of icons) {
    const answer = await page.request.get(`${installation.origin}${src}`);
    assert.deepEqual([answer.status(), answer.headers()['content-type'].split(';')[0]], [200, type]);
    if (type !== 'image/png') continue;
    const png = await answer.body();
    assert.equal(`${png.readUInt32BE(16)}x${png.readUInt32BE(20)}`, sizes);
  }
  const { installabilityErrors } = await session.send('Page.getInstallabilityErrors');
  assert.deepEqual(installabilityErrors.filter(({ errorId }) => errorId !== 'in-incognito'), []);
  await page.context().close();
});
