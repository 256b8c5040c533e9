/**
 * When to try again: exponential backoff with full jitter, forgotten only after stable uptime.
 * The first failure after stable uptime is retried at once.
 */
import type { Retry } from './codes';
import {
  BACKOFF_BASE_MS,
  BACKOFF_CAP_LONG_MS,
  BACKOFF_CAP_MS,
  BACKOFF_PATIENCE,
  STABLE_MS,
  TICKET_EVERY,
} from './limits';

/** What to do about a failure. */
export interface Redial {
  /** When to try again, on the caller's clock, ms. */
  readonly at: number;
  /** Whether a new ticket should be asked for first. */
  readonly ticket: boolean;
}

/** Decides when and with what a viewer tries again. */
export class Backoff {
  readonly #random: () => number;
  #failures = 0;
  #ticketRefused = false;
  #upSince: number | null = null;

  /** `random` gives a uniform draw from 0 to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** It works since `now`. */
  succeeded(now: number): void {
    this.#upSince = now;
    this.#ticketRefused = false;
  }

  /** It failed at `now`, and the peer (or the kind of failure) suggests `retry`; never call it with `never`. */
  failed(retry: Exclude<Retry, 'never'>, now: number): Redial {
    if (this.#upSince !== null && now - this.#upSince >= STABLE_MS) this.#failures = 0;
    this.#upSince = null;
    const first = this.#failures === 0;
    this.#failures += 1;
    const refused = retry === 'ticket';
    const atOnce = (first && retry === 'now') || (refused && !this.#ticketRefused);
    this.#ticketRefused ||= refused;
    return {
      at: atOnce ? now : now + this.#delay(),
      ticket: refused || this.#failures % TICKET_EVERY === 0,
    };
  }

  /** Forgets all failures: the network came back, the machine did, or a person asked. */
  reset(): void {
    this.#failures = 0;
  }

  #delay(): number {
    const cap = this.#failures > BACKOFF_PATIENCE ? BACKOFF_CAP_LONG_MS : BACKOFF_CAP_MS;
    // 2^20 steps are far above any cap and far below what a number holds.
    return this.#random() * Math.min(cap, BACKOFF_BASE_MS * 2 ** Math.min(this.#failures - 1, 20));
  }
}
