/** The files of one machine, as a page looks at them: one stream, opened when it is needed and closed when nobody looks. */
import type { Entry, Op, Opened, Outcome } from './messages';
import { FilesError, FilesStream } from './stream';

/** A stream that nobody asked anything for so long is closed, ms. */
const IDLE_MS = 60_000;

/** What a directory has. */
export interface Listing {
  readonly entries: readonly Entry[];
  /** There are more. */
  readonly cut: boolean;
}

export class MachineFiles {
  readonly machine: string;
  #stream: Promise<FilesStream> | null = null;
  #idle: ReturnType<typeof setTimeout> | undefined;

  constructor(machine: string) {
    this.machine = machine;
  }

  /** What the ticket allows, and where home is. */
  async opened(): Promise<Opened> {
    return (await this.#open()).opened;
  }

  /** The entries of a directory. */
  list(path: string): Promise<Listing> {
    return this.#again(async (stream) => {
      const exchange = stream.ask({ op: 'list', path });
      const entries: Entry[] = [];
      for (;;) {
        const outcome = expect(await exchange.next(), 'entries');
        entries.push(...outcome.entries);
        if (!outcome.more) return { entries, cut: outcome.cut };
      }
    });
  }

  /** What is at a path; null: nothing. */
  async stat(path: string): Promise<Entry | null> {
    try {
      return await this.#again((stream) => entryOf(stream, { op: 'stat', path }));
    } catch (error) {
      if (error instanceof FilesError && error.code === 'not_found') return null;
      throw error;
    }
  }

  /** A new directory; one that is there already is good if `existing`. */
  async makeDirectory(path: string, existing = false): Promise<void> {
    try {
      await entryOf(await this.#open(), { op: 'make_directory', path });
    } catch (error) {
      if (!existing || !(error instanceof FilesError) || error.code !== 'exists') throw error;
    }
  }

  /** Another name. */
  async rename(from: string, to: string): Promise<void> {
    await entryOf(await this.#open(), { op: 'rename', from, to });
  }

  /** Removes it, and all that is in it. */
  async remove(path: string, progress: (entries: number) => void): Promise<void> {
    const exchange = (await this.#open()).ask({ op: 'delete', path, recursive: true });
    for (;;) {
      const outcome = await exchange.next();
      if (outcome.is !== 'progress') return;
      progress(outcome.entries);
    }
  }

  /** Does what may be done twice, a second time if the connection broke. */
  async #again<T>(work: (stream: FilesStream) => Promise<T>): Promise<T> {
    try {
      return await work(await this.#open());
    } catch (error) {
      if (!(error instanceof FilesError) || !error.lost) throw error;
      return work(await this.#open());
    }
  }

  #open(): Promise<FilesStream> {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.close(), IDLE_MS);
    if (this.#stream) return this.#stream;
    const opening = FilesStream.open(this.machine, new AbortController().signal);
    const forget = () => {
      if (this.#stream === opening) this.#stream = null;
    };
    this.#stream = opening;
    opening.then((stream) => {
      if (stream.alive) stream.onclosed = forget;
      else forget();
    }, forget);
    return opening;
  }

  close(): void {
    clearTimeout(this.#idle);
    this.#stream?.then(
      (stream) => stream.close(),
      () => {},
    );
    this.#stream = null;
  }
}

/** The answer, if it is what was asked for. */
export function expect<K extends Outcome['is']>(
  outcome: Outcome,
  is: K,
): Extract<Outcome, { is: K }> {
  if (outcome.is === is) return outcome as Extract<Outcome, { is: K }>;
  throw new FilesError('protocol_error', `answered ${outcome.is}, not ${is}`, false);
}

async function entryOf(stream: FilesStream, op: Op): Promise<Entry> {
  return expect(await stream.ask(op).next(), 'entry').entry;
}

const known = new Map<string, MachineFiles>();

/** Those of a machine: the same for all who ask. */
export function filesOf(machine: string): MachineFiles {
  const files = known.get(machine) ?? new MachineFiles(machine);
  known.set(machine, files);
  return files;
}
