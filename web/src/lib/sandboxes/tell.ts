/** Start, stop, restart: asked for here, done by control; the row shows how far it is. */
import { api, call } from '$lib/api/client';
import { asProblem } from '$lib/api/problem';
import type { Machine } from '$lib/api/types';
import { toasts } from '$lib/state/toasts.svelte';
import { sentence } from '$lib/ui/sentence';

const done = { start: 'starts', stop: 'stops', restart: 'restarts' } as const;

export async function tell(machine: Machine, action: keyof typeof done): Promise<void> {
  const params = { params: { path: { id: machine.id } } };
  try {
    if (action === 'start') await call(api.POST('/api/sandboxes/{id}/start', params));
    else if (action === 'stop') await call(api.POST('/api/sandboxes/{id}/stop', params));
    else await call(api.POST('/api/sandboxes/{id}/restart', params));
    toasts.show({ kind: 'ok', text: `${machine.name} ${done[action]}` });
  } catch (thrown) {
    toasts.show({ kind: 'error', text: sentence(asProblem(thrown).detail) });
  }
}
