// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { keyOf, type LayoutStore, loadLayout, parseLayout, saveLayout, tidyName } from './layout';

const MACHINE = '01920000-0000-7000-8000-000000000001';
const SESSION = '01920000-0000-7000-8000-000000000002';
const place = { machine: MACHINE, session: SESSION, name: 'build', fresh: true };

function memory(value: string | null = null): LayoutStore & { value: string | null } {
  return {
    value,
    getItem() {
      return this.value;
    },
    setItem(_key, next) {
      this.value = next;
    },
  };
}

describe('layout', () => {
  it('comes back as it was kept, and holds no credential', () => {
    const store = memory();
    const key = keyOf(place);
    const layout = { places: [place], groups: [{ tree: key, focus: key }], active: key };
    saveLayout(store, 'me', layout);
    expect(loadLayout(store, 'me')).toEqual(layout);
    expect(Object.keys(JSON.parse(store.value ?? '').places[0])).toEqual([
      'machine',
      'session',
      'name',
      'fresh',
    ]);
  });

  it.each([
    ['nothing', null],
    ['no JSON', '{'],
    ['another shape', '{"tabs":[]}'],
    ['places that are none', '{"user":"me","places":[1,{},null]}'],
    ['ids that are none', JSON.stringify({ user: 'me', places: [{ ...place, session: '../x' }] })],
  ])('%s is as no layout', (_what, value) => {
    expect(loadLayout(memory(value), 'me')?.places ?? []).toEqual([]);
  });

  it('what is kept of a split is a split of panes that are there, and every place has a tab', () => {
    const other = { ...place, session: MACHINE };
    const [a, b] = [keyOf(place), keyOf(other)];
    const tree = { along: 'row', share: 0.4, first: a, second: b };
    const split = parseLayout({ places: [place, other], groups: [{ tree, focus: b }], active: a });
    expect(split.groups).toEqual([{ tree, focus: b }]);
    const one = parseLayout({ places: [other], groups: [{ tree, focus: a }], active: a });
    expect(one.groups).toEqual([{ tree: b, focus: b }]);
    const before = parseLayout({ places: [place, other], active: a });
    expect(before.groups.map(({ focus }) => focus)).toEqual([a, b]);
  });

  it("is nobody else's", () => {
    const store = memory();
    saveLayout(store, 'me', { places: [place], groups: [], active: null });
    expect(loadLayout(store, 'another')).toBeNull();
  });

  it('a store that refuses costs nothing but the memory', () => {
    const store: LayoutStore = {
      getItem: () => {
        throw new Error('forbidden');
      },
      setItem: () => {
        throw new Error('full');
      },
    };
    expect(loadLayout(store, 'me')).toBeNull();
    expect(() => saveLayout(store, 'me', { places: [], groups: [], active: null })).not.toThrow();
  });

  it('a name loses controls, edges and length', () => {
    expect(tidyName(`  a\u0007b\u202e${'c'.repeat(100)}`)).toBe(`ab${'c'.repeat(62)}`);
  });
});
