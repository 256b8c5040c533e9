/** What happened in the organisation, newest first: asked for anew whenever something is told to have changed. */
import { api, call } from '$lib/api/client';
import type { Activity } from '$lib/api/types';

/** Changes come in bursts: one question for all of them, ms. */
const PAUSE_MS = 700;
/** What no event tells of is seen after so long, ms. */
const AGAIN_MS = 30_000;

export class ActivityFeed {
  list: readonly Activity[] = $state.raw([]);
  ready = $state(false);
  /** There is more to be asked for. */
  more = $state(false);
  /** The last question was not answered. */
  failed = $state(false);
  #watchers = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Keeps it new for as long as somebody looks; returns what ends that. */
  watch(): () => void {
    this.#watchers += 1;
    void this.#fetch();
    return () => {
      this.#watchers -= 1;
      if (this.#watchers === 0) clearTimeout(this.#timer);
    };
  }

  /** Something has changed. */
  changed(): void {
    if (this.#watchers > 0) this.#later(PAUSE_MS);
  }

  /** Older ones. */
  async older(): Promise<void> {
    const last = this.list.at(-1);
    if (!last) return;
    const page = await this.#ask(last.seq);
    this.list = [...this.list, ...page];
    this.more = page.length > 0;
  }

  /** Forgets everything, for when the person signs out. */
  clear(): void {
    clearTimeout(this.#timer);
    this.list = [];
    this.ready = this.more = this.failed = false;
  }

  async #fetch(): Promise<void> {
    try {
      const page = await this.#ask();
      const first = page.at(-1)?.seq ?? 0;
      if (!this.ready) this.more = page.length > 0;
      this.list = [...page, ...this.list.filter(({ seq }) => seq < first)];
      this.ready = true;
      this.failed = false;
    } catch {
      this.failed = true;
    }
    if (this.#watchers > 0) this.#later(AGAIN_MS);
  }

  async #ask(before?: number): Promise<Activity[]> {
    const query = before === undefined ? {} : { before };
    return call(api.GET('/api/activity', { params: { query } }));
  }

  #later(pause: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (document.visibilityState === 'visible') void this.#fetch();
      else this.#later(AGAIN_MS);
    }, pause);
  }
}

export const activity = new ActivityFeed();
