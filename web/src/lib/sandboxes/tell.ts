/** Start, stop, restart: asked for here, done by control; the row shows how far it is. */
import { api, call } from '$lib/api/client';
import { asProblem } from '$lib/api/problem';
import type { Machine } from '$lib/api/types';
import { toasts } from '$lib/state/toasts.svelte';
import { sentence } from '$lib/ui/sentence';

/** Makes another one that begins as this one is now. */
export async function fork(machine: Machine): Promise<void> {
  const params = { path: { id: machine.id } };
  try {
    const made = await call(
      api.POST('/api/sandboxes/{id}/fork', { params, body: { id: crypto.randomUUID?.() ?? null } }),
    );
    toasts.show({ kind: 'ok', text: `${made.name} begins as ${machine.name} is now` });
  } catch (thrown) {
    toasts.failed(`${machine.name} was not forked`, thrown);
  }
}

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
