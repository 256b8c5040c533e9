/** Where the bytes of an upload come from: a file of this computer, or of another machine. */

import type { Dropped } from './dropped';
import { expect, filesOf } from './machine';
import { ACK_EVERY, type Entry, encodeAck, type Replace } from './messages';
import { isFile, join, parent } from './path';
import { FilesError, FilesStream } from './stream';

/** Bytes that can be read from the beginning as often as it takes. */
export interface Source {
  readonly size: number;
  /** Names these bytes at this place: the same again goes on with the upload that stopped. */
  readonly identity: string;
  read(signal: AbortSignal): AsyncGenerator<Uint8Array>;
}

/** A file and the path it will have; `source` null: a directory. */
export interface Item {
  readonly path: string;
  readonly source: Source | null;
}

/** Read at once of a file of this computer, bytes. */
const SLICE = 1_048_576;

/** A file that a person dropped or chose. */
export function fromFile(file: File): Source {
  return {
    size: file.size,
    identity: `${file.name}\0${file.size}\0${file.lastModified}`,
    async *read(signal) {
      for (let at = 0; at < file.size; at += SLICE) {
        signal.throwIfAborted();
        yield new Uint8Array(await file.slice(at, at + SLICE).arrayBuffer());
      }
    },
  };
}

/** A file on a machine. */
export function fromMachine(machine: string, path: string, entry: Entry): Source {
  return {
    size: entry.size,
    identity: `${machine}\0${path}\0${entry.size}\0${entry.modified}`,
    async *read(signal) {
      const stream = await FilesStream.open(machine, signal);
      try {
        yield* readAll(stream, path, entry);
      } finally {
        stream.close();
      }
    },
  };
}

async function* readAll(
  stream: FilesStream,
  path: string,
  { size, modified }: Entry,
): AsyncGenerator<Uint8Array> {
  const exchange = stream.ask({ op: 'read', path, offset: 0 });
  const pieces: Uint8Array[] = [];
  let [wake, acked] = [() => {}, 0];
  exchange.ondata = (_, bytes) => {
    pieces.push(bytes);
    wake();
  };
  const sending = expect(await exchange.next(), 'sending').entry;
  if (sending.size !== size || sending.modified !== modified) {
    throw new FilesError('changed', `${path}: it was changed since it was listed`, false);
  }
  const over = exchange.next().then(() => null);
  // Whoever waits for it is told; nobody else has to be.
  over.catch(() => {});
  for (let at = 0; at < size; ) {
    if (pieces.length === 0) {
      const came = new Promise<void>((resolve) => (wake = resolve));
      await Promise.race([came, over]);
    }
    const piece = pieces.shift();
    if (!piece) throw new FilesError('changed', `${path}: it ended early`, false);
    at += piece.length;
    yield piece;
    if (at - acked >= ACK_EVERY) {
      acked = at;
      stream.send(encodeAck(at));
    }
  }
  await over;
}

/** What a drop brought: files and whole directories, as the items beneath `directory`. */
export async function fromDrop(dropped: readonly Dropped[], directory: string): Promise<Item[]> {
  const items: Item[] = [];
  for (const entry of dropped) await gather(entry, directory, items);
  return items;
}

async function gather(entry: Dropped, directory: string, items: Item[]): Promise<void> {
  const path = join(directory, entry.name);
  if (entry instanceof File) {
    items.push({ path, source: fromFile(entry) });
    return;
  }
  if (isFileEntry(entry)) {
    const file = await new Promise<File>((resolve, reject) => entry.file(resolve, reject));
    items.push({ path, source: fromFile(file) });
  } else if (isDirectoryEntry(entry)) {
    items.push({ path, source: null });
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise<FileSystemEntry[]>((resolve, reject) =>
        reader.readEntries(resolve, reject),
      );
      if (some.length === 0) return;
      for (const each of some) await gather(each, path, items);
    }
  }
}

function isFileEntry(entry: FileSystemEntry): entry is FileSystemFileEntry {
  return entry.isFile;
}

function isDirectoryEntry(entry: FileSystemEntry): entry is FileSystemDirectoryEntry {
  return entry.isDirectory;
}

/** What a file chooser brought; of a chosen directory with the directories on the way. */
export function fromChooser(files: Iterable<File>, directory: string): Item[] {
  const items = new Map<string, Item>();
  for (const file of files) {
    const path = join(directory, file.webkitRelativePath || file.name);
    const folders: string[] = [];
    for (let up = parent(path); up.length > directory.length && up !== '/'; up = parent(up)) {
      folders.unshift(up);
    }
    for (const folder of folders) items.set(folder, { path: folder, source: null });
    items.set(path, { path, source: fromFile(file) });
  }
  return [...items.values()];
}

/** An entry of a machine and all beneath it. Links to directories are not followed: a tree has an end. */
export async function fromEntry(
  machine: string,
  directory: string,
  entry: Entry,
  to: string,
): Promise<Item[]> {
  const [path, target] = [join(directory, entry.name), join(to, entry.name)];
  if (isFile(entry)) return [{ path: target, source: fromMachine(machine, path, entry) }];
  if (entry.kind !== 'directory') return [];
  const { entries } = await filesOf(machine).list(path);
  const items: Item[] = [{ path: target, source: null }];
  for (const each of entries) items.push(...(await fromEntry(machine, path, each, target)));
  return items;
}

/** How an upload treats what is there. */
export type Clash = Extract<Replace, { when: 'never' | 'always' }>['when'];
