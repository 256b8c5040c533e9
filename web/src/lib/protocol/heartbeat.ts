/**
 * Is the path alive, and how long is the round trip? A visible page pings; anything received is life.
 * A hidden page does neither: browsers throttle its timers, and nobody is looking.
 */
import {
  DEAD_AFTER_MS,
  DOUBT_AFTER_MS,
  DOUBT_AT_LEAST_MS,
  DOUBT_ROUND_TRIPS,
  DOUBT_STALE_MS,
  PING_EVERY_MS,
  PING_FIRST_MS,
} from './limits';

/** Measures one transport at a time. */
export class Heartbeat {
  #visible = true;
  #nextPing: number | null = null;
  /** Until when something must be received; null: nothing was asked since something came. */
  #doubt: number | null = null;
  /** When the path was last doubted because of something else than silence. */
  #doubted = Number.NEGATIVE_INFINITY;
  #rtt: number | null = null;

  /** Newest round trip, ms; null when this transport has measured none. */
  get rtt(): number | null {
    return this.#rtt;
  }

  /** A transport is attached. */
  start(now: number): void {
    this.stop();
    this.#nextPing = now + PING_FIRST_MS;
  }

  /** The transport is gone. */
  stop(): void {
    this.#nextPing = null;
    this.#doubt = null;
    this.#doubted = Number.NEGATIVE_INFINITY;
    this.#rtt = null;
  }

  /** The page was shown or hidden. */
  setVisible(visible: boolean, now: number): void {
    this.#visible = visible;
    if (!visible) this.#doubt = null;
    else this.probe(now);
  }

  /** The path is in doubt (the machine woke, the network changed): ping at once and be less patient. */
  probe(now: number): void {
    if (this.#nextPing === null || !this.#visible) return;
    this.#nextPing = now;
    this.#doubted = now;
    this.#doubt = Math.min(this.#doubt ?? Number.POSITIVE_INFINITY, now + this.#patience());
  }

  /** How long a doubted path may take to answer, ms: by what it took before. */
  #patience(): number {
    if (this.#rtt === null) return DOUBT_AFTER_MS;
    return Math.min(DOUBT_AFTER_MS, Math.max(DOUBT_AT_LEAST_MS, DOUBT_ROUND_TRIPS * this.#rtt));
  }

  /** Something came. */
  received(now: number): void {
    if (now >= this.#doubted + DOUBT_STALE_MS) this.#doubt = null;
  }

  /** The answer to the ping sent at `sentAt`. */
  pong(sentAt: number, now: number): number {
    // Times travel in whole microseconds.
    if (sentAt >= this.#doubted - 0.001) this.#doubt = null;
    this.#rtt = Math.max(0, now - sentAt);
    return this.#rtt;
  }

  /** Whether a ping is due; it counts as sent. */
  pingDue(now: number): boolean {
    if (!this.#visible || this.#nextPing === null || now < this.#nextPing) return false;
    this.#nextPing = now + PING_EVERY_MS;
    this.#doubt ??= now + DEAD_AFTER_MS;
    return true;
  }

  /** Whether the path is dead. */
  isDead(now: number): boolean {
    return this.#doubt !== null && now >= this.#doubt;
  }

  /** When {@link pingDue} or {@link isDead} changes by itself. */
  get deadline(): number | null {
    if (!this.#visible || this.#nextPing === null) return null;
    return Math.min(this.#nextPing, this.#doubt ?? Number.POSITIVE_INFINITY);
  }
}
