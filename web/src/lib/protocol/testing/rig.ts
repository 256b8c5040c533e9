/** A viewer machine and a model host joined by a transport that a test can cut. Time is a number. */
import type { Proof } from '../messages';
import type { ViewerEvent } from '../phase';
import { ViewerMachine } from '../viewer';
import { Channel, ModelHost } from './host';

export const VIEWER = '00000000-0000-4000-8000-0000000000aa';
export const SESSION = '00000000-0000-4000-8000-0000000000bb';
const half = () => 0.5;
const PROOF: Proof = { key: 'a2V5', signature: 'c2ln' };

/** What a perfect terminal shows: bytes parsed since its last reset. */
export class PaperTerminal {
  shown: number[] = [];
  /** Bytes not parsed yet. */
  #queue: { generation: number; end: number; bytes: Uint8Array; reset: boolean }[] = [];

  take(event: ViewerEvent): void {
    if (event.type === 'reset') this.#push(event.generation, 0, new Uint8Array(0), true);
    if (event.type === 'painting') this.#push(event.generation, event.offset, event.bytes, true);
    if (event.type === 'output') this.#push(event.generation, event.end, event.bytes, false);
  }

  /** Parses one piece and says how far it came. */
  parse(): { generation: number; end: number } | null {
    const piece = this.#queue.shift();
    if (!piece) return null;
    if (piece.reset) this.shown = [];
    for (const byte of piece.bytes) this.shown.push(byte);
    return piece;
  }

  #push(generation: number, end: number, bytes: Uint8Array, reset: boolean): void {
    this.#queue.push({ generation, end, bytes, reset });
  }
}

/** A transport that is open. */
interface Attached {
  readonly n: number;
  readonly channel: Channel;
  proved: boolean;
}

/** Drives the machine as the browser would. */
export class Rig {
  now = 0;
  readonly host = new ModelHost(SESSION);
  readonly terminal = new PaperTerminal();
  readonly events: ViewerEvent[] = [];
  readonly machine: ViewerMachine;
  tickets = 0;
  /** Whether control grants. */
  control = true;
  /** Whether control says nothing at all. */
  controlHangs = false;
  /** Whether transports open. */
  network = true;
  #transport: Attached | null = null;
  /** The better one that is taking over. */
  #next: Attached | null = null;
  #asked = 0;

  constructor({ create = true, random = half }: { create?: boolean; random?: () => number } = {}) {
    const spec = { kind: 'terminal', cols: 80, rows: 24 } as const;
    this.machine = new ViewerMachine({ viewer: VIEWER, session: SESSION, create, spec, random });
  }

  /** Starts and settles. */
  start(): this {
    this.machine.start(this.now);
    return this.settle();
  }

  /** Does what the machine wants until it wants nothing new. */
  settle(): this {
    for (let round = 0; round < 100 && this.#round(); round += 1);
    return this;
  }

  /** The transport dies; with it what was on its way. */
  cut(code = 1006): this {
    this.#transport = null;
    this.machine.closed(code, '', this.now);
    return this.settle();
  }

  /** A better transport opens beside the one there is; whether it is wanted. */
  better(): boolean {
    const n = this.machine.better(this.now);
    if (n === null) return false;
    this.#next = { n, channel: new Channel(), proved: false };
    return true;
  }

  /** The better transport dies before it has taken over. */
  cutNext(): this {
    this.#next = null;
    this.machine.closedNext();
    return this;
  }

  /** Whether a better transport is taking over. */
  get moving(): boolean {
    return this.#next !== null;
  }

  /** Time passes, no further than the machine's next deadline at a time. */
  pass(ms: number): this {
    const end = this.now + ms;
    while (this.now < end) {
      const at = this.machine.pollTimeout() ?? end;
      this.now = Math.max(this.now, Math.min(at, end));
      this.machine.tick(this.now);
      this.settle();
      if (at <= this.now && this.machine.pollTimeout() === at)
        this.now = Math.min(end, this.now + 1);
    }
    return this;
  }

  /** The terminal parses all there is. */
  parse(): this {
    for (let piece = this.terminal.parse(); piece; piece = this.terminal.parse()) {
      this.machine.parsed(piece.generation, piece.end, this.now);
      this.settle();
    }
    return this;
  }

  /** Events of one type. */
  told<T extends ViewerEvent['type']>(type: T): Extract<ViewerEvent, { type: T }>[] {
    return this.events.filter((event) => event.type === type) as Extract<
      ViewerEvent,
      { type: T }
    >[];
  }

  /** The number of the transport that is open. */
  get transport(): number | null {
    return this.#transport?.n ?? null;
  }

  /** Whether a transport is open. */
  get connected(): boolean {
    return this.#transport !== null;
  }

  /** Moves bytes from the viewer to the host. */
  up(): boolean {
    let moved = false;
    for (let bytes = this.machine.pollTransmit(); bytes; bytes = this.machine.pollTransmit()) {
      if (this.#transport) this.host.receive(bytes, this.#transport.channel);
      moved = true;
    }
    return moved;
  }

  /** The same over the better transport. */
  upNext(): boolean {
    let moved = false;
    const poll = () => this.machine.pollTransmitNext();
    for (let bytes = poll(); bytes; bytes = poll()) {
      if (this.#next) this.host.receive(bytes, this.#next.channel);
      moved = true;
    }
    return moved;
  }

  /** Bytes that the host has sent. */
  take(): Uint8Array<ArrayBuffer> {
    return this.#transport?.channel.take() ?? new Uint8Array(0);
  }

  /** Moves bytes from the host to the viewer. */
  down(bytes = this.take()): boolean {
    if (bytes.length > 0) this.machine.received(bytes, this.now);
    this.drain();
    return bytes.length > 0;
  }

  /** The same over the better transport. */
  downNext(): boolean {
    const bytes = this.#next?.channel.take();
    if (!bytes?.length) return false;
    this.machine.receivedNext(bytes, this.now);
    this.drain();
    return true;
  }

  /** Takes the events. */
  drain(): void {
    for (let event = this.machine.pollEvent(); event; event = this.machine.pollEvent()) {
      this.events.push(event);
      this.terminal.take(event);
    }
  }

  /** Makes the world what the machine wants; whether anything had to be done. */
  reconcile(): boolean {
    const want = this.machine.want;
    if (want.kind === 'ticket' && want.n !== this.#asked) return this.#ticket(want.n);
    if (want.kind !== 'transport') return this.#hangUp();
    if (this.#next?.n === want.n) [this.#transport, this.#next] = [this.#next, null];
    if (this.#next && this.#next.n !== want.next?.n) this.#next = null;
    if (want.n !== this.#transport?.n) return this.#dial(want.n);
    if (want.next?.prove && this.#next)
      this.#prove(this.#next, () => this.machine.provenNext(PROOF));
    return want.prove !== null && this.#prove(this.#transport, () => this.machine.proven(PROOF));
  }

  #prove(attached: Attached, proven: () => void): boolean {
    if (attached.proved) return false;
    attached.proved = true;
    proven();
    return true;
  }

  #round(): boolean {
    const reconciled = this.reconcile();
    const up = this.up();
    const upNext = this.upNext();
    const down = this.down();
    this.reconcile();
    const downNext = this.downNext();
    this.drain();
    return reconciled || up || upNext || down || downNext;
  }

  #ticket(n: number): boolean {
    this.#asked = n;
    if (this.controlHangs) return true;
    if (this.control) {
      this.tickets += 1;
      const credentials = { ticket: `rxt1.${this.tickets}`, resume: 'rxr1.r' };
      this.machine.ticketGranted(credentials, this.now);
    } else {
      this.machine.ticketFailed({ code: 'control', message: 'down' }, false, this.now);
    }
    return true;
  }

  #dial(n: number): boolean {
    this.#transport = null;
    if (!this.network) {
      this.machine.closed(1006, '', this.now);
      return true;
    }
    this.#transport = { n, channel: this.host.accept(), proved: false };
    this.machine.connected(this.now);
    return true;
  }

  #hangUp(): boolean {
    this.#transport = null;
    this.#next = null;
    return false;
  }
}
