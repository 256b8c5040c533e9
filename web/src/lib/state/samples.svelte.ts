/** What machines use: the last quarter of an hour of those that were looked at, kept by the event stream. */
import { SvelteMap } from 'svelte/reactivity';
import { api, call } from '$lib/api/client';
import { POINTS_KEPT, type Point, type Series } from '$lib/machines/usage';

/** Machines asked for at once; control takes no more. */
const ASKED_MAX = 64;
/** How long rows that come into view are gathered, ms. */
const GATHER_MS = 40;
/** After a question that was not answered, before those machines may be asked for again, ms. */
const AGAIN_MS = 10_000;

interface NewSamples {
  at: string;
  points: Record<string, Point>;
}

export class SampleStore {
  readonly byId = new SvelteMap<string, Series>();
  #asked = new Set<string>();
  #wanted = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** A machine has come into view. */
  want(id: string): void {
    if (this.#asked.has(id)) return;
    this.#asked.add(id);
    this.#wanted.add(id);
    this.#timer ??= setTimeout(() => void this.#ask(), GATHER_MS);
  }

  /** Takes the stream's newest points. A machine that nobody has looked at is left alone. */
  apply({ points }: NewSamples): void {
    for (const [id, point] of Object.entries(points)) {
      const known = this.byId.get(id);
      if (!known) continue;
      // Its first word: what it has in all is asked for.
      if (known.cpuMax === 0) this.#askAnew(id);
      this.byId.set(id, { ...known, points: [...known.points, point].slice(-POINTS_KEPT) });
    }
  }

  /** A machine is offline: what it uses is nothing to be shown. */
  drop(id: string): void {
    this.byId.delete(id);
    this.#asked.delete(id);
    this.#wanted.delete(id);
  }

  /** The stream begins anew, or somebody else has signed in: what was missed is asked for again. */
  clear(): void {
    const seen = [...this.#asked];
    this.#asked.clear();
    for (const id of seen) this.want(id);
  }

  #askAnew(id: string): void {
    this.#asked.delete(id);
    this.want(id);
  }

  async #ask(): Promise<void> {
    this.#timer = undefined;
    const ids = [...this.#wanted].slice(0, ASKED_MAX);
    for (const id of ids) this.#wanted.delete(id);
    if (this.#wanted.size > 0) this.#timer = setTimeout(() => void this.#ask(), GATHER_MS);
    try {
      const query = { machines: ids.join(',') };
      const found = await call(api.GET('/api/samples', { params: { query } }));
      const none: Series = { cpuMax: 0, memoryMax: 0, diskMax: 0, points: [] };
      for (const id of ids) this.byId.set(id, none);
      for (const one of found) this.byId.set(one.machine, seriesOf(one));
    } catch {
      // Sparklines are worth no message: they stay empty until the next look.
      setTimeout(() => {
        for (const id of ids) this.#asked.delete(id);
      }, AGAIN_MS);
    }
  }
}

interface Told {
  cpu_max_milli: number;
  memory_max_kib: number;
  disk_max_mib: number;
  points: (Point | null)[];
}

function seriesOf(told: Told): Series {
  return {
    cpuMax: told.cpu_max_milli,
    memoryMax: told.memory_max_kib,
    diskMax: told.disk_max_mib,
    points: told.points,
  };
}

export const samples = new SampleStore();
