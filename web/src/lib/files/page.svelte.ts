/** The file browser: its panes, the dialog that is open, and what moves between them. */
import { machines } from '$lib/state/machines.svelte';
import { toasts } from '$lib/state/toasts.svelte';
import { type Transfer, transfers } from '$lib/state/transfers.svelte';
import { sinkFor } from './fetch';
import type { Entry } from './messages';
import { FilesPane, textOf } from './pane.svelte';
import { isFile, isFolder, join, parent, sizeText } from './path';
import { type Clash, fromEntry, type Item } from './sources';
import { TEXT_MAX } from './text';

/** What is asked before something is done. */
export type Asked =
  | { readonly what: 'folder'; readonly pane: FilesPane }
  | { readonly what: 'rename'; readonly pane: FilesPane; readonly entry: Entry }
  | { readonly what: 'delete'; readonly pane: FilesPane; readonly entries: readonly Entry[] }
  | {
      readonly what: 'edit';
      readonly pane: FilesPane;
      readonly path: string;
      readonly entry: Entry;
    }
  | {
      readonly what: 'replace';
      readonly names: readonly string[];
      readonly go: (clash: Clash) => void;
    };

export class FilesPage {
  panes: readonly FilesPane[] = $state.raw([]);
  asked: Asked | null = $state.raw(null);
  /** What is being dragged out of a pane. */
  dragged: { readonly pane: FilesPane; readonly entries: readonly Entry[] } | null =
    $state.raw(null);

  /** Shows what has come in; returns what ends that. */
  listen(): () => void {
    return transfers.onEnded((transfer) => this.#ended(transfer));
  }

  /** A second pane, or no longer. */
  split(): void {
    const [first, second] = this.panes;
    if (!first) return;
    if (second) this.panes = [first];
    else {
      const beside = new FilesPane(first.machine);
      this.panes = [first, beside];
      void beside.go(first.path);
    }
  }

  /** Another machine in a pane. */
  show(pane: FilesPane, machine: string): void {
    const other = new FilesPane(machine);
    this.panes = this.panes.map((each) => (each === pane ? other : each));
    void other.go('');
  }

  /** A directory is gone into, a text is edited, anything else comes to this computer. */
  open(pane: FilesPane, entry: Entry): void {
    if (isFolder(entry)) void pane.go(pane.pathOf(entry));
    else if (isFile(entry) && entry.size <= TEXT_MAX) {
      this.asked = { what: 'edit', pane, path: pane.pathOf(entry), entry };
    } else if (isFile(entry)) void this.download(pane, [entry]);
    else toasts.show({ kind: 'info', text: `${entry.name} is neither a file nor a directory` });
  }

  /** To this computer; directories as archives. */
  async download(pane: FilesPane, entries: readonly Entry[]): Promise<void> {
    for (const entry of entries) {
      const archive = isFolder(entry);
      if (!archive && !isFile(entry)) continue;
      // A link has the size of its target only once that is opened.
      const size = archive || entry.kind === 'link' ? null : entry.size;
      const name = archive ? `${entry.name}.tar` : entry.name;
      const sink = await sinkFor(name, size);
      if (!sink) return;
      const { machine } = pane;
      const path = pane.pathOf(entry);
      transfers.add(name, { what: 'download', machine, path, archive, sink }, size);
    }
  }

  /** Into the directory of a pane; what is there already is replaced only if that is wished. */
  async put(pane: FilesPane, items: readonly Item[]): Promise<void> {
    if (items.length === 0) return;
    const { machine, path } = pane;
    const begin = (clash: Clash) => {
      for (const group of groupsOf(items, path)) {
        const size = group.reduce((sum, { source }) => sum + (source?.size ?? 0), 0);
        const name = group[0]?.path.slice(join(path, '').length) ?? '';
        transfers.add(name, { what: 'upload', machine, items: group, clash }, size);
      }
    };
    try {
      const { entries } = await pane.files.list(path);
      const there = new Set(entries.map(({ name }) => name));
      const tops = items.filter((item) => parent(item.path) === path);
      const names = tops.map((item) => item.path.slice(join(path, '').length));
      const taken = names.filter((name) => there.has(name));
      if (taken.length === 0) begin('never');
      else this.asked = { what: 'replace', names: taken, go: begin };
    } catch (thrown) {
      toasts.show({ kind: 'error', text: `Could not upload: ${textOf(thrown)}` });
    }
  }

  /** What was dragged is dropped on a pane: moved within a machine, copied to another one or if that is wished. */
  async drop(pane: FilesPane, copy: boolean): Promise<void> {
    const { dragged } = this;
    this.dragged = null;
    if (dragged) await this.carry(dragged.pane, dragged.entries, pane, copy);
  }

  /** From one pane's directory to another's. */
  async carry(
    from: FilesPane,
    entries: readonly Entry[],
    to: FilesPane,
    copy: boolean,
  ): Promise<void> {
    if (from.machine === to.machine && from.path === to.path) return;
    if (from.machine === to.machine && !copy) return this.#move(from, entries, to);
    try {
      const items: Item[] = [];
      for (const entry of entries) {
        items.push(...(await fromEntry(from.machine, from.path, entry, to.path)));
      }
      await this.put(to, items);
    } catch (thrown) {
      toasts.show({ kind: 'error', text: `Could not copy: ${textOf(thrown)}` });
    }
  }

  async #move(from: FilesPane, entries: readonly Entry[], to: FilesPane): Promise<void> {
    try {
      for (const entry of entries) {
        await from.files.rename(from.pathOf(entry), join(to.path, entry.name));
      }
    } catch (thrown) {
      toasts.show({ kind: 'error', text: `Could not move: ${textOf(thrown)}` });
    }
    await Promise.all([from.refresh(), to.refresh()]);
  }

  #ended({ job, name, state, size }: Transfer): void {
    if (job.what !== 'upload') return;
    for (const pane of this.panes) if (pane.machine === job.machine) void pane.refresh();
    if (state !== 'done') return;
    const machine = machines.byId.get(job.machine)?.name ?? 'the machine';
    const much = size === null ? '' : ` (${sizeText(size)})`;
    toasts.show({ kind: 'ok', text: `${name}${much} is on ${machine}` });
  }
}

/** One group for each name in the directory: a file, or a directory with all that is beneath. */
function groupsOf(items: readonly Item[], directory: string): Item[][] {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const [top = ''] = item.path.slice(join(directory, '').length).split('/');
    groups.set(top, [...(groups.get(top) ?? []), item]);
  }
  return [...groups.values()];
}
