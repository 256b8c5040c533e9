/** One file on its way to a machine: from where an earlier try stopped, checked by hash on both sides. */
import { sha256 } from '@noble/hashes/sha2.js';
import { DATA_FRAME_MAX } from '../protocol/limits';
import { expect } from './machine';
import { type Entry, encodeData, type Replace, WINDOW } from './messages';
import type { Source } from './sources';
import { type Exchange, FilesError, type FilesStream } from './stream';

/** Uploads it and returns what is there then; `progress` is told how many bytes of it are on the machine's disk. */
export async function sendFile(
  stream: FilesStream,
  path: string,
  source: Source,
  replace: Replace,
  progress: (done: number) => void,
  signal: AbortSignal,
): Promise<Entry> {
  const upload = uploadId(`${path}\0${source.identity}`);
  const sent =
    (await trySend(stream, path, source, upload, false, progress, signal)) ??
    (await trySend(stream, path, source, upload, true, progress, signal));
  if (sent === null) throw new FilesError('changed', `${path}: it changes while it is read`, false);
  return expect(await stream.ask({ op: 'commit', sha256: sent, replace }).next(), 'entry').entry;
}

/** Returns the hash of all of it; null: what the machine has is no beginning of this. */
async function trySend(
  stream: FilesStream,
  path: string,
  source: Source,
  upload: string,
  restart: boolean,
  progress: (done: number) => void,
  signal: AbortSignal,
): Promise<string | null> {
  const exchange = stream.ask({ op: 'write', path, upload, size: source.size, restart });
  const { offset, sha256: there } = expect(await exchange.next(), 'receiving');
  const hash = sha256.create();
  const flow = new Flow(exchange, offset, progress);
  progress(offset);
  let at = 0;
  for await (const bytes of source.read(signal)) {
    signal.throwIfAborted();
    // What the machine has is hashed and not sent again.
    const known = Math.max(0, Math.min(bytes.length, offset - at));
    if (known > 0) {
      hash.update(bytes.subarray(0, known));
      at += known;
      if (at === offset && hex(hash.clone().digest()) !== there) return null;
    }
    for (let from = known; from < bytes.length; from += DATA_FRAME_MAX) {
      const piece = bytes.subarray(from, from + DATA_FRAME_MAX);
      await flow.room(at + piece.length);
      hash.update(piece);
      stream.send(encodeData(at, piece));
      at += piece.length;
    }
  }
  if (at !== source.size) {
    throw new FilesError('changed', `${path}: it changed while it was read`, false);
  }
  await flow.until(source.size);
  return hex(hash.digest());
}

/** How far the machine has written, and how far ahead of that may be sent. */
class Flow {
  readonly #exchange: Exchange;
  readonly #progress: (done: number) => void;
  #written: number;

  constructor(exchange: Exchange, written: number, progress: (done: number) => void) {
    this.#exchange = exchange;
    this.#written = written;
    this.#progress = progress;
  }

  /** Waits until what ends at `end` fits the window. */
  async room(end: number): Promise<void> {
    await this.until(end - WINDOW);
  }

  async until(offset: number): Promise<void> {
    while (this.#written < offset) {
      this.#written = expect(await this.#exchange.next(), 'received').offset;
      this.#progress(this.#written);
    }
  }
}

/** The same UUID for the same text. */
export function uploadId(text: string): string {
  const digits = hex(sha256(new TextEncoder().encode(text)).subarray(0, 16));
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
