import { describe, expect, test } from 'vitest';
import { column, inWords, linePath, newest, percent, type Series, size } from './usage';

const series: Series = {
  cpuMax: 2000,
  memoryMax: 16 * 1024 * 1024,
  diskMax: 250 * 1024,
  points: [[0, 0, 0, 0, 0], null, [500, 3_250_000, 12, 3000, 40_960]],
};

describe('a line', () => {
  test('ends at the right and has gaps', () => {
    expect(linePath([0, 50, 100], 100, { width: 20, height: 12, slots: 3 })).toBe(
      'M0.0 11.0h.1L10.0 6.0L20.0 1.0',
    );
    expect(linePath([0, null, 100], 100, { width: 20, height: 12, slots: 3 })).toBe(
      'M0.0 11.0h.1M20.0 1.0h.1',
    );
    expect(linePath([100], 100, { width: 20, height: 12, slots: 3 })).toBe('M20.0 1.0h.1');
    expect(linePath([], 100, { width: 20, height: 12 })).toBe('');
  });

  test('never leaves its box', () => {
    for (const max of [0, 1, 100]) {
      const numbers =
        linePath([500, 0, 3], max, { width: 20, height: 12, slots: 3 }).match(/[\d.]+ ([\d.]+)/g) ??
        [];
      for (const pair of numbers) {
        const y = Number(pair.split(' ')[1]);
        expect(y).toBeGreaterThanOrEqual(1);
        expect(y).toBeLessThanOrEqual(11);
      }
    }
  });
});

describe('words', () => {
  test('say everything once', () => {
    expect(inWords(series)).toBe(
      'CPU 25 % of 2 · memory 3.1 GB of 16 GB · in 12 KB/s, out 2.9 MB/s · disk 40 GB of 250 GB',
    );
    expect(inWords({ ...series, diskMax: 0 })).not.toContain('disk');
    expect(inWords({ ...series, points: [null] })).toBe('Nothing told lately');
    expect([size(0), size(999), size(1000), size(10 * 1024 * 1024)]).toEqual([
      '0 KB',
      '999 KB',
      '1.0 MB',
      '10 GB',
    ]);
  });

  test('columns, percents and what is newest', () => {
    expect(column(series, 0)).toEqual([0, null, 500]);
    expect(percent(3, 2)).toBe(100);
    expect(percent(undefined, 2)).toBeUndefined();
    expect(percent(1, 0)).toBeUndefined();
    expect(newest({ ...series, points: [[1], null] })).toBeUndefined();
  });
});
