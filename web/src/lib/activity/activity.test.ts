import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Activity } from '$lib/api/types';
import { ActivityFeed } from '$lib/state/activity.svelte';
import { lineOf } from './words';

const entry = (seq: number, more: Partial<Activity> = {}): Activity => ({
  seq,
  at: '2026-11-22T10:00:00Z',
  action: 'machine.remove',
  actor: 'person',
  actor_name: 'Ada',
  own: false,
  target: 'x',
  refused: false,
  ...more,
});

describe('activity', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it('says who did what', () => {
    const said = (more: Partial<Activity>) => {
      const { who, did, what } = lineOf(entry(1, more));
      return `${who} ${did} ${what}`.trim();
    };
    expect(said({ target_name: 'box' })).toBe('Ada removed box');
    expect(said({ own: true })).toBe('You removed a machine');
    expect(
      said({ action: 'machine.enrol', actor: 'agent', actor_name: 'box', target_name: 'box' }),
    ).toBe('box joined');
    expect(
      said({ action: 'sandbox.stop', actor: 'control', actor_name: '', target_name: 'calm' }),
    ).toBe('Rexec stopped calm');
    expect(said({ action: 'thing.new_verb' })).toBe('Ada thing new verb');
  });

  it('is asked for once for a burst, keeps what is older, and only while somebody looks', async () => {
    let newest = 3;
    const asked = vi.fn(async (request: Request) => {
      const before = new URL(request.url).searchParams.get('before');
      const from = before === null ? newest : Number(before) - 1;
      const page = [from, from - 1].filter((seq) => seq > 0).map((seq) => entry(seq));
      return new Response(JSON.stringify(page), {
        headers: { 'content-type': 'application/json' },
      });
    });
    vi.stubGlobal('fetch', asked);
    const feed = new ActivityFeed();
    feed.changed();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(asked).not.toHaveBeenCalled();
    const end = feed.watch();
    await vi.advanceTimersByTimeAsync(10);
    await feed.older();
    expect([feed.list.map(({ seq }) => seq), feed.more]).toEqual([[3, 2, 1], true]);
    newest = 4;
    for (let change = 0; change < 5; change += 1) feed.changed();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(feed.list.map(({ seq }) => seq)).toEqual([4, 3, 2, 1]);
    expect(asked).toHaveBeenCalledTimes(3);
    end();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(asked).toHaveBeenCalledTimes(3);
  });
});
