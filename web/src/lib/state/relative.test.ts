import { describe, expect, it } from 'vitest';
import { ago, countdown, roundTrip, span } from './relative';

const S = 1000;
const M = 60 * S;
const H = 60 * M;
const D = 24 * H;

describe('times', () => {
  it.each([
    [0, '0s'],
    [-5 * S, '0s'],
    [59 * S, '59s'],
    [M, '1m'],
    [H - 1, '59m'],
    [3 * H + 12 * M, '3h 12m'],
    [3 * H, '3h'],
    [6 * D + 4 * H + 59 * M, '6d 4h'],
  ])('%d ms are %s', (ms, text) => expect(span(ms)).toBe(text));

  it('say how long ago, and never more than is worth knowing', () => {
    const now = Date.parse('2026-11-22T10:00:00Z');
    const past = (ms: number) => ago(new Date(now - ms).toISOString(), now);
    expect(past(2 * S)).toBe('just now');
    expect(past(-30 * S)).toBe('just now');
    expect(past(42 * S)).toBe('42s ago');
    expect(past(3 * H + 12 * M)).toBe('3h ago');
    expect(past(90 * D)).toMatch(/2026/);
    expect(ago('not a date', now)).toBe('never');
  });

  it('count down to nothing, not below', () => {
    expect(countdown(247_000, 0)).toBe('4:07');
    expect(countdown(500, 0)).toBe('0:01');
    expect(countdown(0, 9000)).toBe('0:00');
  });

  it('show a round trip with the digits that matter', () => {
    expect([0.4, 4.23, 23.8].map(roundTrip)).toEqual(['<1 ms', '4.2 ms', '24 ms']);
  });
});
