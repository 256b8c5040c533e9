// The page over WebTransport: taken where it works, left where it does not, and taken again; a person notices none of it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { by, launch, openTerminal, pageOf, person, running, shows, signIn, state, typeLine } from './lib/browser.mjs';
import { Installation } from './lib/installation.mjs';
import { missingNamespaces, Namespace } from './lib/network.mjs';
import { survives } from './lib/survival.mjs';

const SOON = 15_000;
/** A path that died without a word is found within 5 s; dialling and attaching take the rest. */
const DOWN_MS = 8_000;
/** Echoes that are measured in each turn. */
const ECHOES = 150;

const [UDP, TCP] = ['WebTransport', 'WebSocket'];

let browser;
let namespace;
let installation;
let machine;

before(async () => {
  browser = await launch();
  if (!missingNamespaces()) namespace = new Namespace();
  installation = await Installation.start({ host: namespace?.host });
  machine = await installation.machine('workbench', namespace);
});

beforeEach(() => allowUdp());

after(async () => {
  allowUdp();
  await browser.close();
  await installation.stop();
  namespace?.remove();
});

const TABLE = `rexec_udp_${process.pid}`;
const nft = (...args) => spawnSync('nft', args, { encoding: 'utf8', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } });

/** Swallows what the browser, and nobody else, sends to the tunnel's port over UDP and what it is sent: the agent's packets come by another cable. */
function blockUdp() {
  const port = installation.tunnelPort;
  const { status, stderr } = nft(`add table inet ${TABLE};
    add chain inet ${TABLE} in { type filter hook input priority 0; };
    add rule inet ${TABLE} in iifname lo udp dport ${port} drop;
    add rule inet ${TABLE} in iifname lo udp sport ${port} drop`);
  assert.equal(status, 0, stderr);
}

function allowUdp() {
  nft('delete', 'table', 'inet', TABLE);
}

const carriedBy = (page, carrier, timeout = SOON) =>
  page.waitForFunction((carrier) => window.__rexec.state().carrier === carrier, carrier, { timeout });

/** A person of their own with a terminal. */
async function terminal(script) {
  const context = await person(browser);
  if (script) await context.addInitScript(script);
  const page = await pageOf(context);
  await signIn(page, installation.origin);
  await openTerminal(page, installation.origin, machine.id);
  return page;
}

async function leave(page) {
  assert.deepEqual(page.complaints, []);
  await page.context().close();
}

test('a session is opened over WebTransport, carries what is typed, and says what carries it', async () => {
  const page = await terminal();
  assert.equal((await state(page)).carrier, UDP);
  await typeLine(page, 'echo car""ried');
  await shows(page, /^carried$/m);
  await by(page, 'rtt').click();
  assert.match(await by(page, 'transport').textContent(), /^WebTransport, then QUIC/);
  await leave(page);
});

test('a page without WebTransport uses a WebSocket, and notices nothing', async () => {
  const page = await terminal(() => delete window.WebTransport);
  assert.equal((await state(page)).carrier, TCP);
  await typeLine(page, 'echo car""ried');
  await shows(page, /^carried$/m);
  await by(page, 'rtt').click();
  assert.match(await by(page, 'transport').textContent(), /^WebSocket, then QUIC/);
  await leave(page);
});

test('the name localhost, which stands for two addresses, does as well', async () => {
  const own = await Installation.start({ host: '0.0.0.0', name: 'localhost' });
  try {
    const near = await own.machine('near');
    const page = await pageOf(await person(browser));
    await signIn(page, own.origin);
    await openTerminal(page, own.origin, near.id);
    assert.equal((await state(page)).carrier, UDP);
    await leave(page);
  } finally {
    await own.stop();
  }
});

test('many terminals at once are all carried by it', async () => {
  const context = await person(browser);
  const first = await pageOf(context);
  await signIn(first, installation.origin);
  const pages = await Promise.all(Array.from({ length: 6 }, () => pageOf(context)));
  await Promise.all(pages.map((page) => openTerminal(page, installation.origin, machine.id)));
  for (const page of pages) {
    await carriedBy(page, UDP);
    assert.deepEqual(page.complaints, []);
  }
  await context.close();
});

test('UDP is blocked in the middle of everything: on by WebSocket, and up again when it is allowed', { skip: missingNamespaces() }, async () => {
  const page = await terminal();
  await carriedBy(page, UDP);
  let blocked;
  await survives(page, machine, {
    begin: () => {
      blocked = performance.now();
      blockUdp();
    },
    end: async () => {
      await carriedBy(page, TCP, DOWN_MS);
      console.log(`carried by WebSocket ${Math.round(performance.now() - blocked)} ms after UDP was blocked`);
    },
  });
  // The way up, in the middle of the same.
  await survives(page, machine, {
    begin: () => allowUdp(),
    end: async () => {
      await page.evaluate(() => dispatchEvent(new Event('online')));
      await carriedBy(page, UDP);
    },
  });
  await leave(page);
});

test('without a hint the way up is found by itself', { skip: missingNamespaces() }, async () => {
  blockUdp();
  const page = await terminal();
  assert.equal((await state(page)).carrier, TCP);
  allowUdp();
  await carriedBy(page, UDP, 30_000);
  await typeLine(page, 'echo car""ried');
  await shows(page, /^carried$/m);
  await leave(page);
});

test('where UDP is blocked from the start a terminal opens as fast as ever, the second time without any head start', { skip: missingNamespaces() }, async () => {
  blockUdp();
  const page = await terminal();
  assert.equal((await state(page)).carrier, TCP);
  const began = performance.now();
  await by(page, 'new-tab').click();
  await by(page, `new-session-${machine.id}`).click();
  await running(page);
  assert.ok(performance.now() - began < 5_000);
  await leave(page);
});

test('control and broker are killed and started again', async () => {
  const page = await terminal();
  await carriedBy(page, UDP);
  await survives(page, machine, {
    begin: () => installation.control.kill9(),
    end: () => installation.startControl(),
  });
  await carriedBy(page, UDP, 30_000);
  await leave(page);
});

test('the certificate that follows is the one that the page was told of', async () => {
  const page = await terminal();
  await carriedBy(page, UDP);
  await installation.control.stop();
  // As after a turn: the second of the two is in use.
  const kept = join(installation.dir, 'data/keys/web-transport.pem');
  const blocks = readFileSync(kept, 'utf8').match(/-----BEGIN [^]*?-----END [A-Z ]+-----\n/g);
  writeFileSync(kept, [...blocks.slice(2), ...blocks.slice(0, 2)].join(''));
  await installation.startControl();
  await running(page, 30_000);
  await carriedBy(page, UDP, 30_000);
  await typeLine(page, 'echo turn""ed');
  await shows(page, /^turned$/m);
  await leave(page);
});

test('ws_01 a page of another origin, who knows the hashes, gets no session', async () => {
  const evil = createServer((_, answer) => answer.setHeader('content-type', 'text/html').end('<!doctype html>'));
  await new Promise((resolve) => evil.listen(0, 'localhost', resolve));
  const pem = readFileSync(join(installation.dir, 'data/keys/web-transport.pem'), 'utf8');
  const certificates = pem.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g);
  const hashes = certificates.map((pem) => [...createHash('sha256').update(new X509Certificate(pem).raw).digest()]);
  const url = `https://${installation.host}:${installation.tunnelPort}/viewer`;
  const opens = (page) => page.evaluate(async ([url, hashes]) => {
    const serverCertificateHashes = hashes.map((hash) => ({ algorithm: 'sha-256', value: Uint8Array.from(hash) }));
    const session = new WebTransport(url, { serverCertificateHashes });
    session.closed.catch(() => {});
    return session.ready.then(() => session.close() ?? true, () => false);
  }, [url, hashes]);
  try {
    const page = await (await person(browser)).newPage();
    await page.goto(`http://localhost:${evil.address().port}/`);
    assert.equal(await opens(page), false);
    // The same from a page that may: it is the origin alone that makes the difference.
    await page.goto(`${installation.origin}/`);
    assert.equal(await opens(page), true);
    await page.context().close();
  } finally {
    evil.close();
  }
});

/** In the page: how long from a key to the first bytes that come after it, its echo, ms. */
function watchEchoes() {
  window.echoes = [];
  let began = null;
  document.addEventListener('keydown', () => (began = performance.now()), true);
  const came = () => {
    if (began !== null) window.echoes.push(performance.now() - began);
    began = null;
  };
  const { read } = ReadableStreamBYOBReader.prototype;
  ReadableStreamBYOBReader.prototype.read = async function (view) {
    const result = await read.call(this, view);
    came();
    return result;
  };
  window.WebSocket = class extends WebSocket {
    set onmessage(listener) {
      super.onmessage = (event) => {
        came();
        listener(event);
      };
    }
  };
}

/** How long the echoes of some keys took, over what carries the page. */
async function echoes(page) {
  await typeLine(page, "PS1='$ '; clear");
  await shows(page, /^\$$/m);
  await page.evaluate(() => void (window.echoes = []));
  await page.locator('[data-testid="terminal"]:visible .xterm-helper-textarea').focus();
  for (let n = 0; n < ECHOES; n += 1) {
    await page.keyboard.press(n % 40 === 39 ? 'Control+u' : 'x');
    await page.waitForFunction((n) => window.echoes.length > n, n, { polling: 1 });
  }
  return page.evaluate(() => window.echoes);
}

test('echo over both, in turns', async (context) => {
  const took = { [UDP]: [], [TCP]: [] };
  for (const carrier of [UDP, TCP, UDP, TCP]) {
    const own = await person(browser);
    if (carrier === TCP) await own.addInitScript(() => delete window.WebTransport);
    await own.addInitScript(watchEchoes);
    const page = await pageOf(own);
    await signIn(page, installation.origin);
    await openTerminal(page, installation.origin, machine.id);
    await carriedBy(page, carrier);
    took[carrier].push(...(await echoes(page)));
    await leave(page);
  }
  for (const [carrier, all] of Object.entries(took)) {
    const sorted = all.sort((a, b) => a - b);
    const at = (share) => sorted[Math.floor(share * (sorted.length - 1))].toFixed(1);
    context.diagnostic(`${carrier}: echo p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, ${sorted.length} keys`);
  }
});
