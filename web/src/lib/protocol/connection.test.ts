import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { utf8 } from './bytes';
import { Connection, type ConnectionOptions, type Grant } from './connection';
import type { ViewerKey } from './key';
import type { ViewerEvent } from './phase';
import { Channel, ModelHost } from './testing/host';
import { TicketError } from './tickets';
import { brokerAddress } from './websocket';

const SESSION = '00000000-0000-4000-8000-0000000000bb';
const GRANT: Grant = {
  ticket: 't',
  resume: 'r',
  broker_url: '/viewer',
  broker_urls: ['/viewer'],
};
const [A, B] = ['https://a.example/viewer', 'https://b.example/viewer'];
const TWO: Grant = { ...GRANT, broker_url: A, broker_urls: [A, B] };
const KEY: ViewerKey = {
  software: false,
  confirmation: 'c',
  prove: () => Promise.resolve({ key: 'a', signature: 'b' }),
};

let sockets: FakeSocket[] = [];
let host: ModelHost;

/** A WebSocket whose other end is the model host. */
class FakeSocket {
  static readonly OPEN = 1;
  readyState = 0;
  binaryType = '';
  closedWith: number | undefined;
  onopen: (() => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;

  constructor(readonly url: string) {
    sockets.push(this);
    queueMicrotask(() => {
      this.readyState = 1;
      host.accept();
      this.onopen?.();
    });
  }

  send(bytes: Uint8Array<ArrayBuffer>): void {
    host.receive(bytes.slice());
    queueMicrotask(() => this.deliver());
  }

  deliver(): void {
    const bytes = host.take();
    if (bytes.length > 0) this.onmessage?.({ data: bytes.buffer });
  }

  close(code: number): void {
    this.closedWith = code;
    this.readyState = 3;
  }

  die(code = 1006): void {
    this.readyState = 3;
    this.onclose?.({ code, reason: '' });
  }
}

/** A WebTransport session whose stream ends at the model host, over a channel of its own. */
class FakeSession {
  static up = true;
  static all: FakeSession[] = [];
  readonly closed = new Promise<void>(() => {});
  readonly ready = FakeSession.up ? Promise.resolve() : new Promise<void>(() => {});
  readonly channel = new Channel();
  left = false;
  #controller: ReadableByteStreamController | undefined;

  constructor() {
    FakeSession.all.push(this);
  }

  createBidirectionalStream() {
    const readable = new ReadableStream({
      type: 'bytes',
      start: (controller) => {
        this.#controller = controller;
      },
    });
    const write = (bytes: Uint8Array<ArrayBuffer>) => {
      host.receive(bytes.slice(), this.channel);
      this.deliver();
    };
    return Promise.resolve({ readable, writable: new WritableStream({ write }) });
  }

  deliver(): void {
    const bytes = this.channel.take();
    if (bytes.length > 0) this.#controller?.enqueue(bytes);
  }

  die(): void {
    this.#controller?.error(new Error('gone'));
  }

  close(): void {
    this.left = true;
  }
}

beforeEach(() => {
  sockets = [];
  FakeSession.all = [];
  FakeSession.up = true;
  host = new ModelHost(SESSION);
  vi.stubGlobal('WebSocket', FakeSocket);
  // jsdom's own ArrayBuffer is not the one that typed arrays are made of here.
  vi.stubGlobal('ArrayBuffer', new Uint8Array(0).buffer.constructor);
});

afterEach(() => vi.unstubAllGlobals());

function connect(
  grant: ConnectionOptions['grant'] = () => Promise.resolve(GRANT),
  findBroker: ConnectionOptions['findBroker'] = () => Promise.reject(new Error('not asked')),
) {
  const events: ViewerEvent[] = [];
  const connection = new Connection({
    viewer: '00000000-0000-4000-8000-0000000000aa',
    session: SESSION,
    create: true,
    spec: { kind: 'terminal', cols: 80, rows: 24 },
    key: () => Promise.resolve(KEY),
    grant,
    findBroker,
    deliver: (event) => events.push(event),
  });
  connection.start();
  return { connection, events };
}

const live = (connection: Connection) =>
  vi.waitFor(() => expect(connection.machine.phase.at).toBe('live'), { timeout: 5_000 });

describe('connection', () => {
  it('asks for a ticket, dials, proves itself and types', async () => {
    const { connection } = connect();
    await live(connection);
    expect(sockets.map(({ url }) => url)).toEqual(['ws://localhost:3000/viewer']);
    connection.write(utf8('ls\n'));
    expect(String.fromCharCode(...host.typed)).toBe('ls\n');
    connection.dispose();
  });

  it('comes back with the resume capability, on a new socket', async () => {
    const grant = vi.fn(() => Promise.resolve(GRANT));
    const { connection } = connect(grant);
    await live(connection);
    sockets[0]?.die();
    await vi.waitFor(() => expect(sockets).toHaveLength(2));
    await live(connection);
    expect(host.firsts.map((first) => first.ticket)).toEqual(['t', 'r']);
    expect(grant).toHaveBeenCalledOnce();
    connection.dispose();
  });

  it('asks control where the machine is when its broker does not have it any more, and goes there', async () => {
    const find = vi.fn(() => Promise.resolve(B));
    const { connection } = connect(() => Promise.resolve(TWO), find);
    await live(connection);
    sockets[0]?.die(4010);
    await live(connection);
    await vi.waitFor(() => expect(sockets.at(-1)?.url).toBe('wss://b.example/viewer'));
    await live(connection);
    expect(find).toHaveBeenCalledOnce();
    connection.dispose();
  });

  it('tries the brokers in turn while control is away, too', async () => {
    const find = vi.fn(() => Promise.reject(new Error('control is away')));
    const { connection } = connect(() => Promise.resolve(TWO), find);
    await live(connection);
    sockets.at(-1)?.die(4010);
    await vi.waitFor(() => expect(find).toHaveBeenCalledOnce());
    await live(connection);
    sockets.at(-1)?.die();
    await vi.waitFor(() => expect(sockets.at(-1)?.url).toBe('wss://b.example/viewer'));
    await live(connection);
    connection.dispose();
  });

  it('what an older socket still says is not listened to', async () => {
    const { connection, events } = connect();
    await live(connection);
    const [old] = sockets;
    old?.die();
    await live(connection);
    const before = events.length;
    old?.onmessage?.({ data: Uint8Array.of(0xff, 0xff, 0xff, 0xff).buffer });
    old?.die(4006);
    expect(events.length).toBe(before);
    expect(connection.machine.phase.at).toBe('live');
    connection.dispose();
  });

  it('leaving says so, closes the socket and stays away', async () => {
    const { connection } = connect();
    await live(connection);
    connection.dispose();
    expect(host.heard.at(-1)?.kind).toBe(0x0b);
    expect(sockets[0]?.closedWith).toBe(1000);
    dispatchEvent(new Event('online'));
    expect(sockets).toHaveLength(1);
  });

  it('a person who is signed out is told, not made to wait', async () => {
    const cause = { code: 'unauthenticated', message: 'sign in' };
    const { connection } = connect(() => Promise.reject(new TicketError(cause, true)));
    await vi.waitFor(() => {
      expect(connection.machine.phase).toMatchObject({ at: 'over', ending: { cause } });
    });
    connection.dispose();
  });

  it('the network coming back replaces a ticket request that hangs', async () => {
    const signals: AbortSignal[] = [];
    const { connection } = connect((_confirmation, signal) => {
      signals.push(signal);
      return signals.length > 1 ? Promise.resolve(GRANT) : new Promise(() => {});
    });
    await vi.waitFor(() => expect(signals).toHaveLength(1));
    dispatchEvent(new Event('online'));
    await live(connection);
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
    connection.dispose();
  });

  it('a proof that fails is another attempt', async () => {
    const prove = vi.spyOn(KEY, 'prove').mockRejectedValueOnce(new Error('no key'));
    const { connection } = connect();
    await live(connection);
    expect(prove).toHaveBeenCalledTimes(2);
    expect(sockets).toHaveLength(2);
    connection.dispose();
  });

  it('a computer that slept is noticed by the clock, and the path is asked at once', async () => {
    const { connection } = connect();
    await live(connection);
    await vi.waitFor(() => expect(connection.machine.rtt).not.toBeNull());
    const wake = vi.spyOn(connection.machine, 'wake');
    const real = Date.now();
    vi.spyOn(Date, 'now').mockImplementation(() => real + 3_600_000);
    await vi.waitFor(() => expect(wake).toHaveBeenCalled(), { timeout: 3_000 });
    connection.dispose();
  });

  it.each([
    ['pageshow', () => dispatchEvent(new Event('pageshow'))],
    ['resume', () => document.dispatchEvent(new Event('resume'))],
    ['online', () => dispatchEvent(new Event('online'))],
    ['visibilitychange', () => document.dispatchEvent(new Event('visibilitychange'))],
  ])('%s asks whether the path is alive', async (_name, hint) => {
    const { connection } = connect();
    await live(connection);
    const pings = () => host.heard.filter(({ kind }) => kind === 0x0a).length;
    const before = pings();
    hint();
    expect(pings()).toBe(before + 1);
    connection.dispose();
  });

  it('the network coming back ends the wait', async () => {
    let works = false;
    const down = new TicketError({ code: 'control', message: 'down' }, false);
    const { connection } = connect(() => (works ? Promise.resolve(GRANT) : Promise.reject(down)));
    await vi.waitFor(() => expect(connection.machine.phase.at).toBe('waiting'));
    works = true;
    dispatchEvent(new Event('online'));
    await live(connection);
    connection.dispose();
  });
});

describe('connection with two doors', () => {
  let doors = 0;
  let grant: () => Promise<Grant>;
  const carriers = (events: ViewerEvent[]) =>
    events.flatMap((event) => (event.type === 'carrier' ? [event.carrier] : []));

  beforeEach(() => {
    vi.stubGlobal('WebTransport', FakeSession);
    vi.stubGlobal('WebTransportError', class extends Error {});
    // What is known of a door outlives a connection: each test has one of its own.
    doors += 1;
    const url = `https://broker.test:${doors}/viewer`;
    grant = () => Promise.resolve({ ...GRANT, web_transport: { url, hashes: [] } });
  });

  it('is carried by WebTransport, and makes no socket', async () => {
    const { connection, events } = connect(grant);
    await live(connection);
    connection.write(utf8('ls'));
    await vi.waitFor(() => expect(String.fromCharCode(...host.typed)).toBe('ls'));
    expect([carriers(events), sockets]).toEqual([['WebTransport'], []]);
    connection.dispose();
    await vi.waitFor(() => expect(FakeSession.all[0]?.left).toBe(true));
    expect(host.heard.at(-1)?.kind).toBe(0x0b);
  });

  it('falls back to a WebSocket, moves up when the network is back, and loses nothing', async () => {
    FakeSession.up = false;
    const { connection, events } = connect(grant);
    await live(connection);
    expect(carriers(events)).toEqual(['WebSocket']);
    connection.write(utf8('one '));
    FakeSession.up = true;
    dispatchEvent(new Event('online'));
    await vi.waitFor(() => expect(carriers(events)).toEqual(['WebSocket', 'WebTransport']));
    expect(connection.machine.phase.at).toBe('live');
    expect(sockets[0]?.closedWith).toBe(1000);
    connection.write(utf8('two'));
    await vi.waitFor(() => expect(String.fromCharCode(...host.typed)).toBe('one two'));
    expect(events.filter(({ type }) => type === 'fault' || type === 'gap')).toEqual([]);
    connection.dispose();
  });

  it('a session that breaks is followed by a WebSocket at once', async () => {
    const { connection, events } = connect(grant);
    await live(connection);
    FakeSession.all[0]?.die();
    await vi.waitFor(() => expect(carriers(events)).toEqual(['WebTransport', 'WebSocket']));
    await live(connection);
    expect(FakeSession.all).toHaveLength(1);
    connection.dispose();
  });

  it('hashes that may have been replaced are asked for before they are used', async () => {
    FakeSession.up = false;
    const asked = vi.fn(grant);
    const { connection } = connect(asked);
    await live(connection);
    const real = Date.now();
    vi.spyOn(Date, 'now').mockImplementation(() => real + 2 * 3_600_000);
    const before = FakeSession.all.length;
    dispatchEvent(new Event('online'));
    await vi.waitFor(() => expect(asked).toHaveBeenCalledTimes(2));
    expect(FakeSession.all).toHaveLength(before);
    vi.mocked(Date.now).mockRestore();
    connection.dispose();
  });
});

describe('address of the broker', () => {
  it.each([
    ['/viewer', 'https://app.test/m/1', 'wss://app.test/viewer'],
    ['/viewer', 'http://localhost:8080/m/1', 'ws://localhost:8080/viewer'],
    ['wss://broker.test/viewer', 'https://app.test/', 'wss://broker.test/viewer'],
    ['https://broker.test/viewer', 'https://app.test/', 'wss://broker.test/viewer'],
    ['javascript:alert(1)', 'https://app.test/', null],
    ['file:///viewer', 'https://app.test/', null],
    ['http://[', 'https://app.test/', null],
  ])('%s on %s', (url, page, address) => {
    expect(brokerAddress(url, page)).toBe(address);
  });
});
