// @vitest-environment node
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { toBase64Url, utf8 } from './bytes';
import { WebTransportStream } from './web-transport';

const HASH = new Uint8Array(32).fill(7);
const DOOR = { url: 'https://broker.test:7443/viewer', hashes: [toBase64Url(HASH), 'not base64!'] };

/** What the browser throws when a stream was reset. */
class FakeError extends Error {
  constructor(readonly streamErrorCode: number | null) {
    super('reset');
  }
}

/** A session whose stream is real, and whose other end is the test. */
class FakeSession {
  static last: FakeSession;
  readonly written: number[] = [];
  readonly order: string[] = [];
  readonly closed = new Promise<void>(() => {});
  ready = Promise.resolve();
  controller: ReadableByteStreamController | undefined;
  holdWrites = Promise.resolve();

  constructor(
    readonly url: string,
    readonly options: WebTransportOptions,
  ) {
    if (!URL.canParse(url)) throw new SyntaxError('no URL');
    FakeSession.last = this;
  }

  createBidirectionalStream() {
    const readable = new ReadableStream({
      type: 'bytes',
      start: (controller) => {
        this.controller = controller;
      },
    });
    const writable = new WritableStream<Uint8Array>({
      write: async (bytes) => {
        await this.holdWrites;
        this.written.push(...bytes);
      },
      close: () => void this.order.push('stream'),
    });
    return Promise.resolve({ readable, writable });
  }

  close(): void {
    this.order.push('session');
  }
}

beforeEach(() => {
  vi.stubGlobal('WebTransport', FakeSession);
  vi.stubGlobal('WebTransportError', FakeError);
});
afterEach(() => vi.unstubAllGlobals());

/** A stream that is open, and what it has said. */
async function open() {
  const said: unknown[] = [];
  const stream = WebTransportStream.open(DOOR);
  if (!stream) throw new Error('nothing was opened');
  stream.listener = {
    opened: () => said.push('opened'),
    received: (bytes) => said.push(...bytes),
    closed: (code) => said.push(code),
  };
  await vi.waitFor(() => expect(said).toEqual(['opened']));
  said.length = 0;
  return { stream, said, session: FakeSession.last };
}

describe('a stream over WebTransport', () => {
  it('knows the broker by the hashes that are such', async () => {
    const { session } = await open();
    expect(session.url).toBe(DOOR.url);
    const [only, ...others] = session.options.serverCertificateHashes ?? [];
    expect([only?.algorithm, only?.value, others]).toEqual(['sha-256', HASH, []]);
  });

  it('an address that is none opens nothing', () => {
    expect(WebTransportStream.open({ url: 'nowhere', hashes: [] })).toBeNull();
  });

  it('brings bytes that stay what they were', async () => {
    const { stream, session } = await open();
    const kept: Uint8Array[] = [];
    stream.listener = { ...stream.listener, received: (bytes) => kept.push(bytes) };
    for (const text of ['one', 'two', 'three']) {
      session.controller?.enqueue(utf8(text));
      await vi.waitFor(() => expect(kept.at(-1)?.length).toBe(text.length));
    }
    expect(kept.map((bytes) => new TextDecoder().decode(bytes))).toEqual(['one', 'two', 'three']);
  });

  it('says how it ended: the code of a reset, done, or the path', async () => {
    for (const [end, code] of [
      [(session: FakeSession) => session.controller?.error(new FakeError(6)), 4006],
      [(session: FakeSession) => session.controller?.error(new FakeError(null)), 1006],
      [(session: FakeSession) => session.controller?.error(new Error('gone')), 1006],
    ] as const) {
      const { said, session } = await open();
      end(session);
      await vi.waitFor(() => expect(said).toEqual([code]));
    }
    const { said, session } = await open();
    session.controller?.enqueue(utf8('!'));
    session.controller?.close();
    // A reader that brought its own buffer gets it back with the end.
    session.controller?.byobRequest?.respond(0);
    await vi.waitFor(() => expect(said).toEqual([33, 4000]));
    expect(session.order).toContain('session');
  });

  it('a session that never comes about is an end, too', async () => {
    const said: unknown[] = [];
    const refused = class extends FakeSession {
      override ready = Promise.reject(new Error('refused'));
    };
    vi.stubGlobal('WebTransport', refused);
    const stream = WebTransportStream.open(DOOR);
    if (stream) stream.listener = { ...stream.listener, closed: (code) => said.push(code) };
    await vi.waitFor(() => expect(said).toEqual([1006]));
  });

  it('that is left delivers what was sent first, and says nothing more', async () => {
    const { stream, said, session } = await open();
    let letGo = () => {};
    session.holdWrites = new Promise((resolve) => {
      letGo = resolve;
    });
    stream.send(utf8('a'));
    stream.send(utf8('b'));
    stream.close();
    session.controller?.enqueue(utf8('late'));
    await Promise.resolve();
    expect(session.order).toEqual([]);
    letGo();
    await vi.waitFor(() => expect(session.order).toEqual(['stream', 'session']));
    expect([session.written, said]).toEqual([[97, 98], []]);
  });
});
