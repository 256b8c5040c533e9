/**
 * One files stream: dialled, admitted, asked. It lives as long as its connection; who wants to go on after that opens
 * another one, and says where it stopped.
 */
import { type Bytes, fromBase64Url, utf8, uuid } from '../protocol/bytes';
import { closeCodeByName, closeCodeOfWebSocket } from '../protocol/codes';
import { encodeFrame, FrameDecoder, ProtocolError } from '../protocol/frames';
import { loadViewerKey, type ViewerKey } from '../protocol/key';
import { DIAL_TIMEOUT_MS, GREETING_TIMEOUT_MS, PROTOCOL_VERSION } from '../protocol/limits';
import { Race } from '../protocol/race';
import { reachOf } from '../protocol/reach';
import { fetchTicket, TicketError } from '../protocol/tickets';
import { DEAF, type Listener, type Transport } from '../protocol/transport';
import { hasWebTransport, WebTransportStream } from '../protocol/web-transport';
import { SocketTransport } from '../protocol/websocket';
import {
  decodeReply,
  encodeAsk,
  encodePing,
  type Op,
  type Opened,
  type Outcome,
  type Reply,
} from './messages';

/** How often a stream says that it is there, ms. */
const PING_EVERY_MS = 5_000;
/** Without a byte for so long the path is dead, ms. */
const DEAD_MS = 15_000;

/** Why something with files failed. */
export class FilesError extends Error {
  override readonly name = 'FilesError';

  constructor(
    /** A failure of the host's, a name of the table of close codes, or `network`. */
    readonly code: string,
    message: string,
    /** The connection went: the same may work on the next one. */
    readonly lost: boolean,
  ) {
    super(message);
  }
}

/** One question and what is answered to it, in order. */
export class Exchange {
  #came: Outcome[] = [];
  #waiting: ((outcome: Outcome) => void) | null = null;
  #failing: ((error: FilesError) => void) | null = null;
  #error: FilesError | null = null;
  /** Bytes of a download. */
  ondata: ((offset: number, bytes: Bytes) => void) | null = null;

  /** The next answer; a failure is thrown. */
  async next(): Promise<Outcome> {
    const outcome = this.#came.shift() ?? (await this.#wait());
    if (outcome.is === 'failed') throw new FilesError(outcome.code, outcome.message, false);
    return outcome;
  }

  #wait(): Promise<Outcome> {
    if (this.#error) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => {
      this.#waiting = resolve;
      this.#failing = reject;
    });
  }

  take(outcome: Outcome): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting) waiting(outcome);
    else this.#came.push(outcome);
  }

  fail(error: FilesError): void {
    this.#error = error;
    if (this.#waiting) this.#failing?.(error);
    this.#waiting = null;
  }
}

/** See the module. */
export class FilesStream {
  readonly opened: Opened;
  /** Runs when it is over. */
  onclosed: () => void = () => {};
  readonly #transport: Transport;
  readonly #exchanges = new Map<number, Exchange>();
  #last: Exchange | null = null;
  #next = 1;
  #heard = performance.now();
  #error: FilesError | null = null;
  readonly #timer: ReturnType<typeof setInterval>;

  private constructor(transport: Transport, opened: Opened, decoder: FrameDecoder, ears: Listener) {
    this.#transport = transport;
    this.opened = opened;
    ears.received = (bytes) => this.#received(decoder, bytes);
    ears.closed = (code, reason) => this.#over(closed(code, reason));
    this.#timer = setInterval(() => this.#beat(), PING_EVERY_MS);
  }

  /** Opens one to a machine; it ends with the signal. */
  static async open(machine: string, signal: AbortSignal): Promise<FilesStream> {
    const session = uuid();
    const key = await loadViewerKey();
    const grant = await fetchTicket(machine, session, key.confirmation, signal, [
      'files.read',
      'files.write',
    ]).catch((thrown: unknown) => {
      if (!(thrown instanceof TicketError)) throw thrown;
      throw new FilesError(thrown.cause.code, thrown.message, !thrown.final);
    });
    const door = hasWebTransport() ? grant.web_transport : null;
    const transport = new Race({
      web: door ? () => WebTransportStream.open(door) : null,
      socket: () => SocketTransport.open(grant.broker_url),
      reach: reachOf(door?.url ?? ''),
    });
    const decoder = new FrameDecoder();
    // A race hands its listener on once: what that does changes, it does not.
    const ears: Listener = { ...DEAF };
    transport.listener = ears;
    try {
      const opened = await greet(transport, ears, decoder, key, grant.ticket, session, signal);
      const stream = new FilesStream(transport, opened, decoder, ears);
      signal.addEventListener('abort', () => stream.close(), { once: true });
      return stream;
    } catch (error) {
      transport.close();
      throw error;
    }
  }

  /** Whether it can be asked anything. */
  get alive(): boolean {
    return this.#error === null;
  }

  /** Asks; what comes of it is the exchange's. */
  ask(op: Op): Exchange {
    const exchange = new Exchange();
    if (this.#error) {
      exchange.fail(this.#error);
      return exchange;
    }
    const id = this.#next++;
    this.#exchanges.set(id, exchange);
    this.#last = exchange;
    this.#transport.send(encodeAsk(id, op));
    return exchange;
  }

  /** Sends a frame that is no question. */
  send(frame: Bytes): void {
    this.#transport.send(frame);
  }

  /** Leaves. */
  close(): void {
    this.#over(new FilesError('cancelled', 'it was closed', false));
  }

  #received(decoder: FrameDecoder, bytes: Bytes): void {
    this.#heard = performance.now();
    try {
      for (const frame of decoder.push(bytes)) {
        const reply = decodeReply(frame);
        if (reply) this.#take(reply);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#over(new FilesError('protocol_error', error.message, false));
    }
  }

  #take(reply: Reply): void {
    switch (reply.type) {
      case 'Answer':
        return this.#exchanges.get(reply.id)?.take(reply.outcome);
      case 'Data':
        return this.#last?.ondata?.(reply.offset, reply.bytes);
      case 'Error':
        return this.#over(refused(reply.code, reply.message));
      case 'Challenge':
      case 'Opened':
      case 'Pong':
        return;
    }
  }

  #beat(): void {
    if (performance.now() - this.#heard > DEAD_MS) {
      this.#over(new FilesError('network', 'the machine does not answer', true));
    } else this.#transport.send(encodePing());
  }

  #over(error: FilesError): void {
    if (this.#error) return;
    this.#error = error;
    clearInterval(this.#timer);
    this.#transport.close();
    for (const exchange of this.#exchanges.values()) exchange.fail(error);
    this.#exchanges.clear();
    this.onclosed();
  }
}

/** From a transport that is being opened to the host's first word. */
function greet(
  transport: Transport,
  ears: Listener,
  decoder: FrameDecoder,
  key: ViewerKey,
  ticket: string,
  session: string,
  signal: AbortSignal,
): Promise<Opened> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new FilesError('network', 'the machine does not answer', true));
    let timer = setTimeout(late, DIAL_TIMEOUT_MS);
    const settle = (act: () => void) => {
      clearTimeout(timer);
      act();
    };
    signal.addEventListener('abort', () =>
      settle(() => reject(new FilesError('cancelled', 'it was cancelled', false))),
    );
    const spec = { kind: 'files', cols: 0, rows: 0 };
    const body = { v: PROTOCOL_VERSION, features: [], ticket, viewer: uuid(), session, spec };
    const first = utf8(JSON.stringify(body));
    const take = (reply: Reply) => {
      if (reply.type === 'Error') settle(() => reject(refused(reply.code, reply.message)));
      if (reply.type === 'Opened') settle(() => resolve(reply));
      if (reply.type !== 'Challenge') return;
      const nonce = fromBase64Url(reply.nonce) ?? new Uint8Array(0);
      key.prove({ nonce, first }).then(
        (proof) => transport.send(encodeFrame(0x03, utf8(JSON.stringify(proof)))),
        (thrown: unknown) => settle(() => reject(thrown)),
      );
    };
    ears.opened = () => {
      clearTimeout(timer);
      timer = setTimeout(late, GREETING_TIMEOUT_MS);
      transport.send(encodeFrame(0x01, first));
    };
    ears.received = (bytes) => {
      try {
        for (const frame of decoder.push(bytes)) {
          const reply = decodeReply(frame);
          if (reply) take(reply);
        }
      } catch (error) {
        settle(() => reject(error));
      }
    };
    ears.closed = (code, reason) => settle(() => reject(closed(code, reason)));
  });
}

function closed(code: number, reason: string): FilesError {
  const row = closeCodeOfWebSocket(code);
  if (row) return refused(row.name, reason || row.name);
  return new FilesError('network', reason || 'the connection broke', true);
}

function refused(code: string, message: string): FilesError {
  const retry = closeCodeByName(code)?.retry ?? 'backoff';
  return new FilesError(code, message, retry !== 'never');
}
