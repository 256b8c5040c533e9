/** The machines that something is to be done to together. */
import { SvelteSet } from 'svelte/reactivity';
import type { Machine } from '$lib/api/types';
import { tell } from '$lib/sandboxes/tell';
import { machines } from './machines.svelte';
import { toasts } from './toasts.svelte';

export class Selection {
  readonly ids = new SvelteSet<string>();
  /** Those of them that are still there. */
  readonly machines = $derived(
    [...this.ids].map((id) => machines.byId.get(id)).filter((each) => each !== undefined),
  );
  /** How many are done of those that are being worked on; null: nothing is. */
  progress: { readonly done: number; readonly of: number } | null = $state.raw(null);

  toggle(id: string): void {
    if (!this.ids.delete(id)) this.ids.add(id);
  }

  add(list: Iterable<Machine>): void {
    for (const { id } of list) this.ids.add(id);
  }

  clear(): void {
    this.ids.clear();
  }

  /** Adds a tag to all. */
  async tag(tag: string): Promise<void> {
    const list = this.machines.filter(({ tags }) => !tags.includes(tag));
    await this.#each('tagged', list, ({ id, tags }) => machines.tag(id, [...tags, tag]));
  }

  /** Takes a tag from all that have it. */
  async untag(tag: string): Promise<void> {
    const list = this.machines.filter(({ tags }) => tags.includes(tag));
    const rest = (tags: readonly string[]) => tags.filter((each) => each !== tag);
    await this.#each('changed', list, ({ id, tags }) => machines.tag(id, rest(tags)));
  }

  /** Starts or stops the sandboxes among them. */
  async tell(action: 'start' | 'stop'): Promise<void> {
    for (const machine of this.machines)
      if (machine.kind === 'sandbox') await tell(machine, action);
  }

  /** Removes all. */
  async remove(): Promise<void> {
    await this.#each('removed', this.machines, ({ id }) => machines.remove(id));
  }

  /** One after the other; what fails is told, and stays selected. */
  async #each(
    done: string,
    list: readonly Machine[],
    act: (machine: Machine) => Promise<void>,
  ): Promise<void> {
    const failed: string[] = [];
    let last: unknown;
    for (const [index, machine] of list.entries()) {
      this.progress = { done: index, of: list.length };
      try {
        await act(machine);
        this.ids.delete(machine.id);
      } catch (thrown) {
        failed.push(machine.name);
        last = thrown;
      }
    }
    this.progress = null;
    const count = list.length - failed.length;
    if (count > 0) toasts.show({ kind: 'ok', text: `${count} of ${list.length} ${done}` });
    if (failed.length > 0) toasts.failed(`Not ${done}: ${failed.slice(0, 5).join(', ')}`, last);
  }
}

export const selection = new Selection();
