/** One pane of the file browser: a directory of a machine, and what is selected in it. */
import { SvelteSet } from 'svelte/reactivity';
import { filesOf, type MachineFiles } from './machine';
import type { Entry } from './messages';
import { isFolder, join, parent, tidy } from './path';
import { FilesError } from './stream';

export type SortBy = 'name' | 'size' | 'modified';

export class FilesPane {
  readonly files: MachineFiles;
  /** The directory shown; empty until home is known. */
  path: string = $state('');
  home: string = $state('/');
  /** Whether the ticket lets it be changed. */
  writable: boolean = $state(false);
  entries: readonly Entry[] = $state.raw([]);
  /** The directory has more than is shown. */
  cut: boolean = $state(false);
  loading: boolean = $state(true);
  error: string | null = $state(null);
  readonly selected = new SvelteSet<string>();
  sort: { readonly by: SortBy; readonly up: boolean } = $state({ by: 'name', up: true });
  hidden: boolean = $state(false);
  #turn = 0;

  readonly shown: readonly Entry[] = $derived(this.#arrange());

  constructor(machine: string) {
    this.files = filesOf(machine);
  }

  get machine(): string {
    return this.files.machine;
  }

  /** Those selected, or the one asked about if it is not among them. */
  chosen(entry?: Entry): Entry[] {
    if (entry && !this.selected.has(entry.name)) return [entry];
    return this.shown.filter(({ name }) => this.selected.has(name));
  }

  /** Shows a directory; empty is home. Returns where it ended. */
  async go(path: string): Promise<void> {
    if (path !== this.path) this.selected.clear();
    this.loading = true;
    const turn = ++this.#turn;
    try {
      const { home, write } = await this.files.opened();
      if (turn !== this.#turn) return;
      [this.home, this.writable] = [home, write];
      this.path = tidy(path || home, this.path || home, home);
      const { entries, cut } = await this.files.list(this.path);
      if (turn !== this.#turn) return;
      [this.entries, this.cut, this.error] = [entries, cut, null];
      const names = new Set(entries.map(({ name }) => name));
      for (const name of this.selected) if (!names.has(name)) this.selected.delete(name);
    } catch (thrown) {
      if (turn !== this.#turn) return;
      [this.entries, this.error] = [[], textOf(thrown)];
    } finally {
      if (turn === this.#turn) this.loading = false;
    }
  }

  /** The same directory as it is now. */
  refresh(): Promise<void> {
    return this.go(this.path);
  }

  up(): Promise<void> {
    return this.go(parent(this.path));
  }

  pathOf({ name }: Entry): string {
    return join(this.path, name);
  }

  sortBy(by: SortBy): void {
    this.sort = { by, up: this.sort.by === by ? !this.sort.up : by === 'name' };
  }

  toggle(name: string): void {
    if (!this.selected.delete(name)) this.selected.add(name);
  }

  /** Selects all that is shown, or nothing if it was all. */
  toggleAll(): void {
    const all = this.selected.size === this.shown.length;
    this.selected.clear();
    if (!all) for (const { name } of this.shown) this.selected.add(name);
  }

  #arrange(): Entry[] {
    const { by, up } = this.sort;
    const seen = this.entries.filter(({ name }) => this.hidden || !name.startsWith('.'));
    const compare = (a: Entry, b: Entry) =>
      by === 'name' ? NAMES.compare(a.name, b.name) : a[by] - b[by];
    return seen.sort(
      (a, b) =>
        Number(isFolder(b)) - Number(isFolder(a)) ||
        (up ? compare(a, b) : compare(b, a)) ||
        NAMES.compare(a.name, b.name),
    );
  }
}

const NAMES = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

/** Anything thrown, as a sentence. */
export function textOf(thrown: unknown): string {
  if (thrown instanceof FilesError && thrown.code === 'machine_offline') {
    return 'The machine is offline';
  }
  return thrown instanceof Error ? thrown.message : 'It failed';
}
