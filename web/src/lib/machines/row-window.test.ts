import { describe, expect, it } from 'vitest';
import { rowWindow } from './row-window';

const view = { total: 1000, height: 50, top: 0, viewport: 900 };

describe('row window', () => {
  it('a short list is made whole', () => {
    expect(rowWindow({ ...view, total: 60, top: 99_999 })).toEqual({
      from: 0,
      to: 60,
      before: 0,
      after: 0,
    });
  });

  it('of a long list only the surroundings of the screen are made', () => {
    const { from, to } = rowWindow({ ...view, top: 10_000 });
    expect(from).toBe(188);
    expect(to).toBe(230);
  });

  it('the height of the whole never changes while scrolling, and the screen is always covered', () => {
    for (let top = -500; top < 50_500; top += 37) {
      const { from, to, before, after } = rowWindow({ ...view, top });
      expect(before + (to - from) * 50 + after).toBe(50_000);
      const [first, last] = [Math.max(0, top), Math.min(50_000, top + 900)];
      if (first < last) {
        expect(from * 50).toBeLessThanOrEqual(first);
        expect(to * 50).toBeGreaterThanOrEqual(last);
      }
    }
  });
});
