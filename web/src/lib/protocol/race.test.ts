// @vitest-environment node
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  HEAD_START_MS,
  REACH_BASE_MS,
  REACH_CAP_MS,
  REACH_STABLE_MS,
  WEB_HANDSHAKE_MS,
} from './limits';
import { Race } from './race';
import { Reach } from './reach';
import { type Carrier, DEAF, type Listener, type Transport } from './transport';
import { Upgrade } from './upgrade';

class Fake implements Transport {
  listener: Listener = DEAF;
  left = false;
  readonly sent: unknown[] = [];

  constructor(readonly carrier: Carrier) {}

  send(bytes: unknown): void {
    this.sent.push(bytes);
  }

  close(): void {
    this.left = true;
    this.listener = DEAF;
  }
}

const BYTES = Uint8Array.of(1);
let web: Fake[] = [];
let socket: Fake[] = [];
let reach: Reach;
let said: unknown[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  [web, socket, said, reach] = [[], [], [], new Reach(() => 1)];
});
afterEach(() => vi.useRealTimers());

const make = (made: Fake[], carrier: Carrier) => () => {
  const transport = new Fake(carrier);
  made.push(transport);
  return transport;
};

function race(doors: Partial<ConstructorParameters<typeof Race>[0]> = {}): Race {
  const race = new Race({
    web: make(web, 'WebTransport'),
    socket: make(socket, 'WebSocket'),
    reach,
    ...doors,
  });
  race.listener = {
    opened: () => said.push('opened'),
    received: (bytes) => said.push(bytes),
    closed: (code) => said.push(code),
  };
  return race;
}

describe('a dial', () => {
  it('within its head start WebTransport is alone, and no WebSocket is made', () => {
    const dial = race();
    vi.advanceTimersByTime(HEAD_START_MS - 1);
    web[0]?.listener.opened();
    vi.advanceTimersByTime(10 * WEB_HANDSHAKE_MS);
    web[0]?.listener.received(BYTES);
    dial.send(BYTES);
    expect([dial.carrier, socket, said]).toEqual(['WebTransport', [], ['opened', BYTES]]);
    expect(web[0]?.sent).toEqual([BYTES]);
    expect(web[0]?.left).toBe(false);
  });

  it('after it whoever opens first carries the viewer, and the other leaves', () => {
    for (const [first, second] of [
      [web, socket],
      [socket, web],
    ] as const) {
      [web.length, socket.length] = [0, 0];
      race();
      vi.advanceTimersByTime(HEAD_START_MS);
      first[0]?.listener.opened();
      expect([first[0]?.left, second[0]?.left]).toEqual([false, true]);
    }
    expect(said).toEqual(['opened', 'opened']);
  });

  it('a WebTransport that fails at once costs no head start', () => {
    race();
    web[0]?.listener.closed(1006, '');
    expect(socket).toHaveLength(1);
    socket[0]?.listener.opened();
    expect(said).toEqual(['opened']);
  });

  it('a WebTransport that says nothing is left at its limit, and the next dial gives it no head start', () => {
    race();
    vi.advanceTimersByTime(WEB_HANDSHAKE_MS);
    expect(web[0]?.left).toBe(true);
    expect(said).toEqual([]);
    race();
    expect([web.length, socket.length]).toEqual([1, 2]);
  });

  it('a WebSocket that fails leaves the WebTransport its time', () => {
    race();
    vi.advanceTimersByTime(HEAD_START_MS);
    socket[0]?.listener.closed(1006, '');
    expect(said).toEqual([]);
    web[0]?.listener.opened();
    expect(said).toEqual(['opened']);
  });

  it('both failing is told once, with what the WebSocket said', () => {
    race();
    web[0]?.listener.closed(1006, '');
    socket[0]?.listener.closed(4014, 'overloaded');
    expect(said).toEqual([4014]);
  });

  it('without a door for WebTransport there is a WebSocket at once', () => {
    race({ web: null });
    expect(socket).toHaveLength(1);
    race({ web: () => null });
    expect(socket).toHaveLength(2);
  });

  it('with no way at all that is told', async () => {
    race({ web: null, socket: () => null });
    await Promise.resolve();
    expect(said).toEqual([1006]);
  });

  it('closed before it is decided, both leave and nothing is told', () => {
    const dial = race();
    vi.advanceTimersByTime(HEAD_START_MS);
    dial.close();
    expect([web[0]?.left, socket[0]?.left, said]).toEqual([true, true, []]);
    vi.advanceTimersByTime(WEB_HANDSHAKE_MS);
    expect(said).toEqual([]);
  });
});

describe('what is known of a door', () => {
  it('pauses grow from failure to failure up to a cap, and begin anew after a session that lasted', () => {
    const pauses = [];
    for (let now = 0; pauses.length < 12; now = reach.from) {
      reach.failed(now);
      pauses.push(reach.from - now);
    }
    expect(pauses.slice(0, 3)).toEqual([REACH_BASE_MS, 2 * REACH_BASE_MS, 4 * REACH_BASE_MS]);
    expect(pauses.at(-1)).toBe(REACH_CAP_MS);
    const up = reach.from;
    reach.opened(up);
    reach.failed(up + REACH_STABLE_MS - 1);
    expect(reach.from - up).toBeGreaterThan(REACH_CAP_MS);
    const again = reach.from;
    reach.opened(again);
    reach.failed(again + REACH_STABLE_MS);
    expect(reach.from - again - REACH_STABLE_MS).toBe(REACH_BASE_MS);
  });

  it('many viewers that fail together are one failure, and a change of network forgives', () => {
    for (let viewer = 0; viewer < 100; viewer += 1) reach.failed(1_000);
    expect(reach.from).toBe(1_000 + REACH_BASE_MS);
    reach.forgive();
    expect(reach.from).toBe(0);
  });
});

describe('the search for a better transport', () => {
  const opened: Transport[] = [];
  const search = () =>
    new Upgrade({
      open: make(web, 'WebTransport'),
      opened: (transport) => void opened.push(transport),
    });

  it('begins after the pause, one at a time, and hands over what is open', () => {
    const upgrade = search();
    reach.failed(performance.now());
    upgrade.follow(reach);
    upgrade.follow(reach);
    vi.advanceTimersByTime(REACH_BASE_MS - 1);
    expect(web).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(web).toHaveLength(1);
    web[0]?.listener.opened();
    expect(opened).toEqual([web[0]]);
    vi.advanceTimersByTime(REACH_CAP_MS);
    expect([web.length, web[0]?.left]).toEqual([1, false]);
  });

  it('goes on with longer pauses as long as it is wanted, and no longer', () => {
    const upgrade = search();
    upgrade.follow(reach);
    vi.advanceTimersByTime(1 + WEB_HANDSHAKE_MS + REACH_BASE_MS);
    expect(web.map(({ left }) => left)).toEqual([true, false]);
    upgrade.follow(null);
    expect(web[1]?.left).toBe(true);
    vi.advanceTimersByTime(REACH_CAP_MS);
    expect(web).toHaveLength(2);
  });

  it('a hint ends the pause, and begins anew what was begun before it', () => {
    const upgrade = search();
    reach.failed(performance.now());
    upgrade.follow(reach);
    reach.forgive();
    upgrade.hurry();
    upgrade.follow(reach);
    vi.advanceTimersByTime(1);
    expect(web).toHaveLength(1);
    upgrade.hurry();
    upgrade.follow(reach);
    vi.advanceTimersByTime(1);
    expect(web.map(({ left }) => left)).toEqual([true, false]);
  });
});
