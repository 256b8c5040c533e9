import type { Machine, MachineSession } from '$lib/api/types';

/** The sessions of a machine that this person can attach to. */
export function runningSessions(machine: Machine, user: string | undefined): MachineSession[] {
  return machine.sessions.filter(
    (each) =>
      each.kind === 'terminal' && !each.exited && (user === undefined || each.user === user),
  );
}
