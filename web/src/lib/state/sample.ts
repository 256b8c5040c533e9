/** A machine for tests, with what a test cares about laid over it. */
import type { Machine } from '$lib/api/types';

export function sampleMachine(over: Partial<Machine> & { id: string }): Machine {
  return {
    name: over.id,
    kind: 'host',
    os: 'linux',
    arch: 'x86_64',
    hostname: `${over.id}.local`,
    agent_version: '0.1.0',
    tags: [],
    online: true,
    created_at: '2026-11-22T08:00:00Z',
    last_seen_at: '2026-11-22T10:00:00Z',
    sessions: [],
    ...over,
  };
}
