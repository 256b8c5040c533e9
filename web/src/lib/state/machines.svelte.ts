/** The machines of this account, live: filled by the event stream's `hello`, kept by its changes. */
import { SvelteMap } from 'svelte/reactivity';
import { api, call } from '$lib/api/client';
import { SharedStream } from '$lib/api/shared-events.svelte';
import type { ServerEvent } from '$lib/api/sse';
import type { Machine, Sandbox } from '$lib/api/types';
import { activity } from './activity.svelte';
import { preferences } from './preferences.svelte';
import { previews } from './previews.svelte';
import { samples } from './samples.svelte';
import { snapshots } from './snapshots.svelte';
import { snippets } from './snippets.svelte';

/** Called when a machine comes online after the first list. */
export type ArrivalListener = (machine: Machine) => void;

export class Machines {
  readonly byId = new SvelteMap<string, Machine>();
  /** What machines of kind sandbox are besides, by the same ids. */
  readonly sandboxes = new SvelteMap<string, Sandbox>();
  /** False until the first list has come. */
  ready = $state(false);
  readonly stream: SharedStream;
  /** A machine that was not there when the page opened and has just come online for the first time. */
  newcomer: Machine | undefined = $state.raw();
  #listeners = new Set<ArrivalListener>();
  #known = new Set<string>();

  readonly onlineCount = $derived.by(() => {
    let count = 0;
    for (const machine of this.byId.values()) if (machine.online) count += 1;
    return count;
  });

  constructor(url = '/api/events') {
    this.stream = new SharedStream(url, {
      deliver: (event) => this.apply(event),
      summary: () => this.#summary(),
    });
  }

  /** Calls back whenever a machine comes online; returns what ends that. */
  onArrival(listener: ArrivalListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes one event of the stream. Events of an unknown name belong to a newer server and are passed over. */
  apply({ event, data }: ServerEvent): void {
    if (event !== 'samples' && event !== 'preference') activity.changed();
    switch (event) {
      case 'hello': {
        const all = JSON.parse(data) as { machines: Machine[]; sandboxes?: Sandbox[] };
        this.sandboxes.clear();
        for (const sandbox of all.sandboxes ?? []) this.sandboxes.set(sandbox.id, sandbox);
        this.#replace(all.machines);
        samples.clear();
        break;
      }
      case 'machine':
        this.#put(JSON.parse(data) as Machine);
        break;
      case 'machine_removed':
        this.#drop((JSON.parse(data) as { id: string }).id);
        break;
      case 'sandbox': {
        const sandbox = JSON.parse(data) as Sandbox;
        this.sandboxes.set(sandbox.id, sandbox);
        break;
      }
      case 'snapshot':
        snapshots.apply(JSON.parse(data));
        break;
      case 'snapshot_removed':
        snapshots.drop(JSON.parse(data).id);
        break;
      case 'previews':
        previews.changed();
        break;
      case 'snippets':
        snippets.changed();
        break;
      case 'preference':
        preferences.changed(JSON.parse(data).key);
        break;
      case 'samples':
        samples.apply(JSON.parse(data));
        break;
      case 'sandbox_removed':
        this.sandboxes.delete((JSON.parse(data) as { id: string }).id);
        break;
      default:
        break;
    }
  }

  /** What is known, as the event that would tell it. */
  #summary(): ServerEvent | null {
    if (!this.ready) return null;
    const all = { machines: [...this.byId.values()], sandboxes: [...this.sandboxes.values()] };
    return { event: 'hello', data: JSON.stringify(all) };
  }

  async rename(id: string, name: string): Promise<void> {
    await this.#patch(id, { name });
  }

  async tag(id: string, tags: string[]): Promise<void> {
    await this.#patch(id, { tags });
  }

  /** Revokes the machine's certificate, cuts its tunnel and forgets it. */
  async remove(id: string): Promise<void> {
    await call(api.DELETE('/api/machines/{id}', { params: { path: { id } } }));
    this.#drop(id);
  }

  /** Forgets everything, for when the person signs out. */
  clear(): void {
    this.stream.stop();
    this.byId.clear();
    this.sandboxes.clear();
    snapshots.clear();
    snippets.clear();
    previews.clear();
    preferences.clear();
    activity.clear();
    this.#known.clear();
    this.newcomer = undefined;
    this.ready = false;
  }

  async #patch(id: string, body: { name?: string; tags?: string[] }): Promise<void> {
    const changed = await call(api.PATCH('/api/machines/{id}', { params: { path: { id } }, body }));
    this.#put(changed);
  }

  #replace(list: Machine[]): void {
    const ids = new Set(list.map((machine) => machine.id));
    for (const id of [...this.byId.keys()]) if (!ids.has(id)) this.#drop(id);
    if (!this.ready) this.#known = ids;
    for (const machine of list) this.#put(machine);
    this.ready = true;
  }

  #put(machine: Machine): void {
    const was = this.byId.get(machine.id)?.online ?? false;
    this.byId.set(machine.id, machine);
    if (!machine.online) samples.drop(machine.id);
    if (this.newcomer?.id === machine.id) this.newcomer = machine;
    if (!this.ready || was || !machine.online) return;
    if (!this.#known.has(machine.id)) this.newcomer = machine;
    this.#known.add(machine.id);
    for (const listener of this.#listeners) listener(machine);
  }

  #drop(id: string): void {
    this.byId.delete(id);
    samples.drop(id);
    if (this.newcomer?.id === id) this.newcomer = undefined;
  }
}

export const machines = new Machines();
