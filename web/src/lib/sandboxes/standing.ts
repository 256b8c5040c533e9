/** What a machine's row says of it: its light, in words, and what goes before its host name. Pure. */
import type { Machine, Sandbox, SandboxState } from '$lib/api/types';
import type { MachineAction } from '$lib/machines/actions';
import type { MenuItem } from '$lib/ui/menu-item';
import type { Status } from '$lib/ui/StatusLight.svelte';

export interface Standing {
  light: Status;
  label: string;
  /** Instead of the host name, while there is something to say. */
  note?: string | undefined;
}

/** The steps of a sandbox in words. */
export const words: Record<SandboxState, string> = {
  waiting: 'Waiting',
  pulling: 'Fetching the image',
  creating: 'Creating',
  starting: 'Starting',
  setting_up: 'Setting up',
  enrolling: 'Letting its agent in',
  ready: 'Ready',
  stopping: 'Stopping',
  stopped: 'Stopped',
  deleting: 'Deleting',
  failed: 'Failed',
};

export function standingOf(machine: Machine, sandbox: Sandbox | undefined): Standing {
  if (!sandbox || sandbox.state === 'ready') {
    return machine.online
      ? { light: 'running', label: 'Online' }
      : { light: 'sleeping', label: 'Offline' };
  }
  const label = words[sandbox.state];
  if (sandbox.state === 'failed')
    return { light: 'error', label, note: sandbox.problem?.detail ?? label };
  if (sandbox.state === 'stopped') return { light: 'sleeping', label, note: label };
  return { light: 'building', label, note: `${stepOf(sandbox)}…` };
}

/** The step under way, with how much of it is done. */
function stepOf(sandbox: Sandbox): string {
  const now = sandbox.steps.find((step) => step.state === 'now');
  const percent = now?.percent == null ? '' : ` ${now.percent} %`;
  return words[sandbox.state] + percent;
}

/** What can be done to a sandbox as it is. */
export function menuOf(
  sandbox: Sandbox | undefined,
  run: (action: MachineAction) => void,
): MenuItem[] {
  if (!sandbox || sandbox.desired === 'deleted') return [];
  const item = (label: string, action: MachineAction): MenuItem => ({
    label,
    run: () => run(action),
    testid: `${action}-sandbox`,
  });
  const copies = sandbox.started_at
    ? [item('Take a snapshot', 'snapshot'), item('Fork', 'fork')]
    : [];
  if (sandbox.desired === 'stopped' || sandbox.state === 'failed')
    return [item('Start', 'start'), ...copies];
  return [item('Stop', 'stop'), item('Restart', 'restart'), ...copies];
}
