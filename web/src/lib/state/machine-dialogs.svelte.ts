/** What is being done to a machine, wherever on the page that began: a row, the palette, a shortcut. */
import type { Machine } from '$lib/api/types';
import type { MachineAction } from '$lib/machines/actions';
import { fork, tell } from '$lib/sandboxes/tell';
import { Copier } from '$lib/ui/copy.svelte';
import { toasts } from './toasts.svelte';

/** The dialog that is open. */
export type Asked =
  | { readonly what: 'add' | 'make' }
  | {
      readonly what: 'rename' | 'tag' | 'remove' | 'usage' | 'ports' | 'snapshot';
      readonly machine: Machine;
    };

export class MachineDialogs {
  asked: Asked | null = $state.raw(null);

  /** Does it, or asks first. */
  act(action: MachineAction, machine: Machine): void {
    switch (action) {
      case 'fork':
        return void fork(machine);
      case 'copy-id':
        return void copyId(machine);
      case 'start':
      case 'stop':
      case 'restart':
        return void tell(machine, action);
      default:
        this.asked = { what: action, machine };
    }
  }

  /** Adds a machine. */
  add(): void {
    this.asked = { what: 'add' };
  }

  /** Makes a sandbox. */
  make(): void {
    this.asked = { what: 'make' };
  }

  close(): void {
    this.asked = null;
  }
}

async function copyId({ id, name }: Machine): Promise<void> {
  await new Copier().copy(id);
  toasts.show({ kind: 'ok', text: `Copied the id of ${name}` });
}

export const dialogs = new MachineDialogs();
