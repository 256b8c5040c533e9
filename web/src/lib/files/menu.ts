/** What can be done with an entry: by its menu, and by keys. */
import { Copier } from '$lib/ui/copy.svelte';
import type { MenuItem } from '$lib/ui/menu-item';
import type { Entry } from './messages';
import type { FilesPage } from './page.svelte';
import type { FilesPane } from './pane.svelte';
import { isFile, isFolder } from './path';

/** An entry's menu. */
export function doings(page: FilesPage, pane: FilesPane, entry: Entry): MenuItem[] {
  if (entry.unnameable) return [];
  const items: MenuItem[] = [
    {
      label: isFolder(entry) ? 'Open' : 'View or edit',
      icon: isFolder(entry) ? 'folder' : 'edit',
      run: () => page.open(pane, entry),
    },
  ];
  if (isFolder(entry) || isFile(entry)) {
    items.push({
      label: isFolder(entry) ? 'Download as archive' : 'Download',
      icon: 'download',
      run: () => void page.download(pane, [entry]),
      testid: 'entry-download',
    });
  }
  items.push({
    label: 'Copy path',
    icon: 'copy',
    run: () => void new Copier().copy(pane.pathOf(entry)),
  });
  items.push(...toTheOther(page, pane, entry));
  if (!pane.writable) return items;
  return [
    ...items,
    {
      label: 'Rename or move',
      icon: 'edit',
      run: () => (page.asked = { what: 'rename', pane, entry }),
      testid: 'entry-rename',
    },
    {
      label: 'Delete',
      icon: 'trash',
      danger: true,
      apart: true,
      run: () => (page.asked = { what: 'delete', pane, entries: [entry] }),
      testid: 'entry-delete',
    },
  ];
}

/** What dragging does, without it. */
function toTheOther(page: FilesPage, pane: FilesPane, entry: Entry): MenuItem[] {
  const other = page.panes.find((each) => each !== pane);
  if (!other?.writable) return [];
  const carry = (copy: boolean) => void page.carry(pane, pane.chosen(entry), other, copy);
  const items: MenuItem[] = [
    {
      label: 'Copy to the other pane',
      icon: 'copy',
      apart: true,
      run: () => carry(true),
      testid: 'entry-copy-over',
    },
  ];
  if (other.machine === pane.machine && pane.writable) {
    items.push({ label: 'Move to the other pane', icon: 'beside', run: () => carry(false) });
  }
  return items;
}

/** A key in the list; what it does not know is left alone. */
export function keyed(
  page: FilesPage,
  pane: FilesPane,
  event: KeyboardEvent,
  entry: Entry | undefined,
): void {
  if (event.altKey || event.target instanceof HTMLInputElement) return;
  if ((event.ctrlKey || event.metaKey) && event.key === 'a') {
    event.preventDefault();
    return pane.toggleAll();
  }
  if (event.ctrlKey || event.metaKey) return;
  const act = actOf(page, pane, event.key, entry);
  if (!act) return;
  event.preventDefault();
  act();
}

function actOf(
  page: FilesPage,
  pane: FilesPane,
  key: string,
  entry: Entry | undefined,
): (() => void) | null {
  if (key === 'Backspace') return () => void pane.up();
  if (key === 'Escape' && pane.selected.size > 0) return () => pane.selected.clear();
  if (!entry || entry.unnameable) return null;
  if (key === ' ') return () => pane.toggle(entry.name);
  if (!pane.writable) return null;
  if (key === 'F2') return () => (page.asked = { what: 'rename', pane, entry });
  if (key === 'Delete') {
    return () => (page.asked = { what: 'delete', pane, entries: pane.chosen(entry) });
  }
  return null;
}
