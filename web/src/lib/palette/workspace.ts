/** What the palette offers in the workspace: its tabs, and snippets for the terminal in front. */
import type { Command } from '$lib/state/commands.svelte';
import { machines } from '$lib/state/machines.svelte';
import { snippets } from '$lib/state/snippets.svelte';
import { choicesOf } from '$lib/workspace/choices';
import { ofPanes } from '$lib/workspace/menu';
import type { WorkspacePage } from '$lib/workspace/page.svelte';

/** A snippet is to be put into the terminal in front. */
export type UseSnippet = (body: string, name: string, enter: boolean) => void;

export function workspaceCommands(
  page: WorkspacePage,
  current: string,
  user: string | undefined,
  use: UseSnippet,
): Command[] {
  const { workspace } = page;
  const { open, attach } = choicesOf(machines.byId.values(), current, workspace.tabs, user);
  const tabs = workspace.tabs
    .filter((tab) => tab !== workspace.active)
    .map((tab): Command => {
      const note = machines.byId.get(tab.machine)?.name ?? 'machine';
      return {
        // The id of attaching to it, which it is not again.
        id: `attach-${tab.session}`,
        label: tab.label,
        group: 'Sessions',
        icon: 'sessions',
        note,
        words: 'tab',
        run: () => page.select(tab),
      };
    });
  const others = attach.map(
    ({ label, machine, session, title }): Command => ({
      id: `attach-${session}`,
      label,
      group: 'Sessions',
      icon: 'terminal',
      words: 'attach running',
      run: () => void workspace.attach(machine, session, title),
    }),
  );
  const fresh = open.map(
    ({ label, machine }): Command => ({
      id: `new-session-${machine}`,
      label,
      group: 'On a machine',
      icon: 'add',
      run: () => void workspace.openNew(machine),
    }),
  );
  return [...ofTheTab(page, use), ...tabs, ...others, ...fresh];
}

function ofTheTab(page: WorkspacePage, use: UseSnippet): Command[] {
  const { active } = page.workspace;
  if (!active) return [];
  const own: Command[] = [
    {
      id: 'find',
      label: 'Find in the terminal',
      group: 'Workspace',
      icon: 'search',
      run: () => active.screen?.openFind(),
    },
    {
      id: 'rename-tab',
      label: 'Rename the tab',
      group: 'Workspace',
      icon: 'edit',
      run: () => (page.renaming = active),
    },
    {
      id: 'close-tab',
      label: 'Close the tab; its shell goes on',
      group: 'Workspace',
      icon: 'close',
      run: () => page.close(active),
    },
    {
      id: 'end-session',
      label: 'End the session',
      group: 'Workspace',
      icon: 'trash',
      run: () => (page.ending = active),
    },
  ];
  const kept = snippets.list.map(
    ({ id, name, description, body, shared }): Command => ({
      id: `snippet-${id}`,
      label: name,
      group: 'Snippets',
      icon: 'snippet',
      note: description || body.split('\n', 1)[0] || '',
      words: `${body.slice(0, 200)} ${shared ? 'organisation' : 'mine'}`,
      run: () => use(body, name, false),
      more: { says: 'run', run: () => use(body, name, true) },
    }),
  );
  const panes = ofPanes(page, active).map(
    ({ label, icon, run }): Command => ({
      id: `pane-${label}`,
      label,
      group: 'Workspace',
      icon: icon ?? 'terminal',
      words: 'split pane',
      run,
    }),
  );
  const joins = page.workspace.tabs
    .filter((tab) => !tab.shown)
    .map(
      (tab): Command => ({
        id: `join-${tab.session}`,
        label: `Split with ${tab.label}`,
        group: 'Workspace',
        icon: 'beside',
        words: 'join pane',
        run: () => page.join(tab, active, 'row'),
      }),
    );
  return [...own, ...panes, ...joins, ...kept];
}
