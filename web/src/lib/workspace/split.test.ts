// @vitest-environment node
import { describe, expect, it } from 'vitest';
import {
  divided,
  dividers,
  leaves,
  neighbour,
  parseTree,
  rects,
  replaced,
  shared,
  type Tree,
  without,
} from './split';

/** a | (b over c) */
const nested = divided(divided('a', 'a', 'b', 'row'), 'b', 'c', 'column');

describe('split', () => {
  it('divides a pane beside and below, before and behind', () => {
    expect(leaves(nested)).toEqual(['a', 'b', 'c']);
    expect(leaves(divided('a', 'a', 'b', 'row', true))).toEqual(['b', 'a']);
    expect(Object.fromEntries(rects(nested))).toEqual({
      a: { left: 0, top: 0, width: 50, height: 100 },
      b: { left: 50, top: 0, width: 50, height: 50 },
      c: { left: 50, top: 50, width: 50, height: 50 },
    });
  });

  it('a pane that goes leaves its space to its sibling', () => {
    expect(without(nested, 'b')).toEqual(divided('a', 'a', 'c', 'row'));
    expect(without(nested, 'a')).toEqual(divided('b', 'b', 'c', 'column'));
    expect(without('a', 'a')).toBeNull();
    expect(without(nested, 'x')).toEqual(nested);
  });

  it('another pane takes the place of one', () => {
    expect(leaves(replaced(nested, 'b', 'x'))).toEqual(['a', 'x', 'c']);
  });

  it('a divider moves its own branch, within bounds', () => {
    expect(dividers(nested).map(({ path, along }) => [path, along])).toEqual([
      ['', 'row'],
      ['1', 'column'],
    ]);
    const moved = shared(nested, '1', 0.25);
    expect(rects(moved).get('b')?.height).toBe(25);
    expect(rects(moved).get('a')?.width).toBe(50);
    expect(rects(shared(nested, '', 0.001)).get('a')?.width).toBe(10);
    expect(rects(shared(nested, '', 7)).get('a')?.width).toBe(90);
    expect(shared(nested, '0110', 0.3)).toEqual(nested);
  });

  it('the neighbour is the one that touches most', () => {
    expect(neighbour(nested, 'b', 'left')).toBe('a');
    expect(neighbour(nested, 'b', 'down')).toBe('c');
    expect(neighbour(nested, 'c', 'up')).toBe('b');
    expect(neighbour(nested, 'a', 'left')).toBeNull();
    expect(neighbour(shared(nested, '1', 0.3), 'a', 'right')).toBe('c');
  });

  it('comes back as it was kept', () => {
    const kept = JSON.parse(JSON.stringify(shared(nested, '', 0.3)));
    expect(parseTree(kept, new Set(['a', 'b', 'c']))).toEqual(shared(nested, '', 0.3));
  });

  it('what is gone, doubled or no tree is left out', () => {
    expect(parseTree(nested, new Set(['a', 'c']))).toEqual(divided('a', 'a', 'c', 'row'));
    const twice = divided('a', 'a', 'a', 'row');
    expect(parseTree(twice, new Set(['a']))).toBe('a');
    for (const hostile of [null, 7, [], {}, { first: 'a', second: { first: 1 } }, 'unknown'])
      expect([null, 'a']).toContainEqual(parseTree(hostile, new Set(['a'])));
    const odd = { along: 'up', share: Number.NaN, first: 'a', second: 'b' };
    expect(parseTree(odd, new Set(['a', 'b']))).toEqual(divided('a', 'a', 'b', 'row'));
  });

  it('a tree too deep is cut, not followed', () => {
    let deep: Tree = 'k0';
    for (let i = 1; i < 5_000; i += 1)
      deep = { along: 'row', share: 0.5, first: `k${i}`, second: deep };
    const known = new Set(Array.from({ length: 5_000 }, (_, i) => `k${i}`));
    const parsed = parseTree(deep, known);
    expect(parsed && leaves(parsed).length).toBeLessThanOrEqual(16);
  });
});
