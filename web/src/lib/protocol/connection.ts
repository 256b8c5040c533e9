/**
 * The thin shell around {@link ViewerMachine}: one WebSocket at a time, one timer, tickets, proofs and
 * the browser's hints that the network or the page is back. It makes the world what the machine wants;
 * every decision is the machine's.
 */
import type { Bytes } from './bytes';
import type { ViewerKey } from './key';
import type { SignalName, Size, Spec } from './messages';
import type { ViewerEvent } from './phase';
import { TicketError } from './tickets';
import { ViewerMachine } from './viewer';

/** A ticket, the capability to resume, and where the machine's broker listens. */
export interface Grant {
  readonly ticket: string;
  readonly resume: string;
  /** Absolute `ws(s)://…`, or a path of this origin. */
  readonly broker_url: string;
}

/** What a connection is made with. */
export interface ConnectionOptions {
  readonly viewer: string;
  readonly session: string;
  readonly create: boolean;
  readonly spec: Spec;
  /** This page's key. */
  readonly key: () => Promise<ViewerKey>;
  /** Asks control for a ticket for the key of this confirmation, until the signal gives up. */
  readonly grant: (confirmation: string, signal: AbortSignal) => Promise<Grant>;
  /** Everything that happens, in order. */
  readonly deliver: (event: ViewerEvent) => void;
}

interface Transport {
  readonly n: number;
  readonly socket: WebSocket;
  proving: boolean;
}

/** A ticket that is being asked for, in the attempt `n`. */
interface TicketRequest {
  readonly n: number;
  readonly abort: AbortController;
}

const NORMAL_CLOSURE = 1000;
const ABNORMAL_CLOSURE = 1006;
/** A timer this late says that the computer slept, ms: no busy page makes it that late. */
const SLEPT_MS = 5_000;

/** One viewer of one session, attached for as long as it lives. */
export class Connection {
  readonly machine: ViewerMachine;
  readonly #options: ConnectionOptions;
  readonly #unlisten = new AbortController();
  #transport: Transport | null = null;
  #brokerUrl = '/viewer';
  #request: TicketRequest | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #settling = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.machine = new ViewerMachine({ ...options, random: Math.random });
  }

  /** Begins. */
  start(): void {
    this.#listen();
    this.#do((now) => {
      this.machine.setVisible(document.visibilityState === 'visible', now);
      this.machine.start(now);
    });
  }

  /** Input, taken whole or not at all. */
  write(bytes: Uint8Array): boolean {
    return this.#do((now) => this.machine.write(bytes, now));
  }

  /** See {@link ViewerMachine.parsed}. */
  parsed(generation: number, offset: number): void {
    this.#do((now) => this.machine.parsed(generation, offset, now));
  }

  /** See {@link ViewerMachine.resize}. */
  resize(size: Size): void {
    this.#do(() => this.machine.resize(size));
  }

  /** See {@link ViewerMachine.takeLease}. */
  takeLease(): void {
    this.#do(() => this.machine.takeLease());
  }

  /** See {@link ViewerMachine.signal}. */
  signal(signal: SignalName): void {
    this.#do(() => this.machine.signal(signal));
  }

  /** See {@link ViewerMachine.cancelInput}. */
  cancelInput(): void {
    this.#do(() => this.machine.cancelInput());
  }

  /** See {@link ViewerMachine.endSession}. */
  endSession(): void {
    this.#do(() => this.machine.endSession());
  }

  /** Tries at once instead of waiting for the backoff. */
  wake(): void {
    this.#do((now) => this.machine.wake(now));
  }

  /** Leaves for good; the session goes on. */
  dispose(): void {
    this.#do(() => this.machine.detach());
    this.#unlisten.abort();
    clearTimeout(this.#timer);
  }

  #listen(): void {
    const { signal } = this.#unlisten;
    const visible = () => {
      this.#do((now) => this.machine.setVisible(document.visibilityState === 'visible', now));
    };
    addEventListener('online', () => this.wake(), { signal });
    addEventListener('pageshow', () => this.wake(), { signal });
    // A page that the browser had frozen; a change of network that came without an `offline` (Chromium tells).
    document.addEventListener('resume', () => this.wake(), { signal });
    networkOf(navigator)?.addEventListener('change', () => this.wake(), { signal });
    document.addEventListener('visibilitychange', visible, { signal });
  }

  /** Tells the machine something and settles what follows from it. */
  #do<T>(act: (now: number) => T): T {
    const result = act(performance.now());
    this.#settle();
    return result;
  }

  /** Sends, delivers and reconciles until nothing is left. A listener may call back in: the outer call goes on for it. */
  #settle(): void {
    if (this.#settling) return;
    this.#settling = true;
    try {
      do {
        this.#transmit();
        this.#reconcile();
      } while (this.#deliver());
    } finally {
      this.#settling = false;
    }
    this.#arm();
  }

  #transmit(): void {
    const socket = this.#transport?.socket;
    if (socket?.readyState !== WebSocket.OPEN) return;
    for (let bytes = this.machine.pollTransmit(); bytes; bytes = this.machine.pollTransmit()) {
      socket.send(bytes);
    }
  }

  /** Delivers all events; whether there were any. */
  #deliver(): boolean {
    let any = false;
    for (let event = this.machine.pollEvent(); event; event = this.machine.pollEvent()) {
      any = true;
      this.#options.deliver(event);
    }
    return any;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const at = this.machine.pollTimeout();
    if (at === null) return;
    const delay = Math.max(0, at - performance.now());
    const due = Date.now() + delay;
    this.#timer = setTimeout(() => {
      // The wall clock goes on while a computer sleeps, timers do not: this is how it shows that it has slept.
      if (Date.now() - due >= SLEPT_MS) this.wake();
      else this.#do((now) => this.machine.tick(now));
    }, delay);
  }

  // ── making the world what the machine wants ─────────────────────────────────────────────────

  #reconcile(): void {
    const want = this.machine.want;
    if (this.#transport && (want.kind !== 'transport' || want.n !== this.#transport.n))
      this.#drop();
    if (this.#request && (want.kind !== 'ticket' || want.n !== this.#request.n)) {
      this.#request.abort.abort();
      this.#request = null;
    }
    if (want.kind === 'ticket' && !this.#request) void this.#ask(want.n);
    if (want.kind !== 'transport') return;
    const transport = this.#transport ?? this.#dial(want.n);
    if (!transport || !want.prove || transport.proving) return;
    transport.proving = true;
    void this.#prove(transport, want.prove);
  }

  #drop(): void {
    const transport = this.#transport;
    this.#transport = null;
    transport?.socket.close(NORMAL_CLOSURE);
  }

  async #ask(n: number): Promise<void> {
    const request: TicketRequest = { n, abort: new AbortController() };
    this.#request = request;
    const current = () => this.#request === request;
    try {
      const key = await this.#options.key();
      const grant = await this.#options.grant(key.confirmation, request.abort.signal);
      if (!current()) return;
      this.#brokerUrl = grant.broker_url;
      this.#do((now) => this.machine.ticketGranted(grant, now));
    } catch (thrown) {
      if (!current()) return;
      const error = thrown instanceof TicketError ? thrown : unexpected(thrown);
      this.#do((now) => this.machine.ticketFailed(error.cause, error.final, now));
    }
  }

  #dial(n: number): Transport | null {
    const socket = openSocket(this.#brokerUrl);
    if (!socket) {
      queueMicrotask(() =>
        this.#closed(n, ABNORMAL_CLOSURE, 'broker address is no WebSocket address'),
      );
      return null;
    }
    socket.binaryType = 'arraybuffer';
    const transport: Transport = { n, socket, proving: false };
    this.#transport = transport;
    const current = () => this.#transport === transport;
    socket.onopen = () => current() && this.#do((now) => this.machine.connected(now));
    socket.onclose = ({ code, reason }) => {
      if (!current()) return;
      this.#transport = null;
      this.#closed(n, code, reason);
    };
    socket.onmessage = ({ data }: MessageEvent<unknown>) => {
      if (!current() || !(data instanceof ArrayBuffer)) return;
      const bytes: Bytes = new Uint8Array(data);
      this.#do((now) => this.machine.received(bytes, now));
    };
    return transport;
  }

  #closed(n: number, code: number, reason: string): void {
    const want = this.machine.want;
    if (want.kind !== 'transport' || want.n !== n) return;
    this.#do((now) => this.machine.closed(code, reason, now));
  }

  async #prove(transport: Transport, request: Parameters<ViewerKey['prove']>[0]): Promise<void> {
    try {
      const key = await this.#options.key();
      const proof = await key.prove(request);
      if (this.#transport === transport) this.#do(() => this.machine.proven(proof));
    } catch (thrown) {
      if (this.#transport !== transport) return;
      this.#closed(transport.n, ABNORMAL_CLOSURE, unexpected(thrown).message);
    }
  }
}

/** Where a browser tells of changes of the network (Network Information API), if it does. */
function networkOf(browser: Navigator): EventTarget | null {
  const network = 'connection' in browser ? browser.connection : null;
  return network instanceof EventTarget ? network : null;
}

/** The address of the broker as control named it, or null when it is none. */
export function brokerAddress(url: string, page: string): string | null {
  if (!URL.canParse(url, page)) return null;
  const address = new URL(url, page);
  if (address.protocol === 'http:') address.protocol = 'ws:';
  if (address.protocol === 'https:') address.protocol = 'wss:';
  address.hash = '';
  return address.protocol === 'ws:' || address.protocol === 'wss:' ? address.href : null;
}

function openSocket(url: string): WebSocket | null {
  const address = brokerAddress(url, location.href);
  try {
    return address === null ? null : new WebSocket(address);
  } catch {
    // A `ws:` address on an https page: refused by the browser before anything is sent.
    return null;
  }
}

function unexpected(thrown: unknown): TicketError {
  const message = thrown instanceof Error ? thrown.message : 'the ticket request failed';
  return new TicketError({ code: 'control', message }, false);
}
