/**
 * Frames: `u8 type · varint length · payload`, cut out of a byte stream that may be split anywhere.
 *
 * `length` is an unsigned LEB128 of at most three bytes, in its shortest form, at most `FRAME_MAX`;
 * all three are checked before a byte of payload is stored.
 */
import { type Bytes, concat } from './bytes';
import { FRAME_MAX } from './limits';

/** One frame. */
export interface Frame {
  readonly kind: number;
  readonly payload: Bytes;
}

/** What the peer sent breaks the protocol. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}

const LENGTH_BYTES_MAX = 3;

/** The bytes of one frame. */
export function encodeFrame(kind: number, ...payload: Uint8Array[]): Bytes {
  const length = payload.reduce((sum, part) => sum + part.length, 0);
  if (length > FRAME_MAX) throw new RangeError(`frame of ${length} bytes exceeds ${FRAME_MAX}`);
  const header = [kind];
  let rest = length;
  while (rest >= 0x80) {
    header.push((rest & 0x7f) | 0x80);
    rest >>= 7;
  }
  header.push(rest);
  return concat(Uint8Array.from(header), ...payload);
}

/** Where the decoder stands inside a frame. */
type Part =
  | { readonly at: 'kind' }
  | { readonly at: 'length'; readonly kind: number; read: number; length: number }
  | { readonly at: 'payload'; readonly kind: number; readonly payload: Bytes; filled: number };

/** Cuts frames out of a byte stream. Holds at most one frame. Once it has thrown it is good for nothing. */
export class FrameDecoder {
  #part: Part = { at: 'kind' };

  /** Takes the next bytes and gives the frames they complete. Payloads may share memory with `chunk`. */
  push(chunk: Bytes): Frame[] {
    const frames: Frame[] = [];
    let at = 0;
    while (at < chunk.length) at = this.#step(chunk, at, frames);
    return frames;
  }

  /** Consumes something from `chunk` at `at`; returns where it stopped. */
  #step(chunk: Bytes, at: number, frames: Frame[]): number {
    const part = this.#part;
    const byte = chunk[at] ?? 0;
    switch (part.at) {
      case 'kind':
        this.#part = { at: 'length', kind: byte, read: 0, length: 0 };
        return at + 1;
      case 'length':
        return this.#lengthByte(part, byte) ? this.#begin(part, chunk, at + 1, frames) : at + 1;
      case 'payload':
        return this.#fill(part, chunk, at, frames);
    }
  }

  /** Takes one byte of the length; true when it was the last. */
  #lengthByte(part: Extract<Part, { at: 'length' }>, byte: number): boolean {
    part.length |= (byte & 0x7f) << (7 * part.read);
    part.read += 1;
    if (byte & 0x80) {
      if (part.read === LENGTH_BYTES_MAX)
        throw new ProtocolError('frame length is too long a number');
      return false;
    }
    if (byte === 0 && part.read > 1) throw new ProtocolError('frame length is padded');
    if (part.length > FRAME_MAX) {
      throw new ProtocolError(`frame of ${part.length} bytes exceeds ${FRAME_MAX}`);
    }
    return true;
  }

  /** The header is complete: takes the payload from `chunk` if it is all there, else makes room for it. */
  #begin(part: Extract<Part, { at: 'length' }>, chunk: Bytes, at: number, frames: Frame[]): number {
    const end = at + part.length;
    if (end <= chunk.length) {
      frames.push({ kind: part.kind, payload: chunk.subarray(at, end) });
      this.#part = { at: 'kind' };
      return end;
    }
    const payload = new Uint8Array(part.length);
    this.#part = { at: 'payload', kind: part.kind, payload, filled: 0 };
    return at;
  }

  #fill(part: Extract<Part, { at: 'payload' }>, chunk: Bytes, at: number, frames: Frame[]): number {
    const taken = chunk.subarray(at, at + part.payload.length - part.filled);
    part.payload.set(taken, part.filled);
    part.filled += taken.length;
    if (part.filled === part.payload.length) {
      frames.push({ kind: part.kind, payload: part.payload });
      this.#part = { at: 'kind' };
    }
    return at + taken.length;
  }
}
