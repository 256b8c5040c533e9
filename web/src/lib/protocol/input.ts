/**
 * Input, exactly once. Every byte typed has a sequence number; what the host has not acknowledged is
 * kept and sent again after a reconnect, and the host drops what it has already applied.
 *
 * Invariants: `acked ≤ sent ≤ highest ≤ end`, `sent − acked ≤ INPUT_WINDOW`, `end − acked ≤ INPUT_QUEUE_MAX`;
 * a byte keeps its number for the life of the epoch.
 */
import { concat } from './bytes';
import { ProtocolError } from './frames';
import { DATA_FRAME_MAX, INPUT_QUEUE_MAX, INPUT_WINDOW } from './limits';

/** A piece of input with the number of its first byte. */
export interface InputPiece {
  readonly seq: number;
  readonly bytes: Uint8Array;
}

/** Keeps unacknowledged input and says what to send next. */
export class InputLedger {
  /** First byte not acknowledged; the first of `#kept`. */
  #acked = 0;
  /** First byte not sent on this transport. */
  #sent = 0;
  /** One past the last byte ever sent, on any transport: what the host may have. */
  #highest = 0;
  /** Bytes from `#acked` on, in pieces as they came. */
  #kept: Uint8Array[] = [];
  #keptBytes = 0;

  /** First byte the host has not acknowledged. */
  get acked(): number {
    return this.#acked;
  }

  /** Bytes kept because they are not acknowledged. */
  get pending(): number {
    return this.#keptBytes;
  }

  /** One past the last byte accepted. */
  get end(): number {
    return this.#acked + this.#keptBytes;
  }

  /** Bytes that can be accepted now. */
  get room(): number {
    return INPUT_QUEUE_MAX - this.#keptBytes;
  }

  /** Accepts all of `bytes`, or, when there is no room, nothing. */
  push(bytes: Uint8Array): boolean {
    if (bytes.length > this.room) return false;
    if (bytes.length > 0) this.#kept.push(bytes);
    this.#keptBytes += bytes.length;
    return true;
  }

  /** The next piece to send within the window; null when there is none. It counts as sent. */
  next(): InputPiece | null {
    const end = Math.min(this.#acked + INPUT_WINDOW, this.end, this.#sent + DATA_FRAME_MAX);
    if (end <= this.#sent) return null;
    const piece = { seq: this.#sent, bytes: this.#slice(this.#sent, end) };
    this.#sent = end;
    this.#highest = Math.max(this.#highest, end);
    return piece;
  }

  /** The host has written all before `seq`: perhaps more than this transport carried, when an older one brought it. */
  ack(seq: number): void {
    if (seq > this.#highest) {
      throw new ProtocolError(`input ${seq} acknowledged, ${this.#highest} sent`);
    }
    this.#forget(seq - this.#acked);
    this.#sent = Math.max(this.#sent, this.#acked);
  }

  /** A new transport to the same epoch: the host has written all before `seq`, everything from there is sent again. */
  resume(seq: number): void {
    if (seq < this.#acked || seq > this.#highest) {
      throw new ProtocolError(`host expects input ${seq}, ${this.#acked} is the first kept`);
    }
    this.#forget(seq - this.#acked);
    this.#sent = seq;
  }

  /** Another life of the PTY: what was typed for the old one must not reach the new one. Returns the bytes dropped. */
  restart(seq: number): number {
    const dropped = this.#keptBytes;
    this.#kept = [];
    this.#keptBytes = 0;
    this.#acked = seq;
    this.#sent = seq;
    this.#highest = seq;
    return dropped;
  }

  /** Drops what was accepted but never sent: a person cancelled a paste. Returns the bytes dropped. */
  cancelUnsent(): number {
    const keep = this.#highest - this.#acked;
    const dropped = this.#keptBytes - keep;
    this.#kept = keep > 0 ? [this.#slice(this.#acked, this.#highest)] : [];
    this.#keptBytes = keep;
    return dropped;
  }

  #forget(count: number): void {
    let left = count;
    while (left > 0) {
      const head = this.#kept[0];
      if (!head) break;
      if (head.length > left) this.#kept[0] = head.subarray(left);
      else this.#kept.shift();
      const taken = Math.min(head.length, left);
      this.#acked += taken;
      this.#keptBytes -= taken;
      left -= taken;
    }
  }

  #slice(from: number, to: number): Uint8Array {
    const parts: Uint8Array[] = [];
    let at = this.#acked;
    for (const piece of this.#kept) {
      if (at >= to) break;
      const end = at + piece.length;
      if (end > from) parts.push(piece.subarray(Math.max(0, from - at), to - at));
      at = end;
    }
    return parts.length === 1 && parts[0] ? parts[0] : concat(...parts);
  }
}
