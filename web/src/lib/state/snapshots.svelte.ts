/** The snapshots of this organisation: asked for when a dialog shows them, kept by the event stream from there on. */
import { SvelteMap } from 'svelte/reactivity';
import { api, call } from '$lib/api/client';
import type { Snapshot } from '$lib/api/types';

export class Snapshots {
  readonly byId = new SvelteMap<string, Snapshot>();
  /** False until they have come once. */
  ready = $state(false);

  async load(): Promise<void> {
    const all = await call(api.GET('/api/snapshots'));
    this.byId.clear();
    for (const one of all) this.byId.set(one.id, one);
    this.ready = true;
  }

  apply(snapshot: Snapshot): void {
    if (this.ready || this.byId.has(snapshot.id)) this.byId.set(snapshot.id, snapshot);
  }

  /** One that was just asked for here. */
  put(snapshot: Snapshot): void {
    this.byId.set(snapshot.id, snapshot);
  }

  drop(id: string): void {
    this.byId.delete(id);
  }

  clear(): void {
    this.byId.clear();
    this.ready = false;
  }
}

export const snapshots = new Snapshots();
