import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SharedStream } from './shared-events.svelte';
import type { ServerEvent } from './sse';

const SILENCE_MS = 40_000;
const HELLO = 'event: hello\ndata: {}\n\n';

/** Locks of one name, as browsers keep them. */
class FakeLocks {
  #holder: { taken: (reason: Error) => void } | null = null;
  #queue: (() => void)[] = [];

  request(_name: string, { steal, signal }: LockOptions, work: () => Promise<void>): Promise<void> {
    return new Promise((done, fail) => {
      const run = () => {
        const holder = { taken: fail };
        this.#holder = holder;
        void work().then(() => {
          if (this.#holder === holder) this.#release();
          done();
        });
      };
      signal?.addEventListener('abort', () => {
        this.#queue = this.#queue.filter((each) => each !== run);
        fail(new Error('aborted'));
      });
      if (steal) this.#holder?.taken(new Error('stolen'));
      if (steal || !this.#holder) run();
      else this.#queue.push(run);
    });
  }

  #release(): void {
    this.#holder = null;
    this.#queue.shift()?.();
  }
}

/** Channels of one name. A tab that is frozen neither says nor hears anything. */
class FakeChannel {
  static all: FakeChannel[] = [];
  onmessage: ((event: { data: unknown }) => void) | null = null;
  frozen = false;

  constructor() {
    FakeChannel.all.push(this);
  }

  postMessage(data: unknown): void {
    if (this.frozen) return;
    const others = FakeChannel.all.filter((each) => each !== this && !each.frozen);
    for (const other of others) other.onmessage?.({ data });
  }

  close(): void {
    FakeChannel.all = FakeChannel.all.filter((each) => each !== this);
  }
}

/** Streams that were dialled and not let go. */
let open: ReadableStreamDefaultController<Uint8Array>[] = [];
let refuse = false;
let tabs: Tab[] = [];

class Tab {
  readonly got: string[] = [];
  readonly stream = new SharedStream('/api/events', {
    deliver: ({ event }) => this.got.push(event),
    summary: (): ServerEvent | null => (this.got.length > 0 ? { event: 'hello', data: '' } : null),
  });

  constructor(user = 'u1') {
    this.stream.start(user);
    tabs.push(this);
  }
}

const settled = () => vi.advanceTimersByTimeAsync(0);
const write = async (text: string) => {
  open.at(-1)?.enqueue(new TextEncoder().encode(text));
  await settled();
};
const states = () => tabs.map(({ stream }) => stream.state);

function dial(_url: string, { signal }: RequestInit): Promise<Response> {
  if (refuse) return Promise.resolve(new Response(null, { status: 401 }));
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      open.push(controller);
      signal?.addEventListener('abort', () => {
        open = open.filter((each) => each !== controller);
        controller.error(new Error('aborted'));
      });
    },
  });
  return Promise.resolve(new Response(body));
}

beforeEach(() => {
  vi.useFakeTimers();
  [open, tabs, refuse] = [[], [], false];
  FakeChannel.all = [];
  vi.stubGlobal('fetch', dial);
  vi.stubGlobal('BroadcastChannel', FakeChannel);
  Object.defineProperty(navigator, 'locks', { value: new FakeLocks(), configurable: true });
});

afterEach(() => {
  for (const { stream } of tabs) stream.stop();
  Reflect.deleteProperty(navigator, 'locks');
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe('a shared event stream', () => {
  it('is one connection, and every tab hears every event', async () => {
    for (let n = 0; n < 7; n += 1) new Tab();
    await settled();
    await write(HELLO);
    await write('event: machine\ndata: {}\n\n');
    expect(open).toHaveLength(1);
    for (const { got } of tabs) expect(got).toEqual(['hello', 'machine']);
    expect(new Set(states())).toEqual(new Set(['live']));
  });

  it('a tab that comes later is told what is known', async () => {
    new Tab();
    await settled();
    await write(HELLO);
    const late = new Tab();
    expect(late.got).toEqual(['hello']);
    expect(late.stream.state).toBe('live');
  });

  it('when its tab is closed another one goes on', async () => {
    const [first, second] = [new Tab(), new Tab()];
    await settled();
    await write(HELLO);
    first.stream.stop();
    await settled();
    expect(open).toHaveLength(1);
    await write(HELLO);
    expect(second.got).toEqual(['hello', 'hello']);
  });

  it('a leader that fell silent is replaced, and follows when it wakes', async () => {
    const [first, second] = [new Tab(), new Tab()];
    await settled();
    await write(HELLO);
    const [frozen] = FakeChannel.all as [FakeChannel];
    frozen.frozen = true;
    // Its connection hangs as well: a frozen tab reads nothing, and its watchdog does not run.
    await vi.advanceTimersByTimeAsync(SILENCE_MS);
    frozen.frozen = false;
    await vi.advanceTimersByTimeAsync(1_000);
    await write(HELLO);
    expect(open).toHaveLength(1);
    expect(first.got.length).toBeGreaterThan(1);
    expect(second.got.length).toBeGreaterThan(1);
    expect(states()).toEqual(['live', 'live']);
  });

  it('waking up doubts a leader that does not answer', async () => {
    new Tab();
    const second = new Tab();
    await settled();
    await write(HELLO);
    for (const channel of FakeChannel.all.slice(0, 1)) channel.frozen = true;
    document.dispatchEvent(new Event('visibilitychange'));
    await vi.advanceTimersByTimeAsync(2_000);
    await write(HELLO);
    expect(second.got).toEqual(['hello', 'hello']);
  });

  it('each tab finds out for itself that its login has ended', async () => {
    for (let n = 0; n < 3; n += 1) new Tab();
    await settled();
    await write(HELLO);
    refuse = true;
    await write('event: signed_out\ndata: {}\n\n');
    await settled();
    expect(states()).toEqual(['signed-out', 'signed-out', 'signed-out']);
  });

  it('without locks each tab has its own', async () => {
    Reflect.deleteProperty(navigator, 'locks');
    new Tab();
    new Tab();
    await settled();
    expect(open).toHaveLength(2);
  });
});
