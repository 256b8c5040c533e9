/** The snippets a person can use: their own and the organisation's. */
import { api, call } from '$lib/api/client';
import type { Snippet, SnippetWords } from '$lib/api/types';

export class Snippets {
  list: readonly Snippet[] = $state.raw([]);
  ready = $state(false);
  #loading: Promise<void> | undefined;

  /** Asks control, once; what failed is asked for again the next time. */
  load(): Promise<void> {
    this.#loading ??= this.#fetch().catch((thrown: unknown) => {
      this.#loading = undefined;
      throw thrown;
    });
    return this.#loading;
  }

  /** `event: snippets`: some have changed. */
  changed(): void {
    if (!this.ready) return;
    this.#loading = undefined;
    void this.load().catch(() => {});
  }

  async create(words: SnippetWords, shared: boolean): Promise<void> {
    await call(api.POST('/api/snippets', { body: { ...words, shared } }));
    await this.#fetch();
  }

  async change(id: string, words: SnippetWords): Promise<void> {
    await call(api.PUT('/api/snippets/{id}', { params: { path: { id } }, body: words }));
    await this.#fetch();
  }

  async remove(id: string): Promise<void> {
    await call(api.DELETE('/api/snippets/{id}', { params: { path: { id } } }));
    await this.#fetch();
  }

  /** Keeps many, all or none; answers how many are new and how many took another's place. */
  async import(all: SnippetWords[], shared: boolean): Promise<{ made: number; changed: number }> {
    const kept = await call(api.POST('/api/snippets/import', { body: { snippets: all, shared } }));
    await this.#fetch();
    return kept;
  }

  clear(): void {
    this.list = [];
    this.ready = false;
    this.#loading = undefined;
  }

  async #fetch(): Promise<void> {
    this.list = await call(api.GET('/api/snippets'));
    this.ready = true;
  }
}

export const snippets = new Snippets();
