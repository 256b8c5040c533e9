/** A file, or a directory as an archive, on its way from a machine to this computer. */
import { sha256 } from '@noble/hashes/sha2.js';
import type { Bytes } from '../protocol/bytes';
import { expect } from './machine';
import { ACK_EVERY, type Entry, encodeAck } from './messages';
import { hex } from './send';
import { FilesError, type FilesStream } from './stream';

/** Where the bytes go. Only what was written is acknowledged, so a slow disk slows the machine. */
export interface Sink {
  write(bytes: Bytes): Promise<void>;
  /** From the beginning again. */
  restart(): Promise<void>;
  close(name: string): Promise<void>;
  abort(): Promise<void>;
}

/** What is wanted, and how much of it there is already. */
export class Fetch {
  readonly #path: string;
  readonly #archive: boolean;
  readonly #sink: Sink;
  #at = 0;
  #first: Entry | null = null;

  constructor(path: string, archive: boolean, sink: Sink) {
    this.#path = path;
    this.#archive = archive;
    this.#sink = sink;
  }

  /** Fetches the rest. An archive is made anew each time: it begins from the beginning. Returns what an archive lacks. */
  async run(
    stream: FilesStream,
    progress: (done: number, size: number | null) => void,
  ): Promise<readonly string[]> {
    if (this.#archive) await this.#restart();
    const path = this.#path;
    const exchange = stream.ask(
      this.#archive ? { op: 'archive', path } : { op: 'read', path, offset: this.#at },
    );
    const hash = sha256.create();
    let [writing, acked] = [Promise.resolve(), this.#at];
    let size: number | null = null;
    exchange.ondata = (offset, bytes) => {
      if (offset !== this.#at) return stream.close();
      this.#at += bytes.length;
      const end = this.#at;
      hash.update(bytes);
      writing = writing.then(async () => {
        await this.#sink.write(bytes);
        progress(end, size);
        if (end - acked < ACK_EVERY) return;
        acked = end;
        stream.send(encodeAck(end));
      });
      // Said once, below.
      writing.catch(() => stream.close());
    };
    const sending = expect(await exchange.next(), 'sending');
    size = sending.size;
    const { entry } = sending;
    this.#first ??= entry;
    if (entry.size !== this.#first.size || entry.modified !== this.#first.modified) {
      exchange.ondata = null;
      await this.#restart();
      throw new FilesError('network', 'it was changed meanwhile, and is fetched anew', true);
    }
    try {
      const { sha256: theirs, lacking } = expect(await exchange.next(), 'sent');
      await writing;
      if (hex(hash.digest()) === theirs) return lacking;
    } catch (error) {
      await writing;
      throw error;
    }
    await this.#restart();
    throw new FilesError('mismatch', `${path}: what came is not what was sent`, true);
  }

  async #restart(): Promise<void> {
    this.#at = 0;
    this.#first = null;
    await this.#sink.restart();
  }
}

/** Above this a browser that can is asked for a place on the disk first, bytes. */
export const STREAM_ABOVE = 64 * 1024 * 1024;
/** What may gather in memory and the browser's own store, bytes. */
const GATHER_MAX = 2 * 1024 * 1024 * 1024;
/** Pieces become one blob in so large steps, bytes: the browser keeps blobs out of memory. */
const STEP = 8 * 1024 * 1024;

/** Gathers, and gives the whole to the browser to save. */
export class BlobSink implements Sink {
  #whole = new Blob();
  #pieces: Bytes[] = [];
  #size = 0;

  async write(bytes: Bytes): Promise<void> {
    if (this.#whole.size + this.#size > GATHER_MAX) {
      throw new FilesError('too_large', 'this browser takes 2 GiB at most: use the CLI', false);
    }
    this.#pieces.push(bytes);
    this.#size += bytes.length;
    if (this.#size >= STEP) this.#fold();
  }

  async restart(): Promise<void> {
    this.#whole = new Blob();
    this.#pieces = [];
    this.#size = 0;
  }

  async close(name: string): Promise<void> {
    this.#fold();
    const url = URL.createObjectURL(this.#whole);
    const link = document.createElement('a');
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  async abort(): Promise<void> {
    await this.restart();
  }

  #fold(): void {
    this.#whole = new Blob([this.#whole, ...this.#pieces]);
    this.#pieces = [];
    this.#size = 0;
  }
}

/** The part of the File System Access API that is used. */
interface Saved {
  createWritable(): Promise<WritableFile>;
}
interface WritableFile {
  write(bytes: Bytes): Promise<void>;
  truncate(size: number): Promise<void>;
  seek(at: number): Promise<void>;
  close(): Promise<void>;
  abort(): Promise<void>;
}
declare global {
  interface Window {
    showSaveFilePicker?: (options: { suggestedName: string }) => Promise<Saved>;
  }
}

/** Writes to a file that the person chose. */
class DiskSink implements Sink {
  readonly #file: WritableFile;

  constructor(file: WritableFile) {
    this.#file = file;
  }

  write(bytes: Bytes): Promise<void> {
    return this.#file.write(bytes);
  }

  async restart(): Promise<void> {
    await this.#file.truncate(0);
    await this.#file.seek(0);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  abort(): Promise<void> {
    return this.#file.abort();
  }
}

/** The sink for so much; null: the person thought better of it. Must be called in the click. */
export async function sinkFor(name: string, size: number | null): Promise<Sink | null> {
  const picker = window.showSaveFilePicker;
  if (!picker || size === null || size <= STREAM_ABOVE) return new BlobSink();
  try {
    const chosen = await picker.call(window, { suggestedName: name });
    return new DiskSink(await chosen.createWritable());
  } catch {
    return null;
  }
}
