/** Small text files: read whole, edited here, written back unless somebody else was faster. */
import { concat, uuid } from '../protocol/bytes';
import type { Entry } from './messages';
import { sendFile } from './send';
import { fromMachine, type Source } from './sources';
import { FilesError, FilesStream } from './stream';

/** Above this a file is downloaded instead, bytes. */
export const TEXT_MAX = 1_048_576;

/** The text of a file; null: it is not text. */
export async function readText(
  machine: string,
  path: string,
  entry: Entry,
): Promise<string | null> {
  const pieces: Uint8Array[] = [];
  for await (const piece of fromMachine(machine, path, entry).read(new AbortController().signal)) {
    pieces.push(piece);
  }
  const bytes = concat(...pieces);
  if (bytes.includes(0)) return null;
  try {
    // A mark at the beginning is kept: what is not edited is written back as it was.
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** Writes it over the file that was read; over any if `seen` is null. Returns what is there then. */
export async function writeText(
  machine: string,
  path: string,
  text: string,
  seen: Entry | null,
): Promise<Entry> {
  const bytes = new TextEncoder().encode(text);
  const source: Source = {
    size: bytes.length,
    identity: uuid(),
    async *read() {
      if (bytes.length > 0) yield bytes;
    },
  };
  const { signal } = new AbortController();
  const stream = await FilesStream.open(machine, signal);
  try {
    const replace = seen
      ? ({ when: 'unchanged', size: seen.size, modified: seen.modified } as const)
      : ({ when: 'always' } as const);
    return await sendFile(stream, path, source, replace, () => {}, signal);
  } finally {
    stream.close();
  }
}

/** Whether it failed because somebody else has changed the file. */
export function isConflict(thrown: unknown): boolean {
  return thrown instanceof FilesError && thrown.code === 'changed';
}
