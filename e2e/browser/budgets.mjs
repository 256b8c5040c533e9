// What the web app costs and how it feels, beside its budgets: `node budgets.mjs`, which `make bench` runs. Prints a table; fails when
// a budget is missed.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { by, launch, openTerminal, pageOf, person, running, shows, signIn, typeLine } from './lib/browser.mjs';
import { Installation } from './lib/installation.mjs';

const KIB = 1024;
const ROUNDS = 7;
const MACHINES = 1_000;
/** How fast the list is scrolled through, px/s: a strong flick. */
const SPEED = 12_000;
/** What a program prints, bytes a second. */
const FLOOD = 10_000_000;
const FLOOD_PROGRAM = `
import os, time
line = (b"0123456789" * 9 + b"abcdefg\\r\\n") * 512
start, sent = time.time(), 0
while time.time() - start < 30:
    sent += os.write(1, line)
    ahead = sent / ${FLOOD} - (time.time() - start)
    if ahead > 0:
        time.sleep(ahead)
`;
const rows = [];
let missed = false;

const kib = (bytes) => `${(bytes / KIB).toFixed(0)} KiB`;
const ms = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const quantile = (values, part) => values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))];

function note(what, value, show, bar) {
  const over = bar !== undefined && value > bar;
  missed ||= over;
  rows.push(`| ${what} | ${show(value)} | ${bar === undefined ? '' : `${show(bar)}${over ? ', missed' : ''}`} |`);
}

/** Code and styles that a page asks for until it rests, as gzip would send them. */
async function weigh(context, origin, path, ready) {
  const page = await pageOf(context);
  const bodies = new Map();
  page.on('response', async (response) => {
    const url = new URL(response.url());
    if (/\.(js|css)$|\/$/.test(url.pathname) || url.pathname === path) bodies.set(url.pathname, response.body().catch(() => Buffer.alloc(0)));
  });
  await page.goto(`${origin}${path}`);
  await ready(page);
  await page.waitForLoadState('networkidle').catch(() => {});
  let bytes = 0;
  for (const body of bodies.values()) bytes += gzipSync(await body, { level: 9 }).length;
  await page.close();
  return bytes;
}

/** From the start of the navigation until the list is there and a key moves in it, without a cache, ms. */
async function interactive(browser, origin, storage) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, storageState: storage });
  const page = await context.newPage();
  await page.addInitScript(() => {
    const look = () => {
      const row = document.querySelector('[data-testid="machine-name"]');
      if (!row) return requestAnimationFrame(look);
      dispatchEvent(new KeyboardEvent('keydown', { key: 'j', bubbles: true }));
      if (document.activeElement !== row) return requestAnimationFrame(look);
      requestAnimationFrame(() => setTimeout(() => (window.interactiveAt = performance.now())));
    };
    addEventListener('DOMContentLoaded', () => requestAnimationFrame(look));
  });
  await page.goto(origin);
  await page.waitForFunction(() => window.interactiveAt !== undefined);
  const at = await page.evaluate(() => window.interactiveAt);
  await context.close();
  return at;
}

/** Gaps between frames while the list is scrolled through, ms. */
async function scrolled(page) {
  await page.mouse.move(700, 500);
  await page.evaluate(() => {
    window.gaps = [];
    let last = performance.now();
    const frame = (now) => {
      window.gaps.push(now - last);
      last = now;
      window.following = requestAnimationFrame(frame);
    };
    window.following = requestAnimationFrame(frame);
  });
  for (let step = 0; step < 120; step += 1) {
    await page.mouse.wheel(0, SPEED * 0.016);
    await page.waitForTimeout(16);
  }
  return page.evaluate(() => {
    cancelAnimationFrame(window.following);
    return window.gaps.slice(2);
  });
}

/** From a key's press to the next paint, as the browser tells it, ms. */
async function inputToPaint(page, presses) {
  await page.evaluate(() => {
    window.paints = [];
    new PerformanceObserver((list) => {
      for (const { name, duration } of list.getEntries()) if (name === 'keydown') window.paints.push(duration);
    }).observe({ type: 'event', durationThreshold: 16 });
  });
  for (let press = 0; press < presses; press += 1) {
    await page.keyboard.press('x');
    await page.waitForTimeout(60);
  }
  const told = await page.evaluate(() => window.paints);
  // Those below the observer's threshold are not told.
  return [...Array.from({ length: Math.max(0, presses - told.length) }, () => 16), ...told];
}

/** More machines, as rows like the first one's: none of them is ever online. */
function fill(installation, count) {
  const script = `
import sqlite3, sys, uuid
db = sqlite3.connect(sys.argv[1], timeout=30)
columns = [row[1] for row in db.execute('pragma table_info(machine)')]
first = dict(zip(columns, db.execute('select * from machine').fetchone()))
blob = isinstance(first['id'], bytes)
for n in range(int(sys.argv[2])):
    own = uuid.uuid4()
    row = {**first, 'id': own.bytes if blob else str(own), 'name': 'machine-%04d' % n, 'public_key': 'key-%d' % n, 'tunnel': None, 'online_since': None}
    db.execute('insert into machine (%s) values (%s)' % (','.join(columns), ','.join('?' * len(columns))), [row[c] for c in columns])
db.commit()
`;
  const file = execFileSync('sh', ['-c', `ls ${join(installation.dir, 'data')}/*.db ${join(installation.dir, 'data')}/*.sqlite* 2>/dev/null | head -1`], { encoding: 'utf8' }).trim();
  execFileSync('python3', ['-c', script, file, `${count}`]);
}

const browser = await launch();
const installation = await Installation.start();
try {
  const machine = await installation.machine('workbench');
  const { origin } = installation;
  const stranger = await person(browser);
  const context = await person(browser);
  const first = await pageOf(context);
  await signIn(first, origin);
  await first.close();
  const storage = await context.storageState();

  const fresh = async (path, ready, signedIn = true) => {
    const own = await browser.newContext(signedIn ? { storageState: storage } : {});
    const bytes = await weigh(own, origin, path, ready);
    await own.close();
    return bytes;
  };
  const BUNDLE = 300 * KIB;
  note('`/`, not signed in, with its preview', await fresh('/', (page) => by(page, 'live-preview').locator('.xterm-screen').waitFor(), false), kib, BUNDLE);
  note('`/sign-in`', await fresh('/sign-in', (page) => by(page, 'sign-in-form').waitFor(), false), kib, BUNDLE);
  note('`/`, the machines', await fresh('/', (page) => by(page, 'machine-row').waitFor()), kib, BUNDLE);
  note('`/settings`', await fresh('/settings', (page) => by(page, 'preview').locator('.xterm-screen').waitFor()), kib, BUNDLE);
  note('`/m/…/files`', await fresh(`/m/${machine.id}/files`, (page) => page.locator('[data-testid="path"]:not([data-path=""])').waitFor()), kib, BUNDLE);
  note('`/m/…`, the workspace', await fresh(`/m/${machine.id}`, (page) => running(page)), kib, BUNDLE);
  await stranger.close();

  const times = [];
  for (let round = 0; round < ROUNDS; round += 1) times.push(await interactive(browser, origin, storage));
  note(`machines interactive, no cache, median of ${ROUNDS}`, quantile(times, 0.5), ms, 1_000);

  const page = await pageOf(context);
  await openTerminal(page, origin, machine.id);
  const idle = await inputToPaint(page, 40);
  note('key to paint in a quiet terminal, p95 (16 ms is the least that is told)', quantile(idle, 0.95), ms);
  await page.keyboard.press('Control+c');
  const program = join(installation.dir, 'flood.py');
  writeFileSync(program, FLOOD_PROGRAM);
  await typeLine(page, `python3 ${program}`);
  await shows(page, /0123456789abcdefg/);
  const before = await page.evaluate(() => ({ at: performance.now(), offset: window.__rexec.state().parsed }));
  const busy = await inputToPaint(page, 60);
  const after = await page.evaluate(() => ({ at: performance.now(), offset: window.__rexec.state().parsed }));
  note('key to paint under a flood, p50', quantile(busy, 0.5), ms);
  note('key to paint under a flood, p95', quantile(busy, 0.95), ms, 100);
  note('what the terminal parsed meanwhile, MB/s', (after.offset - before.offset) / (after.at - before.at) / 1_000, (value) => value.toFixed(1));
  await page.keyboard.press('Control+c');
  await page.close();

  fill(installation, MACHINES - 1);
  const list = await pageOf(context);
  const started = Date.now();
  await list.goto(origin);
  await list.getByText(`of ${MACHINES} online`).waitFor();
  note(`list of ${MACHINES.toLocaleString('en')} there, cache warm`, Date.now() - started, ms);
  const gaps = await scrolled(list);
  note(`frames while it is scrolled through at ${SPEED.toLocaleString('en')} px/s: gap p50`, quantile(gaps, 0.5), ms);
  // Three frames of 60 a second.
  note('gap p95', quantile(gaps, 0.95), ms, 51);
  const typed = Date.now();
  await by(list, 'search').fill('machine-0777');
  await list.waitForFunction(() => document.querySelectorAll('[data-testid="machine-row"]').length === 1);
  note('a word searched for in it', Date.now() - typed, ms, 200);
} finally {
  await browser.close();
  await installation.stop();
}
console.log(`| | measured | budget |\n|---|--:|--:|\n${rows.join('\n')}`);
process.exit(missed ? 1 : 0);
