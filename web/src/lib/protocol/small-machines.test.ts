// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { Backoff } from './backoff';
import { Heartbeat } from './heartbeat';
import { SizeControl } from './lease';
import {
  BACKOFF_BASE_MS,
  BACKOFF_CAP_LONG_MS,
  BACKOFF_CAP_MS,
  BACKOFF_PATIENCE,
  DEAD_AFTER_MS,
  DOUBT_AFTER_MS,
  DOUBT_AT_LEAST_MS,
  DOUBT_STALE_MS,
  PING_EVERY_MS,
  PING_FIRST_MS,
  STABLE_MS,
} from './limits';
import { forSeeds } from './testing/random';

describe('backoff', () => {
  it('the first failure is retried at once, later ones later and later up to the cap', () => {
    const backoff = new Backoff(() => 1);
    expect(backoff.failed('now', 0).at).toBe(0);
    expect(backoff.failed('now', 0).at).toBe(2 * BACKOFF_BASE_MS);
    for (let i = 0; i < 10; i += 1) backoff.failed('now', 0);
    expect(backoff.failed('now', 0).at).toBe(BACKOFF_CAP_MS);
    for (let i = 0; i < BACKOFF_PATIENCE; i += 1) backoff.failed('now', 0);
    expect(backoff.failed('now', 0).at).toBe(BACKOFF_CAP_LONG_MS);
  });

  it('any draw stays under its ceiling', () => {
    forSeeds(20, (chance) => {
      const backoff = new Backoff(chance.draw);
      for (let n = 0; n < 80; n += 1) {
        const { at } = backoff.failed('backoff', 0);
        expect(at).toBeLessThanOrEqual(Math.min(BACKOFF_CAP_LONG_MS, BACKOFF_BASE_MS * 2 ** n));
      }
    });
  });

  it('only stable uptime forgets', () => {
    const backoff = new Backoff(() => 1);
    backoff.failed('now', 0);
    backoff.succeeded(0);
    expect(backoff.failed('now', STABLE_MS - 1).at).toBeGreaterThan(STABLE_MS);
    backoff.succeeded(10_000);
    expect(backoff.failed('now', 10_000 + STABLE_MS).at).toBe(10_000 + STABLE_MS);
  });

  it('a refused credential is replaced at once, but not in a loop', () => {
    const backoff = new Backoff(() => 1);
    expect(backoff.failed('ticket', 0)).toEqual({ at: 0, ticket: true });
    const again = backoff.failed('ticket', 0);
    expect(again.ticket).toBe(true);
    expect(again.at).toBeGreaterThan(0);
  });

  it('now and then a ticket is asked for, because the machine may be at another broker', () => {
    const backoff = new Backoff(() => 1);
    const asked = Array.from({ length: 8 }, () => backoff.failed('now', 0).ticket);
    expect(asked).toEqual([false, false, false, true, false, false, false, true]);
  });
});

describe('heartbeat', () => {
  it('pings while visible and finds a silent path dead', () => {
    const heart = new Heartbeat();
    heart.start(-PING_FIRST_MS);
    expect(heart.pingDue(-1)).toBe(false);
    expect(heart.pingDue(0)).toBe(true);
    expect(heart.pingDue(PING_EVERY_MS - 1)).toBe(false);
    expect(heart.pingDue(PING_EVERY_MS)).toBe(true);
    expect(heart.isDead(DEAD_AFTER_MS - 1)).toBe(false);
    expect(heart.isDead(DEAD_AFTER_MS)).toBe(true);
  });

  it('anything received is life', () => {
    const heart = new Heartbeat();
    heart.start(-PING_FIRST_MS);
    heart.pingDue(0);
    heart.received(1);
    expect(heart.isDead(DEAD_AFTER_MS)).toBe(false);
  });

  it('what was on its way when the path was doubted is no life, and an answer is', () => {
    const heart = new Heartbeat();
    heart.start(0);
    heart.probe(1_000);
    heart.received(1_000 + DOUBT_STALE_MS - 1);
    expect(heart.isDead(1_000 + DOUBT_AFTER_MS)).toBe(true);
    heart.pong(999, 1_001);
    expect(heart.isDead(1_000 + DOUBT_AFTER_MS)).toBe(true);
    heart.pong(1_000, 1_001);
    expect(heart.isDead(1_000 + DOUBT_AFTER_MS)).toBe(false);
    heart.probe(2_000);
    heart.received(2_000 + DOUBT_STALE_MS);
    expect(heart.isDead(2_000 + DOUBT_AFTER_MS)).toBe(false);
  });

  it('a hidden page neither pings nor gives up, and a page shown again is less patient', () => {
    const heart = new Heartbeat();
    heart.start(0);
    heart.setVisible(false, 0);
    expect(heart.pingDue(60_000)).toBe(false);
    expect(heart.isDead(60_000)).toBe(false);
    heart.setVisible(true, 90_000);
    expect(heart.pingDue(90_000)).toBe(true);
    expect(heart.isDead(90_000 + DOUBT_AFTER_MS)).toBe(true);
  });

  it.each([
    [1, DOUBT_AT_LEAST_MS],
    [200, 1_600],
    [600, DOUBT_AFTER_MS],
  ])('a doubted path whose round trip took %d ms is given %d ms', (rtt, patience) => {
    const heart = new Heartbeat();
    heart.start(0);
    heart.pong(1_000 - rtt, 1_000);
    heart.probe(2_000);
    expect(heart.isDead(2_000 + patience - 1)).toBe(false);
    expect(heart.isDead(2_000 + patience)).toBe(true);
  });
});

describe('size control', () => {
  const desired = { cols: 120, rows: 40 };
  const actual = { cols: 80, rows: 24 };
  const opened = (holder: string | null) => {
    const control = new SizeControl('me', desired);
    control.opened('writer', actual);
    return { control, said: control.lease(holder) };
  };

  it('the holder makes the session as large as its screen, once', () => {
    const { control, said } = opened('me');
    expect(said).toEqual({ type: 'Resize', ...desired });
    expect(control.setDesired(desired)).toBeNull();
    control.resized(desired);
    expect(control.setDesired(actual)).toEqual({ type: 'Resize', ...actual });
  });

  it('another holder is left alone until it is asked for', () => {
    const { control, said } = opened('other');
    expect(said).toBeNull();
    expect(control.setDesired({ cols: 10, rows: 10 })).toBeNull();
    expect(control.take()).toEqual({ type: 'TakeLease', cols: 10, rows: 10 });
  });

  it('what nobody holds is claimed, once', () => {
    const { control, said } = opened(null);
    expect(said).toEqual({ type: 'TakeLease', ...desired });
    expect(control.lease(null)).toBeNull();
  });

  it('one who may only look claims nothing', () => {
    const control = new SizeControl('me', desired);
    control.opened('view', actual);
    expect(control.lease(null)).toBeNull();
    expect(control.take()).toBeNull();
  });
});
