/**
 * The thin shell around {@link ViewerMachine}: one transport at a time and a better one that takes over, one timer,
 * tickets, proofs and the browser's hints that the network or the page is back. It makes the world what the
 * machine wants; every decision is the machine's, but for what carries the bytes.
 */
import type { Bytes } from './bytes';
import { closeCodeOfWebSocket } from './codes';
import type { ViewerKey } from './key';
import { HASHES_FRESH_MS } from './limits';
import type { Proof, SignalName, Size, Spec } from './messages';
import type { ProofRequest, ViewerEvent } from './phase';
import { Race } from './race';
import { type Reach, reachOf } from './reach';
import { TicketError } from './tickets';
import { ABNORMAL_CLOSURE, type Carrier, type Transport } from './transport';
import { Upgrade } from './upgrade';
import { ViewerMachine } from './viewer';
import { hasWebTransport, type WebDoor, WebTransportStream } from './web-transport';
import { SocketTransport } from './websocket';

/** A ticket, the capability to resume, and where the machine's broker listens. */
export interface Grant {
  readonly ticket: string;
  readonly resume: string;
  /** Absolute `ws(s)://…`, or a path of this origin. */
  readonly broker_url: string;
  /** Where the same broker listens for WebTransport, if it does. */
  readonly web_transport?: WebDoor | null;
  /** Where to look for the machine while control cannot be asked, that one first. */
  readonly broker_urls: readonly string[];
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
  /** Asks control where the machine's broker is now. */
  readonly findBroker: (signal: AbortSignal) => Promise<string>;
  /** Everything that happens, in order. */
  readonly deliver: (event: ViewerEvent) => void;
}

/** A transport of the machine's attempt `n`. */
interface Attached {
  readonly n: number;
  readonly transport: Transport;
  proving: boolean;
}

/** A ticket that is being asked for, in the attempt `n`. */
interface TicketRequest {
  readonly n: number;
  readonly abort: AbortController;
}

/** Closes by which a broker says that the machine is not there, or that it goes away itself. */
const STRAYED = ['machine_offline', 'draining'];
/** Longest wait for control's word on where the machine is, ms. */
const FIND_TIMEOUT_MS = 5_000;
/** A timer this late says that the computer slept, ms: no busy page makes it that late. */
const SLEPT_MS = 5_000;

/** One viewer of one session, attached for as long as it lives. */
export class Connection {
  readonly machine: ViewerMachine;
  readonly #options: ConnectionOptions;
  readonly #unlisten = new AbortController();
  readonly #upgrade: Upgrade;
  #transport: Attached | null = null;
  /** The better one that is taking over. */
  #next: Attached | null = null;
  #carrier: Carrier | null = null;
  #grant: Pick<Grant, 'broker_url' | 'web_transport'> = { broker_url: '/viewer' };
  #grantedAt = 0;
  /** All brokers that are known; one alone is never left for another. */
  #brokers: readonly string[] = [];
  #finding = false;
  #request: TicketRequest | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #settling = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.machine = new ViewerMachine({ ...options, random: Math.random });
    this.#upgrade = new Upgrade({
      open: () => this.#openWeb(),
      opened: (transport) => this.#better(transport),
    });
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
    this.#reach?.forgive();
    this.#upgrade.hurry();
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
        this.#takeOver();
        this.#transmit();
        this.#reconcile();
      } while (this.#deliver());
    } finally {
      this.#settling = false;
    }
    this.#arm();
  }

  #transmit(): void {
    const { machine } = this;
    for (let bytes = machine.pollTransmit(); bytes; bytes = machine.pollTransmit()) {
      this.#transport?.transport.send(bytes);
    }
    for (let bytes = machine.pollTransmitNext(); bytes; bytes = machine.pollTransmitNext()) {
      this.#next?.transport.send(bytes);
    }
  }

  /** Delivers all events; whether there were any. */
  #deliver(): boolean {
    let any = this.#tellCarrier();
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
    const [n, next] = want.kind === 'transport' ? [want.n, want.next?.n] : [undefined, undefined];
    if (this.#transport && this.#transport.n !== n) this.#transport = this.#drop(this.#transport);
    if (this.#next && this.#next.n !== next) this.#next = this.#drop(this.#next);
    if (this.#request && (want.kind !== 'ticket' || want.n !== this.#request.n)) {
      this.#request.abort.abort();
      this.#request = null;
    }
    if (want.kind === 'ticket' && !this.#request) void this.#ask(want.n);
    if (want.kind === 'transport') {
      this.#transport ??= this.#dial(want.n);
      this.#proveFor(this.#transport, want.prove, (proof) => this.machine.proven(proof));
      const provenNext = (proof: Proof) => this.machine.provenNext(proof);
      if (this.#next) this.#proveFor(this.#next, want.next?.prove ?? null, provenNext);
    }
    this.#upgrade.follow(this.#wantsBetter() ? this.#reach : null);
  }

  /** When the host has opened the better transport, the older one is the viewer's no more: what is sent from here on goes by the better one. */
  #takeOver(): void {
    const want = this.machine.want;
    if (!this.#next || want.kind !== 'transport' || want.n !== this.#next.n) return;
    this.#transport?.transport.close();
    this.#transport = this.#next;
    this.#next = null;
  }

  /** The machine has given it up: while it still wants to be attached, because nothing came. */
  #drop({ transport }: Attached): null {
    const failed = transport.carrier === 'WebTransport' && this.machine.phase.at !== 'over';
    if (failed) this.#reach?.failed(performance.now());
    transport.close();
    return null;
  }

  /** Tells what carries the viewer, once that has changed; whether it has. */
  #tellCarrier(): boolean {
    const carrier = this.#transport?.transport.carrier ?? null;
    if (this.machine.phase.at !== 'live' || carrier === this.#carrier || !carrier) return false;
    this.#carrier = carrier;
    this.#options.deliver({ type: 'carrier', carrier });
    return true;
  }

  // ── doors ───────────────────────────────────────────────────────────────────────────────────

  get #door(): WebDoor | null {
    return hasWebTransport() ? (this.#grant.web_transport ?? null) : null;
  }

  get #reach(): Reach | null {
    return this.#door && reachOf(this.#door.url);
  }

  #wantsBetter(): boolean {
    const live = this.machine.phase.at === 'live';
    return live && !this.#next && this.#transport?.transport.carrier === 'WebSocket';
  }

  /** Begins a WebTransport by certificates that are not yet replaced; if they may be, they are asked for first. */
  #openWeb(): Transport | null {
    const door = this.#door;
    if (Date.now() - this.#grantedAt < HASHES_FRESH_MS)
      return door && WebTransportStream.open(door);
    void this.#askHashes();
    return null;
  }

  async #askHashes(): Promise<void> {
    try {
      const { confirmation } = await this.#options.key();
      this.#granted(await this.#options.grant(confirmation, this.#unlisten.signal));
    } catch {
      // It is asked again before the next try.
    }
  }

  #granted({ broker_url, web_transport }: Grant): void {
    this.#grant = { broker_url, web_transport: web_transport ?? null };
    this.#grantedAt = Date.now();
  }

  /** A better transport is open beside the one there is. */
  #better(transport: Transport): void {
    const n = this.#do((now) => {
      const n = this.machine.better(now);
      if (n === null) return null;
      this.#next = { n, transport, proving: false };
      this.#listenTo(this.#next);
      return n;
    });
    if (n === null) transport.close();
  }

  async #ask(n: number): Promise<void> {
    const request: TicketRequest = { n, abort: new AbortController() };
    this.#request = request;
    const current = () => this.#request === request;
    try {
      const key = await this.#options.key();
      const grant = await this.#options.grant(key.confirmation, request.abort.signal);
      if (!current()) return;
      this.#granted(grant);
      this.#brokers = grant.broker_urls;
      this.#do((now) => this.machine.ticketGranted(grant, now));
    } catch (thrown) {
      if (!current()) return;
      const error = thrown instanceof TicketError ? thrown : unexpected(thrown);
      this.#do((now) => this.machine.ticketFailed(error.cause, error.final, now));
    }
  }

  #dial(n: number): Attached {
    const { broker_url } = this.#grant;
    const transport = new Race({
      web: this.#door && (() => this.#openWeb()),
      socket: () => SocketTransport.open(broker_url),
      reach: this.#reach ?? NOWHERE,
    });
    const attached: Attached = { n, transport, proving: false };
    this.#listenTo(attached);
    return attached;
  }

  #listenTo(attached: Attached): void {
    const isNext = () => this.#next === attached;
    let opened = false;
    attached.transport.listener = {
      opened: () => {
        opened = true;
        this.#do((now) => this.machine.connected(now));
      },
      received: (bytes: Bytes) =>
        this.#do((now) =>
          isNext() ? this.machine.receivedNext(bytes, now) : this.machine.received(bytes, now),
        ),
      closed: (code, reason) => {
        if (attached.transport.carrier === 'WebTransport' && code < 4000)
          this.#reach?.failed(performance.now());
        if (isNext()) return this.#do(() => this.machine.closedNext());
        this.#transport = null;
        const word = closeCodeOfWebSocket(code)?.name;
        if (!opened || (word && STRAYED.includes(word))) void this.#find();
        this.#closed(attached.n, code, reason);
      },
    };
  }

  /** The broker is not there, or does not have the machine: another may. Meanwhile the machine goes on trying. */
  async #find(): Promise<void> {
    if (this.#finding || this.#brokers.length < 2) return;
    this.#finding = true;
    const at = this.#grant.broker_url;
    try {
      const found = await this.#options.findBroker(AbortSignal.timeout(FIND_TIMEOUT_MS));
      if (found === at) return;
      this.#grant = { broker_url: found };
      const { phase } = this.machine;
      if (phase.at !== 'live' && phase.at !== 'over') this.wake();
    } catch {
      // Control is away, too: the next broker is as good as any, when its turn comes.
      const next = this.#brokers[this.#brokers.indexOf(at) + 1] ?? this.#brokers[0] ?? at;
      if (next !== at) this.#grant = { broker_url: next };
    } finally {
      this.#finding = false;
    }
  }

  #closed(n: number, code: number, reason: string): void {
    const want = this.machine.want;
    if (want.kind !== 'transport' || want.n !== n) return;
    this.#do((now) => this.machine.closed(code, reason, now));
  }

  #proveFor(attached: Attached, request: ProofRequest | null, proven: (proof: Proof) => void) {
    if (!request || attached.proving) return;
    attached.proving = true;
    const current = () => this.#transport === attached || this.#next === attached;
    this.#options
      .key()
      .then((key) => key.prove(request))
      .then(
        (proof) => current() && this.#do(() => proven(proof)),
        (thrown: unknown) =>
          current() &&
          attached.transport.listener.closed(ABNORMAL_CLOSURE, unexpected(thrown).message),
      );
  }
}

/** What is known of a door that there is not. */
const NOWHERE = reachOf('');

/** Where a browser tells of changes of the network (Network Information API), if it does. */
function networkOf(browser: Navigator): EventTarget | null {
  const network = 'connection' in browser ? browser.connection : null;
  return network instanceof EventTarget ? network : null;
}

function unexpected(thrown: unknown): TicketError {
  const message = thrown instanceof Error ? thrown.message : 'the ticket request failed';
  return new TicketError({ code: 'control', message }, false);
}
