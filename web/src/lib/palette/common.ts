/** What the palette offers wherever one is: machines, sessions, and what the account menu has. */
import type { Machine } from '$lib/api/types';
import type { MachineAction } from '$lib/machines/actions';
import { runningSessions } from '$lib/machines/sessions';
import { router } from '$lib/router/router.svelte';
import { filesPath, workspacePath } from '$lib/router/routes';
import { menuOf } from '$lib/sandboxes/standing';
import { account } from '$lib/state/account.svelte';
import type { Command } from '$lib/state/commands.svelte';
import { dialogs } from '$lib/state/machine-dialogs.svelte';
import { machines } from '$lib/state/machines.svelte';
import {
  FIELDS,
  type Field,
  KEYS,
  type Key,
  type Settings,
  settings,
} from '$lib/state/settings.svelte';
import { sheet } from '$lib/state/sheet.svelte';
import { theme } from '$lib/state/theme.svelte';
import { toasts } from '$lib/state/toasts.svelte';
import type { IconName } from '$lib/ui/icons';

/** Opens the dialogs that stand beside the palette. */
export interface Doors {
  snippets(): void;
}

export function common(doors: Doors): Command[] {
  return [...machineCommands(), ...actions(doors), ...themes(), ...choices()];
}

function machineCommands(): Command[] {
  const all = [...machines.byId.values()].sort(
    (a, b) => Number(b.online) - Number(a.online) || a.name.localeCompare(b.name),
  );
  const note = (online: boolean, rest: string) => (online ? rest : `offline · ${rest}`);
  return all.flatMap((machine): Command[] => [
    {
      id: `machine-${machine.id}`,
      label: machine.name,
      group: 'Machines',
      icon: machine.kind === 'sandbox' ? 'box' : 'terminal',
      note: note(machine.online, machine.hostname),
      words: `open terminal ${machine.os} ${machine.kind} ${machine.tags.join(' ')}`,
      run: () => router.navigate(workspacePath(machine.id)),
    },
    ...runningSessions(machine, account.me?.user.id).map(
      ({ session, title }): Command => ({
        id: `attach-${session}`,
        label: title || 'shell',
        group: 'Sessions',
        icon: 'sessions',
        note: machine.name,
        words: 'attach running session',
        run: () => router.navigate(workspacePath(machine.id, session)),
      }),
    ),
    ...onMachine(machine),
  ]);
}

/** What can be done to one machine: what its row's menu has. */
function onMachine(machine: Machine): Command[] {
  const of = (action: MachineAction, label: string, icon: IconName): Command => ({
    id: `${action}-${machine.id}`,
    label: `${label} ${machine.name}`,
    group: 'On a machine',
    icon,
    run: () => dialogs.act(action, machine),
  });
  const sandbox = machines.sandboxes.get(machine.id);
  const own = menuOf(sandbox, () => {}).length > 0 ? sandbox : undefined;
  const runs = own !== undefined && own.desired !== 'stopped' && own.state !== 'failed';
  return [
    {
      id: `files-${machine.id}`,
      label: `Files of ${machine.name}`,
      group: 'On a machine',
      icon: 'folder',
      words: 'upload download browse edit',
      run: () => router.navigate(filesPath({ machine: machine.id, path: '' })),
    },
    of('ports', 'Ports of', 'window'),
    of('rename', 'Rename', 'edit'),
    of('tag', 'Edit the tags of', 'tag'),
    of('usage', 'What is used by', 'pulse'),
    of('copy-id', 'Copy the id of', 'copy'),
    ...(own ? [runs ? of('stop', 'Stop', 'pause') : of('start', 'Start', 'play')] : []),
    ...(runs ? [of('restart', 'Restart', 'box')] : []),
    ...(own?.started_at
      ? [of('snapshot', 'Take a snapshot of', 'copy'), of('fork', 'Fork', 'box')]
      : []),
    of('remove', sandbox ? 'Delete' : 'Remove', 'trash'),
  ];
}

function actions(doors: Doors): Command[] {
  return [
    {
      id: 'add-machine',
      label: 'Add a machine',
      group: 'Actions',
      icon: 'add',
      run: () => dialogs.add(),
    },
    {
      id: 'new-sandbox',
      label: 'New sandbox',
      group: 'Actions',
      icon: 'box',
      run: () => dialogs.make(),
    },
    {
      id: 'home',
      label: 'All machines',
      group: 'Actions',
      icon: 'back',
      run: () => router.navigate('/'),
    },
    {
      id: 'snippets',
      label: 'Snippets',
      group: 'Actions',
      icon: 'snippet',
      words: 'edit import export',
      run: doors.snippets,
    },
    {
      id: 'settings',
      label: 'Settings',
      group: 'Actions',
      icon: 'settings',
      words: 'preferences font theme terminal',
      run: () => router.navigate('/settings'),
    },
    {
      id: 'shortcuts',
      label: 'Keyboard shortcuts',
      group: 'Actions',
      icon: 'keyboard',
      run: () => (sheet.open = true),
    },
    {
      id: 'sign-out',
      label: 'Sign out',
      group: 'Actions',
      icon: 'signout',
      run: () => void signOut(),
    },
  ];
}

function themes(): Command[] {
  const choices = [
    ['system', 'monitor'],
    ['dark', 'moon'],
    ['light', 'sun'],
  ] as const;
  return choices
    .filter(([choice]) => choice !== theme.choice)
    .map(([choice, icon]) => ({
      id: `theme-${choice}`,
      label:
        choice === 'system'
          ? 'Theme of the system'
          : `${choice === 'dark' ? 'Dark' : 'Light'} theme`,
      group: 'Settings',
      icon,
      words: 'appearance colours',
      run: () => theme.set(choice),
    }));
}

/** Settings of this device that are a choice or a yes and no: each other value. */
function choices(): Command[] {
  return KEYS.flatMap((key) => {
    const field: Field = FIELDS[key];
    const now = settings.value[key];
    const others =
      field.kind === 'choice'
        ? field.options.filter(({ value }) => value !== now)
        : field.kind === 'toggle'
          ? [{ value: !now, label: now ? 'off' : 'on' }]
          : [];
    return others.map(
      ({ value, label }): Command => ({
        id: `set-${key}-${value}`,
        label: `${field.label}: ${label}`,
        group: 'Settings',
        icon: 'settings',
        words: 'setting preference',
        run: () => settings.set('device', key, value as Settings[Key]),
      }),
    );
  });
}

async function signOut(): Promise<void> {
  try {
    await account.signOut();
  } catch (thrown) {
    toasts.failed('Could not sign out', thrown);
  }
}
