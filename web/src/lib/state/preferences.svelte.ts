/** What the person prefers, kept in the account: the same in every browser of theirs, and live between them. */
import { api, call } from '$lib/api/client';

/** A change is kept once nothing was changed for so long, ms. */
const PAUSE_MS = 800;
/** A change that could not be kept is tried again after so long, ms. */
const RETRY_MS = 10_000;

export class Preferences {
  /** By key; what was never set is not there. */
  values: Readonly<Record<string, unknown>> = $state.raw({});
  /** Whether the account was asked: `values` is what it knows, or nothing could be had. */
  settled = $state(false);
  readonly #unsaved = new Map<string, unknown>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Asks the account. Changes that are not kept yet stand. */
  async load(): Promise<void> {
    try {
      const kept = await call(api.GET('/api/me/preferences'));
      this.values = { ...kept, ...Object.fromEntries(this.#unsaved) };
    } catch {
      // What is at its default now works all the same, and the next event or page asks again.
    }
    this.settled = true;
  }

  /** Sets one, here at once and in the account soon. */
  set(key: string, value: unknown): void {
    if (JSON.stringify(this.values[key]) === JSON.stringify(value)) return;
    this.values = { ...this.values, [key]: value };
    this.#unsaved.set(key, value);
    this.#later(PAUSE_MS);
  }

  /** Another page of this person's has set one. */
  changed(key: string): void {
    if (!this.#unsaved.has(key)) void this.load();
  }

  /** Keeps what is not kept yet, now: the page may be going. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    for (const [key, value] of [...this.#unsaved]) await this.#keep(key, value);
  }

  /** Forgets everything, for when the person signs out. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#unsaved.clear();
    this.values = {};
    this.settled = false;
  }

  async #keep(key: string, value: unknown): Promise<void> {
    try {
      const params = { path: { key } };
      const put = { params, body: value, keepalive: true };
      await call(api.PUT('/api/me/preferences/{key}', put));
      if (this.#unsaved.get(key) === value) this.#unsaved.delete(key);
    } catch {
      this.#later(RETRY_MS);
    }
  }

  #later(pause: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.flush(), pause);
  }
}

export const preferences = new Preferences();
