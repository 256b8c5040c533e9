// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { utf8 } from './bytes';
import { encodeFrame } from './frames';
import {
  DIAL_TIMEOUT_MS,
  DOUBT_AFTER_MS,
  GREETING_TIMEOUT_MS,
  INPUT_QUEUE_MAX,
  MOVE_TIMEOUT_MS,
  OUTPUT_WINDOW,
  PING_EVERY_MS,
  PING_FIRST_MS,
  STABLE_MS,
  TICKET_TIMEOUT_MS,
} from './limits';
import { Rig, SESSION, VIEWER } from './testing/rig';

const shown = (rig: Rig) => String.fromCharCode(...rig.terminal.shown);
const typed = (rig: Rig) => String.fromCharCode(...rig.host.typed);
const type = (rig: Rig, text: string) => {
  rig.machine.write(utf8(text), rig.now);
  return rig.settle();
};

/** A half-open connection is found within this (docs/PROTOCOL.md). */
const HALF_OPEN_MS = 5_000;

/** How long it takes until a path that says nothing any more is given up. */
function silentFor(rig: Rig): number {
  const since = rig.now;
  while (rig.machine.phase.at === 'live') {
    rig.now = rig.machine.pollTimeout() ?? Number.POSITIVE_INFINITY;
    rig.machine.tick(rig.now);
    while (rig.machine.pollTransmit());
  }
  return rig.now - since;
}

describe('a viewer', () => {
  it('opens a session with a ticket, proves itself, types and reads', () => {
    const rig = new Rig().start();
    expect(rig.machine.phase.at).toBe('live');
    expect(rig.host.firsts).toEqual([
      expect.objectContaining({
        kind: 1,
        v: 1,
        ticket: 'rxt1.1',
        viewer: VIEWER,
        session: SESSION,
        input_seq: 0,
      }),
    ]);
    type(rig, 'ls\n');
    rig.host.print('a b\n');
    rig.settle().parse();
    expect(typed(rig)).toBe('ls\n');
    expect(shown(rig)).toBe('a b\n');
  });

  it('comes to a session that exists with its screen', () => {
    const rig = new Rig({ create: false });
    rig.host.print('already here');
    rig.start().parse();
    expect(rig.host.firsts[0]).toMatchObject({ kind: 2, epoch: null, offset: null });
    expect(shown(rig)).toBe('already here');
    rig.host.print(', and on');
    rig.settle().parse();
    expect(shown(rig)).toBe('already here, and on');
  });

  it('a snapshot larger than the window is acknowledged as it comes, and comes whole', () => {
    const rig = new Rig({ create: false });
    rig.host.print(new Uint8Array(2 * OUTPUT_WINDOW + 77).fill(97));
    rig.start().parse();
    expect(rig.host.firsts[0]).toMatchObject({ features: ['snapshot_ack'] });
    expect(rig.terminal.shown.length).toBe(2 * OUTPUT_WINDOW + 77);
    expect(rig.host.painted.acked).toBe(2 * OUTPUT_WINDOW + 77);
    rig.host.print(', and on');
    rig.settle().parse();
    expect(rig.terminal.shown.length).toBe(2 * OUTPUT_WINDOW + 85);
  });

  it('comes back to the exact byte with the resume capability while control is down', () => {
    const rig = new Rig().start();
    rig.host.print('0123456789');
    rig.settle().parse();
    rig.control = false;
    rig.network = false;
    rig.pass(STABLE_MS).cut();
    rig.host.print('abc');
    rig.network = true;
    rig.pass(3_000).parse();
    expect(rig.host.firsts.at(-1)).toMatchObject({ kind: 2, ticket: 'rxr1.r', offset: 10 });
    expect(shown(rig)).toBe('0123456789abc');
    expect(rig.told('painting')).toHaveLength(0);
  });

  it('numbers its streams, so that what comes late of one it gave up displaces none', () => {
    const rig = new Rig().start();
    rig.pass(STABLE_MS).cut();
    rig.pass(3_000).cut();
    rig.pass(3_000);
    const attempts = rig.host.firsts.map(({ attempt }) => attempt as number);
    expect(attempts).toHaveLength(3);
    expect(attempts).toEqual([...new Set(attempts)].sort((a, b) => a - b));
    expect(attempts[0]).toBeGreaterThan(0);
  });

  it('keeps what is typed while the path is gone and sends it once', () => {
    const rig = new Rig().start();
    type(rig, 'one ');
    rig.network = false;
    rig.cut();
    type(rig, 'two ');
    rig.network = true;
    rig.pass(3_000);
    type(rig, 'three');
    expect(typed(rig)).toBe('one two three');
    expect(rig.machine.input.pending).toBe(0);
  });

  it('drops and tells what was typed for a shell that is gone', () => {
    const rig = new Rig().start();
    rig.network = false;
    rig.cut();
    type(rig, 'rm -rf old\n');
    rig.host.restart('00000000-0000-4000-8000-00000000e002');
    rig.network = true;
    rig.pass(3_000);
    expect(typed(rig)).toBe('');
    expect(rig.told('input_lost')).toEqual([{ type: 'input_lost', bytes: 11 }]);
    type(rig, 'ok');
    expect(typed(rig)).toBe('ok');
  });

  it('is repainted, and told so, when the log no longer reaches back', () => {
    const rig = new Rig().start();
    rig.host.print('x'.repeat(100));
    rig.settle().parse();
    rig.network = false;
    rig.cut();
    rig.host.print('y'.repeat(500));
    rig.host.forget(300);
    rig.network = true;
    rig.pass(3_000).parse();
    expect(rig.told('gap')).toEqual([{ type: 'gap', from: 100, to: 600 }]);
    expect(rig.terminal.shown).toEqual(rig.host.log);
  });

  it('output out of step is repainted rather than shown, and never for ever', () => {
    const rig = new Rig().start();
    rig.host.print('right');
    rig.settle().parse();
    rig.host.output(3, utf8('wrong'));
    rig.settle().parse();
    expect(rig.told('fault')[0]?.message).toMatch(/expected 5/);
    expect(shown(rig)).toBe('right');
    for (let n = 0; n < 5; n += 1) {
      rig.host.output(9_999, utf8('!'));
      rig.pass(2_500);
    }
    expect(rig.machine.phase).toMatchObject({ at: 'over', ending: { kind: 'refused' } });
  });

  it('a refused credential is replaced by a new ticket', () => {
    const rig = new Rig().start();
    rig.cut(4003);
    expect(rig.tickets).toBe(2);
    expect(rig.host.firsts.at(-1)).toMatchObject({ kind: 2, ticket: 'rxt1.2' });
  });

  it.each([
    ['revoked', 4006],
    ['session_not_found', 4011],
    ['forbidden', 4005],
  ])('%s ends it', (code, number) => {
    const rig = new Rig().start();
    rig.cut(number);
    expect(rig.machine.phase).toMatchObject({ at: 'over', ending: { cause: { code } } });
    expect(rig.machine.pollTimeout()).toBeNull();
  });

  it('an error frame says more than the close that follows it', () => {
    const rig = new Rig().start();
    rig.host.say(0x2b, { code: 'machine_offline', message: 'asleep', retry: 'backoff' });
    rig.settle();
    expect(rig.machine.phase).toMatchObject({
      at: 'waiting',
      cause: { code: 'machine_offline', message: 'asleep' },
    });
    const until = rig.machine.pollTimeout();
    rig.cut(4007);
    expect(rig.machine.pollTimeout()).toBe(until);
  });

  it('a code of a newer peer is retried as that peer says', () => {
    const rig = new Rig().start();
    rig.host.say(0x2b, { code: 'moon_phase', message: 'wait', retry: 'never' });
    rig.settle();
    expect(rig.machine.phase.at).toBe('over');
  });

  it('the end of the shell ends it, with all its output', () => {
    const rig = new Rig().start();
    rig.host.print('bye');
    rig.host.say(0x28, { code: 7, signal: null, offset: 3 });
    rig.settle().parse();
    expect(shown(rig)).toBe('bye');
    expect(rig.machine.phase).toMatchObject({
      at: 'over',
      ending: { kind: 'exited', exit: { code: 7 } },
    });
    expect(rig.machine.write(utf8('x'), rig.now)).toBe(false);
  });

  it('a silent path is given up while the page is visible', () => {
    const rig = new Rig().start().pass(STABLE_MS);
    expect(silentFor(rig)).toBeLessThanOrEqual(HALF_OPEN_MS);
    expect(rig.machine.want).toMatchObject({ kind: 'transport' });
    expect(rig.machine.phase.at).toBe('dialing');
  });

  it('a silent path is given up within 5 s, whenever it fell silent', () => {
    for (let after = 0; after < 2 * PING_EVERY_MS; after += 37) {
      const rig = new Rig().start().pass(STABLE_MS + after);
      expect(silentFor(rig)).toBeLessThanOrEqual(HALF_OPEN_MS);
    }
  });

  it('hints that keep coming do not keep a dead path alive', () => {
    const rig = new Rig().start().pass(STABLE_MS);
    const since = rig.now;
    while (rig.machine.phase.at === 'live' && rig.now < since + 60_000) {
      rig.now += 500;
      rig.machine.wake(rig.now);
      while (rig.machine.pollTransmit());
    }
    expect(rig.now - since).toBeLessThanOrEqual(DOUBT_AFTER_MS + 500);
  });

  it('a hidden page neither pings nor gives up; shown again, it asks at once and is less patient', () => {
    const rig = new Rig().start().pass(STABLE_MS);
    rig.machine.setVisible(false, rig.now);
    expect(rig.machine.pollTimeout()).toBeNull();
    rig.now += 3_600_000;
    rig.machine.setVisible(true, rig.now);
    expect(rig.machine.phase.at).toBe('live');
    expect(rig.machine.pollTransmit()).not.toBeNull();
    while (rig.machine.pollTransmit());
    rig.machine.tick(rig.now + DOUBT_AFTER_MS);
    expect(rig.machine.phase.at).toBe('dialing');
  });

  it('a hint to a hidden page does not make it doubt what it cannot ask', () => {
    const rig = new Rig().start().pass(STABLE_MS);
    rig.machine.setVisible(false, rig.now);
    rig.machine.wake(rig.now);
    rig.machine.tick(rig.now + 60_000);
    expect(rig.machine.phase.at).toBe('live');
  });

  it('waking does not wait out a greeting that may come from a network that is gone', () => {
    const rig = new Rig();
    rig.machine.start(0);
    rig.machine.ticketGranted({ ticket: 't', resume: 'r' }, 0);
    rig.machine.connected(0);
    expect(rig.machine.pollTimeout()).toBe(GREETING_TIMEOUT_MS);
    rig.machine.wake(1_000);
    expect(rig.machine.pollTimeout()).toBe(1_000 + DOUBT_AFTER_MS);
    rig.machine.wake(2_000);
    expect(rig.machine.pollTimeout()).toBe(1_000 + DOUBT_AFTER_MS);
  });

  it('a dial that hangs is tried again', () => {
    const rig = new Rig();
    rig.machine.start(0);
    rig.machine.ticketGranted({ ticket: 't', resume: 'r' }, 0);
    expect(rig.machine.pollTimeout()).toBe(DIAL_TIMEOUT_MS);
    rig.machine.tick(DIAL_TIMEOUT_MS);
    expect(['waiting', 'ticketing']).toContain(rig.machine.phase.at);
  });

  it('a ticket request without an answer is given up, and asked again', () => {
    const rig = new Rig();
    rig.machine.start(0);
    expect(rig.machine.pollTimeout()).toBe(TICKET_TIMEOUT_MS);
    rig.machine.tick(TICKET_TIMEOUT_MS);
    expect(rig.machine.phase).toMatchObject({ at: 'waiting', cause: { code: 'control' } });
    rig.machine.tick(rig.machine.pollTimeout() ?? 0);
    expect(rig.machine.want).toEqual({ kind: 'ticket', n: 2 });
  });

  it('a hanging control does not keep a session that can resume', () => {
    const rig = new Rig().start().pass(STABLE_MS);
    rig.controlHangs = true;
    rig.cut(4003);
    expect(rig.machine.phase.at).toBe('ticketing');
    rig.pass(TICKET_TIMEOUT_MS);
    expect(rig.machine.phase.at).toBe('live');
    expect(rig.host.firsts.at(-1)).toMatchObject({ ticket: 'rxr1.r' });
  });

  it('waking asks for the ticket anew', () => {
    const rig = new Rig();
    rig.machine.start(0);
    rig.machine.wake(TICKET_TIMEOUT_MS - 1);
    expect(rig.machine.want).toEqual({ kind: 'ticket', n: 2 });
    expect(rig.machine.pollTimeout()).toBe(2 * TICKET_TIMEOUT_MS - 1);
  });

  it('waking skips the wait', () => {
    const rig = new Rig().start();
    rig.network = false;
    rig.cut().pass(60_000);
    rig.network = true;
    rig.machine.wake(rig.now);
    rig.settle();
    expect(rig.machine.phase.at).toBe('live');
  });

  it('one who may only look sends nothing', () => {
    const rig = new Rig({ create: false });
    rig.host.role = 'view';
    rig.machine.write(utf8('typed early'), 0);
    rig.start();
    expect(rig.machine.write(utf8('x'), rig.now)).toBe(false);
    rig.machine.resize({ cols: 10, rows: 10 });
    rig.machine.takeLease();
    rig.machine.endSession();
    rig.settle();
    expect(rig.host.heard.filter(({ kind }) => kind !== 0x0a && kind !== 0x04)).toEqual([]);
    expect(typed(rig)).toBe('');
  });

  it('a paste beyond the bound is refused whole', () => {
    const rig = new Rig().start();
    rig.network = false;
    rig.cut();
    expect(rig.machine.write(new Uint8Array(INPUT_QUEUE_MAX + 1), rig.now)).toBe(false);
    expect(rig.machine.input.pending).toBe(0);
  });

  it('asks to end a session it cannot reach as soon as it can', () => {
    const rig = new Rig().start();
    rig.network = false;
    rig.cut();
    rig.machine.endSession();
    rig.network = true;
    rig.pass(3_000);
    expect(rig.machine.phase).toMatchObject({ at: 'over', ending: { kind: 'exited' } });
  });

  it('measures the round trip', () => {
    const rig = new Rig().start().pass(PING_FIRST_MS);
    expect(rig.told('rtt')[0]?.ms).toBeGreaterThanOrEqual(0);
  });

  it('out_04 a title loses its controls and its length', () => {
    const rig = new Rig().start();
    rig.host.say(0x2c, { title: `a\u001b]0;b\u202e${'c'.repeat(400)}` });
    rig.settle();
    expect(rig.told('title').at(-1)?.title).toBe(`a]0;b${'c'.repeat(123)}`);
  });

  it('frames of unknown types are passed over', () => {
    const rig = new Rig().start();
    rig.machine.received(encodeFrame(0x7e, utf8('?')), rig.now);
    expect(rig.machine.phase.at).toBe('live');
  });

  it('garbage instead of a challenge ends in an error, not in a throw', () => {
    const rig = new Rig().start();
    rig.machine.received(Uint8Array.of(0x80, 0xff, 0xff, 0xff), rig.now);
    rig.drain();
    expect(rig.told('fault')).toHaveLength(1);
  });
});

describe('a better transport', () => {
  /** Lets the better transport come as far as the host's answer to its attach. */
  const greet = (rig: Rig) => {
    rig.better();
    rig.upNext();
    rig.downNext();
    rig.reconcile();
  };

  it('takes over beside the one there is: what came meanwhile is shown once, what is typed arrives once', () => {
    const rig = new Rig().start();
    rig.host.print('before ');
    rig.settle();
    greet(rig);
    rig.host.print('meanwhile ');
    rig.down();
    type(rig, 'ls');
    expect(rig.machine.phase).toMatchObject({ at: 'live', n: 3 });
    rig.host.print('after');
    rig.settle().parse();
    expect(shown(rig)).toBe('before meanwhile after');
    expect(typed(rig)).toBe('ls');
    expect(rig.told('painting')).toHaveLength(0);
    expect(rig.told('phase').map(({ phase }) => phase.at)).not.toContain('waiting');
    rig.pass(100);
    expect(rig.host.acked).toBe(rig.host.log.length);
  });

  it('that dies is not noticed', () => {
    const rig = new Rig().start();
    greet(rig);
    rig.cutNext().settle();
    expect(rig.machine.phase).toMatchObject({ at: 'live', n: 2 });
    type(rig, 'ls');
    expect(typed(rig)).toBe('ls');
  });

  it('that says nothing is given up soon', () => {
    const rig = new Rig().start();
    rig.better();
    rig.now += MOVE_TIMEOUT_MS;
    rig.machine.tick(rig.now);
    rig.settle();
    expect(rig.moving).toBe(false);
    expect(rig.machine.phase).toMatchObject({ at: 'live', n: 2 });
  });

  it('carries on alone when the older one dies first', () => {
    const rig = new Rig().start();
    greet(rig);
    rig.cut();
    expect(rig.machine.phase).toMatchObject({ at: 'live', n: 3 });
    expect(rig.host.firsts).toHaveLength(2);
  });

  it('that dies after the host has let the older one go for it costs a redial, not the session', () => {
    const rig = new Rig().start();
    greet(rig);
    rig.upNext();
    rig.cutNext().settle();
    expect(rig.machine.phase).toMatchObject({ at: 'live', n: 4 });
    rig.host.print('still here');
    rig.settle().parse();
    expect(shown(rig)).toBe('still here');
  });

  it('is not wanted while there is nothing to be better than', () => {
    const rig = new Rig();
    expect(rig.better()).toBe(false);
    rig.start();
    expect([rig.better(), rig.better()]).toEqual([true, false]);
  });
});
