// What breaks mends itself in front of the person: the page comes back alone, with nothing lost and nothing twice.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { by, launch, numbers, openTerminal, pageOf, person, shows, signIn, state, text, typeLine } from './lib/browser.mjs';
import { Installation } from './lib/installation.mjs';
import { missingNamespaces, Namespace } from './lib/network.mjs';
import { isAlive } from './lib/processes.mjs';

const LAST = 1500;
const BACK_MS = 10_000;
const CUT_MS = 5_000;
/** A browser that has another address is back within this. */
const MOVED_MS = 2_000;
/** What dialling, attaching and a shell's answer may take on a busy machine. */
const SWIFT_MS = 1_500;

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

const becomes = (page, running, timeout) =>
  page.waitForFunction((running) => (window.__rexec.state()?.status === 'running') === running, running, { timeout });

/** Counts, some hundred numbers a second, while another program takes the hash of the next `count` bytes that are typed. */
const countAndHash = (last, count) =>
  `stty -icanon -echo; (exec 9<> <(:); (for ((i = 0; i < ${last}; i++)); do echo "n$i."; read -t 0.004 -u 9; done) & ` +
  `head -c ${count} | sha256sum; wait); stty icanon echo; echo o''ver`;

/**
 * Breaks something in the middle of counting, types while it is broken, mends it, and looks at every number and every typed byte
 * afterwards. `begin` comes back when it is broken, `end` mends it.
 */
async function survives(page, machine, { begin, end }) {
  const typed = randomBytes(450).toString('base64');
  await page.keyboard.press('Control+l');
  await typeLine(page, countAndHash(LAST, typed.length));
  await shows(page, /^n100\.$/m);
  const [shell] = machine.shells();
  await begin();
  await page.keyboard.type(typed);
  // For the shell itself: it arrives once, when the loop has ended.
  await page.keyboard.type(`echo typ''ed-meanwhile`);
  await page.keyboard.press('Enter');
  await end();
  await becomes(page, true, BACK_MS);
  await shows(page, /^over$/m, 40_000);
  await shows(page, /^typed-meanwhile$/m);
  assert.ok(isAlive(shell), 'the shell lives');
  assert.deepEqual(await numbers(page), Array.from({ length: LAST }, (_, number) => number));
  const seen = await text(page);
  assert.deepEqual(seen.match(/^[0-9a-f]{64}(?= {2}-)/gm), [createHash('sha256').update(typed).digest('hex')], 'every byte typed, once');
  assert.equal(seen.match(/^typed-meanwhile$/gm).length, 1);
  assert.equal((await state(page)).inputPending, 0);
  await typeLine(page, 'clear');
  await page.waitForFunction(() => !/^n\d/m.test(window.__rexec.text()));
}

test('control and broker are killed and started again', async () => {
  await survives(page, machine, {
    begin: async () => {
      await installation.control.kill9();
      await becomes(page, false);
    },
    end: () => installation.startControl(),
  });
});

test('the uplink is killed and another takes over', async () => {
  await survives(page, machine, {
    begin: async () => process.kill(await machine.uplink(), 'SIGKILL'),
    end: () => {},
  });
});

test('an agent that is stopped is told as such, and its machine comes back with a new session', async () => {
  const { session } = await state(page);
  await machine.agent.stop();
  await becomes(page, false);
  machine.start();
  await machine.online();
  // By itself: the page hears that the machine is back, asks for the session, and is told that it is gone.
  await by(page, 'reopen').click();
  await becomes(page, true);
  assert.notEqual((await state(page)).session, session);
  await typeLine(page, `echo ne''w-session`);
  await shows(page, /^new-session$/m);
  assert.deepEqual(page.complaints, []);
});

/** In the page: `silence()` makes every socket there is swallow all, both ways, as a path that died without a word; newer ones work. */
function silenceable() {
  const sockets = new Set();
  window.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      sockets.add(this);
    }

    send(bytes) {
      if (!this.silent) super.send(bytes);
    }

    set onmessage(listener) {
      super.onmessage = (event) => this.silent || listener?.(event);
    }
  };
  window.silence = () => {
    for (const socket of sockets) socket.silent = true;
    return performance.now();
  };
}

for (const [word, what, hint, within] of [
  ['pings', 'by pings within 5 s', () => {}, 5_000],
  ['hint', 'sooner when the browser says that the network is back', () => dispatchEvent(new Event('online')), 2_500],
]) {
  test(`a path from the browser that falls silent is found ${what}, and what was typed meanwhile arrives once`, async () => {
    const context = await person(browser);
    await context.addInitScript(silenceable);
    const page = await pageOf(context);
    await signIn(page, installation.origin);
    await openTerminal(page, installation.origin, machine.id);
    await page.waitForFunction(() => window.__rexec.state().rttMs !== null);
    const since = await page.evaluate(() => window.silence());
    await typeLine(page, `echo until''-${word}`);
    await page.evaluate(hint);
    await shows(page, new RegExp(`^until-${word}$`, 'm'));
    const took = (await page.evaluate(() => performance.now())) - since;
    assert.ok(took < within + SWIFT_MS, `typing worked again after ${took} ms`);
    assert.equal((await text(page)).match(new RegExp(`^until-${word}$`, 'gm')).length, 1);
    assert.deepEqual(page.complaints, []);
    await context.close();
  });
}

test('the network of the agent is cut for 5 s', { skip: missingNamespaces() }, async () => {
  const namespace = new Namespace();
  let apart;
  try {
    apart = await Installation.start({ host: namespace.host });
    const remote = await apart.machine('far-away', namespace);
    const page = await pageOf(await person(browser));
    await signIn(page, apart.origin);
    await openTerminal(page, apart.origin, remote.id);
    let since;
    await survives(page, remote, {
      begin: () => {
        namespace.cut();
        since = performance.now();
      },
      end: async () => {
        // The length of the outage is what is tested; nothing is waited for that could come earlier.
        await page.waitForTimeout(Math.max(0, CUT_MS - (performance.now() - since)));
        namespace.mend();
      },
    });
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  } finally {
    await apart?.stop();
    namespace.remove();
  }
});

test('the address of the browser changes', { skip: missingNamespaces() }, async (t) => {
  const namespace = new Namespace();
  let apart;
  let nomad;
  try {
    apart = await Installation.start({ host: namespace.host });
    const steady = await apart.machine('steady');
    nomad = await launch(namespace);
    const origin = `http://${namespace.host}:${apart.port}`;
    const page = await pageOf(await person(nomad));
    await signIn(page, origin);
    await openTerminal(page, origin, steady.id);
    await page.waitForFunction(() => window.__rexec.state().rttMs !== null);
    const { session } = await state(page);
    let back;
    await survives(page, steady, {
      begin: async () => {
        // Its connection is dead, and neither end is told.
        namespace.moveTo(77);
        const since = performance.now();
        const { offset } = await state(page);
        const goesOn = (offset) => window.__rexec.state().status === 'running' && window.__rexec.state().offset > offset;
        back = page.waitForFunction(goesOn, offset, { polling: 10 }).then(() => performance.now() - since);
      },
      end: async () => {
        const took = await back;
        t.diagnostic(`output goes on ${Math.round(took)} ms after the address changed`);
        assert.ok(took < MOVED_MS, `output went on after ${took} ms`);
      },
    });
    assert.equal((await state(page)).session, session, 'the same session');
    assert.deepEqual(page.complaints, []);
  } finally {
    await nomad?.close();
    await apart?.stop();
    namespace.remove();
  }
});
