/** Files dropped on a terminal: they go where its shell is, and replace nothing. */
import { toasts } from '$lib/state/toasts.svelte';
import { transfers } from '$lib/state/transfers.svelte';
import type { Dropped } from './dropped';
import { filesOf } from './machine';
import { textOf } from './pane.svelte';
import { base, freeName, join } from './path';
import { fromDrop } from './sources';

/** `directory` is what the shell says of itself; empty is home. */
export async function uploadTo(
  machine: string,
  directory: string,
  dropped: readonly Dropped[],
): Promise<void> {
  const files = filesOf(machine);
  try {
    const to = directory || (await files.opened()).home;
    const { entries } = await files.list(to);
    const taken = new Set(entries.map(({ name }) => name));
    for (const entry of dropped) {
      const items = await fromDrop([entry], to);
      const name = freeName(entry.name, taken);
      taken.add(name);
      const [old, renamed] = [join(to, entry.name), join(to, name)];
      const moved = items.map((item) => ({ ...item, path: renamed + item.path.slice(old.length) }));
      const size = items.reduce((sum, { source }) => sum + (source?.size ?? 0), 0);
      transfers.add(name, { what: 'upload', machine, items: moved, clash: 'never' }, size);
    }
    const what = dropped.length === 1 ? (dropped[0]?.name ?? '') : `${dropped.length} entries`;
    toasts.show({ kind: 'info', text: `Uploading ${what} to ${to === '/' ? '/' : base(to)}` });
  } catch (thrown) {
    toasts.show({ kind: 'error', text: `Could not upload: ${textOf(thrown)}` });
  }
}
