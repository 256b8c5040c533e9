/** What can be done with the pane in front. */
import { router } from '$lib/router/router.svelte';
import { filesPath } from '$lib/router/routes';
import { dialogs } from '$lib/state/machine-dialogs.svelte';
import { machines } from '$lib/state/machines.svelte';
import { sheet } from '$lib/state/sheet.svelte';
import type { MenuItem } from '$lib/ui/menu-item';
import type { WorkspacePage } from './page.svelte';
import type { SessionTab } from './tab.svelte';

/** The session's menu. */
export function menuOf(page: WorkspacePage): MenuItem[] {
  const { active } = page.workspace;
  if (!active) return [];
  return [
    { label: 'Find', icon: 'search', run: () => active.screen?.openFind(), testid: 'menu-find' },
    { label: 'Copy selection', icon: 'copy', run: () => active.screen?.copy() },
    {
      label: 'Rename tab',
      icon: 'edit',
      run: () => (page.renaming = active),
      testid: 'menu-rename',
    },
    {
      label: 'Files here',
      icon: 'folder',
      run: () => {
        router.navigate(filesPath({ machine: active.machine, path: active.cwd }));
      },
      testid: 'menu-files',
    },
    {
      label: 'Ports',
      icon: 'window',
      run: () => {
        const machine = machines.byId.get(active.machine);
        if (machine) dialogs.act('ports', machine);
      },
      testid: 'menu-ports',
    },
    ...ofPanes(page, active),
    { label: 'Keyboard shortcuts', icon: 'keyboard', apart: true, run: () => (sheet.open = true) },
    { label: 'Close tab', icon: 'close', run: () => page.close(active) },
    {
      label: 'End session',
      icon: 'trash',
      danger: true,
      run: () => (page.ending = active),
      testid: 'menu-end',
    },
  ];
}

/** What divides the tab, and what is done with its parts. */
export function ofPanes(page: WorkspacePage, active: SessionTab): MenuItem[] {
  const { workspace } = page;
  const several = typeof workspace.front?.tree !== 'string';
  const casts = workspace.cast.size > 0;
  const items: MenuItem[] = [
    {
      label: 'Split right',
      icon: 'beside',
      apart: true,
      run: () => page.split('row'),
      testid: 'menu-split-right',
    },
    {
      label: 'Split down',
      icon: 'below',
      run: () => page.split('column'),
      testid: 'menu-split-down',
    },
  ];
  if (several) {
    items.push(
      {
        label: casts ? 'Stop typing in all panes' : 'Type in all panes',
        icon: 'broadcast',
        run: () => workspace.broadcast(!casts),
        testid: 'menu-broadcast',
      },
      {
        label: 'Move pane to its own tab',
        icon: 'tab',
        run: () => workspace.lift(active),
        testid: 'menu-lift',
      },
    );
  }
  if (page.canDetach(active))
    items.push({
      label: 'Open in its own window',
      icon: 'window',
      run: () => page.detach(active),
      testid: 'menu-detach',
    });
  return items;
}
