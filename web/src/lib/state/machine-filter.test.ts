import { describe, expect, it } from 'vitest';
import { type Filter, filtered, grouped, parseTags, tagsOf } from './machine-filter';
import { sampleMachine } from './sample';

const all: Filter = {
  query: '',
  status: 'all',
  tag: undefined,
  kind: undefined,
  sort: 'name',
  group: 'none',
};
const fleet = [
  sampleMachine({ id: 'build-10', tags: ['ci'], rtt_ms: 30 }),
  sampleMachine({
    id: 'build-2',
    tags: ['ci', 'gpu'],
    rtt_ms: 5,
    online_since: '2026-11-22T09:59:00Z',
  }),
  sampleMachine({ id: 'attic', online: false, os: 'macos', last_seen_at: '2026-11-01T00:00:00Z' }),
  sampleMachine({ id: 'zebra', online: false, last_seen_at: '2026-11-20T00:00:00Z' }),
];
const ids = (filter: Partial<Filter>) =>
  filtered(fleet, { ...all, ...filter }).map((each) => each.id);

describe('machine filter', () => {
  it('shows what is online first, numbers in names counted as numbers', () => {
    expect(ids({})).toEqual(['build-2', 'build-10', 'attic', 'zebra']);
  });

  it('stands under headings, those without a tag last', () => {
    const said = (key: Filter['group']) =>
      grouped(filtered(fleet, all), key).map((entry) =>
        'heading' in entry ? `${entry.heading} ${entry.count}` : entry.machine.id,
      );
    expect(said('none')).toEqual(ids({}));
    expect(said('status')).toEqual([
      'Online 2',
      'build-2',
      'build-10',
      'Offline 2',
      'attic',
      'zebra',
    ]);
    expect(said('tag')).toEqual(['ci 2', 'build-2', 'build-10', 'No tag 2', 'attic', 'zebra']);
    expect(said('kind')[0]).toBe('Hosts 4');
  });

  it('is of one kind', () => {
    expect(ids({ kind: 'sandbox' })).toEqual([]);
    expect(ids({ kind: 'host' })).toHaveLength(4);
  });

  it('finds all words anywhere, in any case', () => {
    expect(ids({ query: 'BUILD gpu' })).toEqual(['build-2']);
    expect(ids({ query: 'macos' })).toEqual(['attic']);
    expect(ids({ query: 'nothing like it' })).toEqual([]);
  });

  it('narrows by status and tag', () => {
    expect(ids({ status: 'offline' })).toEqual(['attic', 'zebra']);
    expect(ids({ tag: 'ci' })).toEqual(['build-2', 'build-10']);
    expect(ids({ tag: 'gone' })).toEqual([]);
  });

  it('sorts by round trip with the unmeasured last, and by when it was seen', () => {
    expect(ids({ sort: 'rtt' })).toEqual(['build-2', 'build-10', 'attic', 'zebra']);
    expect(ids({ sort: 'seen', status: 'offline' })).toEqual(['zebra', 'attic']);
  });

  it('counts tags by use', () => {
    expect(tagsOf(fleet)).toEqual(['ci', 'gpu']);
  });

  it('reads tags as people type them', () => {
    expect(parseTags(' home, gpu  staging,,home ')).toEqual(['home', 'gpu', 'staging']);
    expect(parseTags('  ')).toEqual([]);
  });
});
