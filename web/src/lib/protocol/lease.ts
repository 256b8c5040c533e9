/**
 * Who decides the size. The holder's screen rules; everyone else shows the session as it is.
 * The host decides who holds; this says what to ask for.
 */
import type { Role, Size, ViewerMessage } from './messages';

/** Follows one session's size and lease. */
export class SizeControl {
  readonly #viewer: string;
  /** What this viewer's screen would hold. */
  #desired: Size;
  /** The session's size. */
  #actual: Size | null = null;
  #requested: Size | null = null;
  #holder: string | null = null;
  /** Asked for on this transport, not answered yet. */
  #claimed = false;
  #writer = false;

  constructor(viewer: string, desired: Size) {
    this.#viewer = viewer;
    this.#desired = desired;
  }

  /** The viewer that holds the lease. */
  get holder(): string | null {
    return this.#holder;
  }

  /** Whether this viewer holds it. */
  get held(): boolean {
    return this.#holder === this.#viewer;
  }

  /** Whether this viewer may type. */
  get writer(): boolean {
    return this.#writer;
  }

  /** What this viewer's screen would hold. */
  get desired(): Size {
    return this.#desired;
  }

  /** A transport is attached: nothing asked for on an older one counts, and the lease is told anew. */
  opened(role: Role, actual: Size): void {
    this.#writer = role === 'writer';
    this.#holder = null;
    this.#claimed = false;
    this.#actual = actual;
    this.#requested = null;
  }

  /** The session's size changed. */
  resized(actual: Size): void {
    this.#actual = actual;
    if (this.#requested && same(this.#requested, actual)) this.#requested = null;
  }

  /** The host named the holder. Returns what to send: the holder's size, or a claim to what nobody holds. */
  lease(holder: string | null): ViewerMessage | null {
    this.#holder = holder;
    if (holder !== null) this.#claimed = false;
    if (this.held) return this.#resize();
    return holder === null && !this.#claimed ? this.take() : null;
  }

  /** This viewer's screen changed. Returns what to send. */
  setDesired(size: Size): ViewerMessage | null {
    this.#desired = size;
    return this.held ? this.#resize() : null;
  }

  /** Asks for the lease. */
  take(): ViewerMessage | null {
    if (!this.#writer || this.held) return null;
    this.#claimed = true;
    return { type: 'TakeLease', ...this.#desired };
  }

  #resize(): ViewerMessage | null {
    const known = this.#requested ?? this.#actual;
    if (known && same(known, this.#desired)) return null;
    this.#requested = this.#desired;
    return { type: 'Resize', ...this.#desired };
  }
}

function same(a: Size, b: Size): boolean {
  return a.cols === b.cols && a.rows === b.rows;
}
