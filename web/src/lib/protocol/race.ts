/**
 * A dial: WebTransport first, a WebSocket beside it after a short head start, and whichever opens first carries
 * the viewer. The other is closed before it has said anything.
 */
import type { Bytes } from './bytes';
import { HEAD_START_MS, WEB_HANDSHAKE_MS } from './limits';
import type { Reach } from './reach';
import { ABNORMAL_CLOSURE, type Carrier, DEAF, type Listener, type Transport } from './transport';

/** How a transport of each kind is begun; null: it cannot be. */
export interface Doors {
  readonly web: (() => Transport | null) | null;
  readonly socket: () => Transport | null;
  /** What is known of the first. */
  readonly reach: Reach;
}

/** The contest, and from then on its winner. */
export class Race implements Transport {
  listener: Listener = DEAF;
  readonly #doors: Doors;
  #web: Transport | null = null;
  #socket: Transport | null = null;
  #socketDialed = false;
  #winner: Transport | null = null;
  #timers: ReturnType<typeof setTimeout>[] = [];

  constructor(doors: Doors) {
    this.#doors = doors;
    const worth = performance.now() >= doors.reach.from;
    this.#web = worth ? (doors.web?.() ?? null) : null;
    if (this.#web) this.#begin(this.#web);
    else this.#dialSocket();
  }

  get carrier(): Carrier {
    return this.#winner?.carrier ?? 'WebSocket';
  }

  send(bytes: Bytes): void {
    this.#winner?.send(bytes);
  }

  close(): void {
    this.listener = DEAF;
    this.#settle(null);
    this.#winner?.close();
  }

  #begin(web: Transport): void {
    web.listener = this.#listen(web);
    this.#timers = [
      setTimeout(() => this.#dialSocket(), HEAD_START_MS),
      setTimeout(() => this.#webFailed(), WEB_HANDSHAKE_MS),
    ];
  }

  #dialSocket(): void {
    if (this.#socketDialed) return;
    this.#socketDialed = true;
    this.#socket = this.#doors.socket();
    if (this.#socket) this.#socket.listener = this.#listen(this.#socket);
    else if (!this.#web) queueMicrotask(() => this.#lost('broker address is no WebSocket address'));
  }

  #listen(transport: Transport): Listener {
    return {
      opened: () => this.#won(transport),
      received: () => {},
      closed: (code, reason) => this.#closed(transport, code, reason),
    };
  }

  #won(transport: Transport): void {
    if (transport === this.#web) this.#doors.reach.opened(performance.now());
    this.#winner = transport;
    this.#settle(transport);
    transport.listener = this.listener;
    this.listener.opened();
  }

  #closed(transport: Transport, code: number, reason: string): void {
    if (transport === this.#web) return this.#webFailed();
    this.#socket = null;
    if (!this.#web) this.#lost(reason, code);
  }

  /** No session in time: the WebSocket is on its own. */
  #webFailed(): void {
    this.#doors.reach.failed(performance.now());
    this.#web?.close();
    this.#web = null;
    if (this.#socketDialed && !this.#socket) this.#lost('no answer');
    else this.#dialSocket();
  }

  #lost(reason: string, code = ABNORMAL_CLOSURE): void {
    const { listener } = this;
    this.close();
    listener.closed(code, reason);
  }

  /** Ends the contest; who is not the winner leaves. */
  #settle(winner: Transport | null): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers = [];
    for (const loser of [this.#web, this.#socket]) if (loser !== winner) loser?.close();
    this.#web = null;
    this.#socket = null;
  }
}
