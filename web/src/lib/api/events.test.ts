import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { backoff, EventStream } from './events';
import type { ServerEvent } from './sse';

/** One dial: what the test answers it with. */
class Dial {
  #body: ReadableStreamDefaultController<Uint8Array> | undefined;
  aborted = false;
  answer: (response: Response) => void = () => {};
  fail: (reason: Error) => void = () => {};
  readonly response: Promise<Response>;

  constructor(signal: AbortSignal) {
    this.response = new Promise((resolve, reject) => {
      this.answer = resolve;
      this.fail = reject;
    });
    signal.addEventListener('abort', () => {
      this.aborted = true;
      this.fail(new Error('aborted'));
      this.#body?.error(new Error('aborted'));
    });
  }

  open(): void {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#body = controller;
      },
    });
    this.answer(new Response(body));
  }

  write(text: string): void {
    this.#body?.enqueue(new TextEncoder().encode(text));
  }

  end(): void {
    this.#body?.close();
  }
}

let dials: Dial[] = [];
let got: ServerEvent[] = [];
let stream: EventStream;

beforeEach(() => {
  vi.useFakeTimers();
  dials = [];
  got = [];
  vi.stubGlobal('fetch', (_url: string, init: RequestInit) => {
    const dial = new Dial(init.signal as AbortSignal);
    dials.push(dial);
    return dial.response;
  });
  stream = new EventStream('/api/events', {
    deliver: (event) => got.push(event),
    stands: () => {},
  });
});

afterEach(() => {
  stream.stop();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

const settled = () => vi.advanceTimersByTimeAsync(0);

async function live(): Promise<Dial> {
  stream.start();
  const dial = dials.at(-1) as Dial;
  dial.open();
  dial.write('event: hello\ndata: {}\n\n');
  await settled();
  return dial;
}

describe('event stream', () => {
  it('is live with the first bytes and hands events on', async () => {
    await live();
    expect(stream.standing.state).toBe('live');
    expect(got).toEqual([{ event: 'hello', data: '{}' }]);
  });

  it('dials again after an end, and says that it is offline meanwhile', async () => {
    (await live()).end();
    await settled();
    expect(stream.standing.state).toBe('offline');
    expect(stream.standing.retryAt).toBeGreaterThan(Date.now());
    await vi.advanceTimersByTimeAsync(1000);
    expect(dials).toHaveLength(2);
  });

  it('replaces a stream that went silent', async () => {
    const dial = await live();
    await vi.advanceTimersByTimeAsync(39_000);
    expect(dial.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(dial.aborted).toBe(true);
    expect(stream.standing.state).toBe('offline');
  });

  it('keep-alive comments keep it', async () => {
    const dial = await live();
    for (let i = 0; i < 8; i++) {
      await vi.advanceTimersByTimeAsync(15_000);
      dial.write(': still here\n\n');
      await settled();
    }
    expect(dial.aborted).toBe(false);
    expect(stream.standing.state).toBe('live');
  });

  it('stops for good when the login is refused or revoked', async () => {
    stream.start();
    dials[0]?.answer(new Response(null, { status: 401 }));
    await settled();
    expect(stream.standing.state).toBe('signed-out');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(dials).toHaveLength(1);

    const dial = await live();
    dial.write('event: signed_out\ndata: {}\n\n');
    await settled();
    expect(stream.standing.state).toBe('signed-out');
    expect(dial.aborted).toBe(true);
  });

  it('a network that is back is tried at once', async () => {
    stream.start();
    dials[0]?.fail(new TypeError('Failed to fetch'));
    await settled();
    dispatchEvent(new Event('online'));
    expect(dials).toHaveLength(2);
  });

  it('two signs of a network that is back make one connection', async () => {
    stream.start();
    dials[0]?.fail(new TypeError('Failed to fetch'));
    await settled();
    dispatchEvent(new Event('online'));
    document.dispatchEvent(new Event('visibilitychange'));
    expect(dials).toHaveLength(3);
    expect(dials.map(({ aborted }) => aborted)).toEqual([true, true, false]);
    dials[2]?.open();
    dials[2]?.write(': here\n\n');
    await vi.advanceTimersByTimeAsync(20_000);
    expect(stream.standing.state).toBe('live');
    expect(dials).toHaveLength(3);
  });

  it('what an attempt that was let go still says is not listened to', async () => {
    stream.start();
    dials[0]?.fail(new TypeError('Failed to fetch'));
    await settled();
    stream.retryNow();
    const late = dials[1];
    stream.retryNow();
    late?.answer(new Response(null, { status: 401 }));
    await settled();
    expect(stream.standing.state).toBe('offline');
  });

  it('a stopped stream stays stopped', async () => {
    const dial = await live();
    stream.stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(dial.aborted).toBe(true);
    expect(dials).toHaveLength(1);
  });

  it('pauses grow, stay within bounds and differ', () => {
    for (let attempt = 0; attempt < 40; attempt++) {
      expect(backoff(attempt, () => 0)).toBeGreaterThanOrEqual(250);
      expect(backoff(attempt, () => 1)).toBeLessThanOrEqual(15_000);
    }
    expect(backoff(3, () => 1)).toBeGreaterThan(backoff(1, () => 1));
  });
});
