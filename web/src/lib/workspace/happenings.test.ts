import { afterEach, describe, expect, it, vi } from 'vitest';
import { machines } from '$lib/state/machines.svelte';
import { sampleMachine } from '$lib/state/sample';
import { settings } from '$lib/state/settings.svelte';
import { toasts } from '$lib/state/toasts.svelte';
import { finished, rang } from './happenings';
import type { SessionTab } from './tab.svelte';

const tab = (more: Partial<SessionTab> = {}) =>
  ({ machine: 'm', label: 'make', shown: false, ...more }) as SessionTab;
const told = () => toasts.list.map(({ text }) => text);

describe('what is told of terminals that nobody looks at', () => {
  afterEach(() => {
    for (const { id } of [...toasts.list]) toasts.dismiss(id);
    settings.set('device', 'bell', undefined);
    settings.set('device', 'finishedAfter', undefined);
    machines.byId.clear();
  });

  it('a long command that ended, with what it ended with', () => {
    machines.byId.set('m', sampleMachine({ id: 'm', name: 'box' }));
    finished(tab(), 0, 12, vi.fn());
    finished(tab(), 2, 200, vi.fn());
    finished(tab(), null, 4_000, vi.fn());
    expect(told()).toEqual([
      'box: make succeeded after 12 s',
      'box: make failed with exit code 2 after 3 min 20 s',
      'box: make ended after 1 h 6 min',
    ]);
  });

  it('not a short one, and none where that is switched off', () => {
    finished(tab(), 0, 9, vi.fn());
    settings.set('device', 'finishedAfter', 0);
    finished(tab(), 0, 9_000, vi.fn());
    settings.set('device', 'bell', 'off');
    rang(tab(), vi.fn());
    expect(told()).toEqual([]);
  });

  it('out_04 the machine comes before what a program calls itself, and that is cut', () => {
    machines.byId.set('m', sampleMachine({ id: 'm', name: 'box' }));
    rang(tab({ label: `bank.example: sign in ${'x'.repeat(500)}` }), vi.fn());
    expect(told()[0]).toMatch(/^box: bank\.example/);
    expect(told()[0]?.length).toBeLessThan(160);
  });
});
