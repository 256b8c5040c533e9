/** Short news at the edge of the page: `toasts.show({ kind: 'ok', text: 'my-laptop is online' })`. */
import { asProblem } from '$lib/api/problem';

export type ToastKind = 'ok' | 'info' | 'error';

export interface ToastAction {
  label: string;
  run: () => void;
}

export interface Toast {
  id: number;
  kind: ToastKind;
  text: string;
  hint?: string | undefined;
  action?: ToastAction | undefined;
}

/** How long a toast stays; errors stay until they are closed. */
const STAY_MS = 6000;
/** More than this at once nobody reads. */
const SHOWN_MAX = 4;

export class Toasts {
  list: Toast[] = $state([]);
  #next = 1;
  #timers = new Map<number, ReturnType<typeof setTimeout>>();

  show(toast: Omit<Toast, 'id'>): number {
    const id = this.#next++;
    this.list.push({ ...toast, id });
    while (this.list.length > SHOWN_MAX) this.dismiss(this.list[0]?.id ?? id);
    if (toast.kind !== 'error') this.resume(id);
    return id;
  }

  /** Shows anything thrown, with the server's hint where it gave one. */
  failed(what: string, thrown: unknown): void {
    const problem = asProblem(thrown);
    this.show({ kind: 'error', text: `${what}: ${problem.detail}`, hint: problem.hint });
  }

  dismiss(id: number): void {
    this.hold(id);
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  /** Keeps a toast while it is looked at. */
  hold(id: number): void {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
  }

  resume(id: number): void {
    this.hold(id);
    const toast = this.list.find((each) => each.id === id);
    if (toast && toast.kind !== 'error') {
      this.#timers.set(
        id,
        setTimeout(() => this.dismiss(id), STAY_MS),
      );
    }
  }
}

export const toasts = new Toasts();
