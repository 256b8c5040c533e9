/**
 * Output: every byte has an address. Follows (epoch, offset), puts snapshots together, refuses
 * output that is out of step, and owes acknowledgements: of output that the terminal has *parsed*, of
 * snapshot data that has come (it is put together here, and shown whole or not at all).
 *
 * The resume point moves only with what was handed to the terminal: a transport that dies between
 * `Opened` and the snapshot's end leaves it where it was.
 */
import type { Bytes } from './bytes';
import { ProtocolError } from './frames';
import { ACK_EVERY, ACK_IDLE_MS, ACK_SOON, SNAPSHOT_MAX } from './limits';
import type { Size } from './messages';

/** Where a viewer goes on: both null for a terminal that has seen nothing. */
export interface ResumePoint {
  readonly epoch: string | null;
  readonly offset: number | null;
}

/** A whole snapshot. */
export interface Painting extends Size {
  readonly offset: number;
  readonly bytes: Bytes;
}

interface Receiving extends Size {
  readonly offset: number;
  readonly bytes: Bytes;
  filled: number;
}

/** Follows one session's output through any number of transports. */
export class OutputTrack {
  /** The life of the PTY whose output the terminal shows. */
  #epoch: string | null = null;
  /** Next byte expected by the terminal, in `#epoch`. */
  #offset = 0;
  /** Next byte this transport brings: behind `#offset` where it took over from one that went on meanwhile. */
  #position = 0;
  /** Output parsed by the terminal; −1: not even the painting this generation began with. */
  #parsed = -1;
  #generation = 0;
  /** The epoch of a transport that has not painted yet; null when the terminal is in step. */
  #awaiting: string | null = null;
  #receiving: Receiving | null = null;
  /** What this transport has acknowledged; −1: nothing. */
  #acked = -1;
  #idleSince: number | null = null;
  /** Snapshot data of this transport, over all its snapshots, bytes. */
  #painted = 0;
  #paintedAcked = 0;

  /** What to ask for on the next transport. */
  get resumePoint(): ResumePoint {
    return this.#epoch === null
      ? { epoch: null, offset: null }
      : { epoch: this.#epoch, offset: this.#offset };
  }

  /** The life of the PTY shown. */
  get epoch(): string | null {
    return this.#epoch;
  }

  /** Next output byte expected. */
  get offset(): number {
    return this.#offset;
  }

  /** Output the terminal has parsed. */
  get parsed(): number {
    return Math.max(this.#parsed, 0);
  }

  /** Grows each time the terminal begins anew: parse reports of an older generation mean nothing. */
  get generation(): number {
    return this.#generation;
  }

  /** A transport's `Opened`. Returns whether the terminal is to be emptied because a new life begins at its first byte. */
  opened(epoch: string, offset: number): boolean {
    this.#receiving = null;
    this.#painted = 0;
    this.#paintedAcked = 0;
    if (epoch === this.#epoch) {
      this.#awaiting = null;
      this.#position = Math.min(offset, this.#offset);
      // The host counts what it sends from here; acknowledging less would only confuse it.
      this.#acked = this.#position;
      return false;
    }
    this.#awaiting = epoch;
    if (offset !== 0) return false;
    this.#begin(epoch, 0);
    return true;
  }

  /** The log no longer has `from..to`; a snapshot must come before any output. */
  gap(): void {
    this.#awaiting ??= this.#epoch;
  }

  /** A snapshot is announced. Returns it at once when it is empty. */
  snapshot(offset: number, size: Size, bytes: number): Painting | null {
    if (bytes > SNAPSHOT_MAX) {
      throw new ProtocolError(`snapshot of ${bytes} bytes exceeds ${SNAPSHOT_MAX}`);
    }
    if (this.#receiving) throw new ProtocolError('snapshot within a snapshot');
    this.#receiving = { ...size, offset, bytes: new Uint8Array(bytes), filled: 0 };
    return this.#finished(this.#receiving);
  }

  /** A piece of the snapshot. Returns it when it is whole. */
  snapshotData(bytes: Bytes): Painting | null {
    const receiving = this.#receiving;
    if (!receiving || receiving.filled + bytes.length > receiving.bytes.length) {
      throw new ProtocolError('snapshot data nobody announced');
    }
    receiving.bytes.set(bytes, receiving.filled);
    receiving.filled += bytes.length;
    this.#painted += bytes.length;
    return this.#finished(receiving);
  }

  /** Output at `offset`: must be exactly what comes next. Returns what of it the terminal has not been given yet. */
  output(offset: number, bytes: Bytes): Bytes {
    if (this.#receiving) throw new ProtocolError('output within a snapshot');
    if (this.#awaiting !== null) throw new ProtocolError('output before the snapshot');
    if (offset !== this.#position) {
      throw new ProtocolError(`output at ${offset}, expected ${this.#position}`);
    }
    const fresh = bytes.subarray(Math.min(this.#offset - offset, bytes.length));
    this.#position += bytes.length;
    this.#offset += fresh.length;
    return fresh;
  }

  /** The terminal has parsed everything before `offset`. */
  parsedTo(generation: number, offset: number, now: number): void {
    if (generation !== this.#generation || offset > this.#offset || offset < this.#parsed) return;
    this.#parsed = offset;
    this.#idleSince = offset === this.#offset ? now : null;
  }

  /** The acknowledgement owed at `now`, which counts as given. */
  ackDue(now: number): number | null {
    if (this.#awaiting !== null || !this.#owesAck()) return null;
    const parsed = this.#parsedHere;
    const owed = parsed - Math.max(this.#acked, 0);
    const idle = this.#idleSince !== null;
    const soon = idle && owed >= ACK_SOON;
    const late = idle && now >= (this.#idleSince ?? now) + ACK_IDLE_MS;
    if (owed < ACK_EVERY && !soon && !late) return null;
    this.#acked = parsed;
    return parsed;
  }

  /** The acknowledgement of snapshot data owed, which counts as given. At once: the host may have no more than that on its way. */
  snapshotAckDue(): number | null {
    if (this.#painted === this.#paintedAcked) return null;
    this.#paintedAcked = this.#painted;
    return this.#painted;
  }

  /** When an acknowledgement falls due by itself. */
  get ackDeadline(): number | null {
    if (this.#awaiting !== null || !this.#owesAck() || this.#idleSince === null) return null;
    return this.#idleSince + ACK_IDLE_MS;
  }

  /** The terminal is out of step: the next transport starts with a snapshot. */
  forget(): void {
    this.#epoch = null;
    this.#receiving = null;
  }

  /** What is parsed of all that this transport brought. */
  get #parsedHere(): number {
    return Math.min(this.#parsed, this.#position);
  }

  #owesAck(): boolean {
    return this.#epoch !== null && this.#parsedHere > this.#acked;
  }

  #finished(receiving: Receiving): Painting | null {
    if (receiving.filled < receiving.bytes.length) return null;
    this.#receiving = null;
    this.#begin(this.#awaiting ?? this.#epoch ?? '', receiving.offset);
    const { offset, cols, rows, bytes } = receiving;
    return { offset, cols, rows, bytes };
  }

  #begin(epoch: string, offset: number): void {
    this.#epoch = epoch;
    this.#offset = offset;
    this.#position = offset;
    this.#parsed = -1;
    this.#awaiting = null;
    this.#acked = -1;
    this.#idleSince = null;
    this.#generation += 1;
  }
}
