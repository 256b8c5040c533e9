/** What can be opened in a new tab. */
import type { Machine } from '$lib/api/types';
import { runningSessions } from '$lib/machines/sessions';
import { keyOf } from './layout';

/** A new session on a machine. */
export interface OpenChoice {
  readonly label: string;
  readonly machine: string;
}

/** A session that runs and has no tab here. */
export interface AttachChoice extends OpenChoice {
  readonly session: string;
  readonly title: string;
}

/** All choices, this machine first. Labels are unique, because people choose by them. */
export function choicesOf(
  machines: Iterable<Machine>,
  current: string,
  tabs: readonly { readonly key: string }[],
  user: string | undefined,
): { open: OpenChoice[]; attach: AttachChoice[] } {
  const first = (machine: Machine) => (machine.id === current ? 0 : 1);
  const online = [...machines]
    .filter(({ online }) => online)
    .sort((a, b) => first(a) - first(b) || a.name.localeCompare(b.name));
  const shown = new Set(tabs.map(({ key }) => key));
  const open = online.map(({ id, name }) => ({ label: `New session on ${name}`, machine: id }));
  const attach = online.flatMap((machine) =>
    runningSessions(machine, user)
      .filter(({ session }) => !shown.has(keyOf({ machine: machine.id, session })))
      .map(({ session, title }) => ({
        label: `${title || 'shell'} on ${machine.name}`,
        machine: machine.id,
        session,
        title,
      })),
  );
  return { open: unique(open), attach: unique(attach) };
}

function unique<T extends { readonly label: string }>(choices: T[]): T[] {
  const seen = new Map<string, number>();
  return choices.map((choice) => {
    const count = (seen.get(choice.label) ?? 0) + 1;
    seen.set(choice.label, count);
    return count === 1 ? choice : { ...choice, label: `${choice.label} (${count})` };
  });
}
