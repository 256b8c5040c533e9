/** Sandboxes that are about to be deleted: told in time, with the remedy at hand. */
import { api, call } from '$lib/api/client';
import { router } from '$lib/router/router.svelte';
import { workspacePath } from '$lib/router/routes';
import { clock } from '$lib/state/clock.svelte';
import { machines } from '$lib/state/machines.svelte';
import { tell } from '$lib/state/notices.svelte';
import { toasts } from '$lib/state/toasts.svelte';

/** So long before its end a sandbox is said to expire, ms. */
export const SOON_MS = 10 * 60_000;
/** What more time gives, s. */
const MORE_S = 3_600;

/** Ids and ends that were told, so that each is told once. */
const told = new Set<string>();

/** The end of a sandbox, if it is near; ms since the epoch. */
export function endsSoon(id: string, now = clock.now): number | null {
  const sandbox = machines.sandboxes.get(id);
  if (!sandbox?.expires_at || sandbox.desired === 'deleted') return null;
  const end = Date.parse(sandbox.expires_at);
  return end - now <= SOON_MS && end > now ? end : null;
}

/** Tells of every sandbox that has come near its end. */
export function tellOfExpiry(now: number): void {
  for (const { id, name, expires_at } of machines.sandboxes.values()) {
    const key = `${id} ${expires_at}`;
    const end = endsSoon(id, now);
    if (end === null || told.has(key)) continue;
    told.add(key);
    const minutes = Math.max(1, Math.round((end - now) / 60_000));
    tell({
      text: `${name} is deleted in ${minutes} min`,
      show: () => router.navigate(workspacePath(id)),
    });
  }
}

/** Gives a sandbox more time. */
export async function extend(id: string, name: string): Promise<void> {
  const params = { path: { id } };
  try {
    await call(api.PATCH('/api/sandboxes/{id}', { params, body: { lifetime_s: MORE_S } }));
    toasts.show({ kind: 'ok', text: `${name} stays for another hour` });
  } catch (thrown) {
    toasts.failed(`${name} has no more time`, thrown);
  }
}
