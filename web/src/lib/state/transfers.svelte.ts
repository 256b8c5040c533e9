/** Files on their way, in either direction, wherever on the page they were begun. */

import type { Sink } from '$lib/files/fetch';
import type { Clash, Item } from '$lib/files/sources';

export type TransferState = 'waiting' | 'running' | 'retrying' | 'done' | 'failed' | 'cancelled';

/** What is to be done. */
export type Job =
  | {
      readonly what: 'upload';
      readonly machine: string;
      readonly items: readonly Item[];
      readonly clash: Clash;
    }
  | {
      readonly what: 'download';
      readonly machine: string;
      readonly path: string;
      readonly archive: boolean;
      readonly sink: Sink;
    };

/** Transfers under way at once: more share the same path, and the machine's streams. */
const AT_ONCE = 3;

export class Transfer {
  readonly name: string;
  readonly job: Job;
  state: TransferState = $state('waiting');
  /** Bytes done. */
  done = $state(0);
  /** All bytes; null: not known. */
  size: number | null = $state(null);
  /** Why it failed, or is tried again; or what it lacks. */
  note: string | null = $state(null);
  /** When it began, on the page's clock. */
  began = $state(0);
  readonly #abort = new AbortController();

  constructor(name: string, job: Job, size: number | null) {
    this.name = name;
    this.job = job;
    this.size = size;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get over(): boolean {
    return this.state === 'done' || this.state === 'failed' || this.state === 'cancelled';
  }

  cancel(): void {
    if (this.over) return;
    this.state = 'cancelled';
    this.#abort.abort();
  }
}

export class Transfers {
  list: Transfer[] = $state([]);
  readonly active: number = $derived(this.list.filter((each) => !each.over).length);
  #ended = new Set<(transfer: Transfer) => void>();

  /** Begins it, when its turn comes. */
  add(name: string, job: Job, size: number | null): Transfer {
    this.list.push(new Transfer(name, job, size));
    const added = this.list.at(-1) as Transfer;
    this.#next();
    return added;
  }

  /** The same again: what is done already is not done twice. */
  retry(transfer: Transfer): void {
    this.dismiss(transfer);
    this.add(transfer.name, transfer.job, transfer.size);
  }

  dismiss(transfer: Transfer): void {
    transfer.cancel();
    this.list = this.list.filter((each) => each !== transfer);
  }

  clear(): void {
    this.list = this.list.filter((each) => !each.over);
  }

  /** Calls back when one has ended; returns what ends that. */
  onEnded(listener: (transfer: Transfer) => void): () => void {
    this.#ended.add(listener);
    return () => this.#ended.delete(listener);
  }

  #next(): void {
    const running = this.list.filter(({ state }) => state === 'running' || state === 'retrying');
    const waiting = this.list.find(({ state }) => state === 'waiting');
    if (running.length >= AT_ONCE || !waiting) return;
    waiting.state = 'running';
    waiting.began = performance.now();
    void this.#run(waiting);
    this.#next();
  }

  async #run(transfer: Transfer): Promise<void> {
    // What moves bytes is loaded with the first that move.
    const { run } = await import('$lib/files/run');
    await run(transfer);
    for (const listener of this.#ended) listener(transfer);
    this.#next();
  }
}

export const transfers = new Transfers();
