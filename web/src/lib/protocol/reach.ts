/**
 * What this page knows of a broker's door over UDP. All viewers share it: where UDP is blocked only the first
 * one has given it a head start, and where it comes back all of them return. Never final.
 */
import { REACH_BASE_MS, REACH_CAP_MS, REACH_STABLE_MS } from './limits';

/** Whether and when WebTransport is worth trying. */
export class Reach {
  readonly #random: () => number;
  #failures = 0;
  #until = 0;
  #openedAt: number | null = null;

  /** `random` gives a uniform draw from 0 to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** From when on it is worth trying, on the caller's clock, ms. */
  get from(): number {
    return this.#until;
  }

  /** A session came about at `now`. */
  opened(now: number): void {
    this.#openedAt ??= now;
  }

  /** None came about in time, or one died without a word. Many viewers that tell the same are one failure. */
  failed(now: number): void {
    if (now < this.#until) return;
    const stable = this.#openedAt !== null && now - this.#openedAt >= REACH_STABLE_MS;
    this.#failures = stable ? 1 : this.#failures + 1;
    this.#openedAt = null;
    const pause = Math.min(REACH_CAP_MS, REACH_BASE_MS * 2 ** Math.min(this.#failures - 1, 20));
    this.#until = now + pause * (0.75 + this.#random() / 4);
  }

  /** The network is back, or another one is there. */
  forgive(): void {
    this.#until = 0;
  }
}

const known = new Map<string, Reach>();

/** What this page knows of the door at `url`; there are as many as an installation has brokers. */
export function reachOf(url: string): Reach {
  const reach = known.get(url) ?? new Reach(Math.random);
  known.set(url, reach);
  return reach;
}
