// What breaks mends itself in front of the person: the page comes back alone, with nothing lost and nothing twice.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { by, launch, openTerminal, pageOf, person, shows, signIn, state, text, typeLine } from './lib/browser.mjs';
import { Installation } from './lib/installation.mjs';
import { missingNamespaces, Namespace } from './lib/network.mjs';
import { becomes, survives } from './lib/survival.mjs';

const CUT_MS = 5_000;
/** A browser that has another address is back within this: two seconds, and two for a busy machine. */
const MOVED_MS = 4_000;
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
  delete window.WebTransport;
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
    // Its page is on plain http of an address that is not this machine's own, where that header means nothing.
    assert.deepEqual(page.complaints.filter((complaint) => !complaint.startsWith('The Cross-Origin-Opener-Policy header')), []);
  } finally {
    await nomad?.close();
    await apart?.stop();
    namespace.remove();
  }
});
