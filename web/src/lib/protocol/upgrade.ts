/**
 * Looks for the better transport while the worse one carries the viewer: opens one whenever it is worth
 * trying, and hands over what is open.
 */
import { WEB_HANDSHAKE_MS } from './limits';
import type { Reach } from './reach';
import { DEAF, type Transport } from './transport';

/** What it needs to know and whom to tell. */
export interface UpgradeOptions {
  /** Begins a transport through the better door; null: that is not possible now. */
  readonly open: () => Transport | null;
  /** One is open. */
  readonly opened: (transport: Transport) => void;
}

/** One search at a time, or a pause before the next. */
export class Upgrade {
  readonly #options: UpgradeOptions;
  /** Of the pause, or of the attempt. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt: Transport | null = null;

  constructor(options: UpgradeOptions) {
    this.#options = options;
  }

  /** What is known of the door that a better transport is wanted through; null: none is wanted. A level: told whenever it may have changed. */
  follow(reach: Reach | null): void {
    if (!reach) return this.#stop();
    if (this.#timer !== undefined) return;
    const delay = Math.max(0, reach.from - performance.now());
    this.#timer = setTimeout(() => this.#try(reach), delay);
  }

  /** Something says that it may work now: a pause is over, and what was begun before counts for nothing. */
  hurry(): void {
    this.#stop();
  }

  #try(reach: Reach): void {
    const transport = this.#options.open();
    this.#attempt = transport;
    if (!transport) return this.#failed(reach);
    this.#timer = setTimeout(() => this.#failed(reach), WEB_HANDSHAKE_MS);
    transport.listener = {
      ...DEAF,
      opened: () => this.#won(reach, transport),
      closed: () => this.#failed(reach),
    };
  }

  #won(reach: Reach, transport: Transport): void {
    reach.opened(performance.now());
    transport.listener = DEAF;
    this.#attempt = null;
    this.#stop();
    this.#options.opened(transport);
  }

  #failed(reach: Reach): void {
    reach.failed(performance.now());
    this.#stop();
    this.follow(reach);
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#attempt?.close();
    this.#attempt = null;
  }
}
