/** Which machines a list shows and in what order. Pure. */
import type { Machine } from '$lib/api/types';

export type StatusFilter = 'all' | 'online' | 'offline';
export type SortKey = 'name' | 'seen' | 'rtt';
export type GroupKey = 'none' | 'kind' | 'status' | 'tag';

export interface Filter {
  /** Words that must all occur in name, host name, system, tags or kind. */
  query: string;
  status: StatusFilter;
  tag: string | undefined;
  kind: Machine['kind'] | undefined;
  sort: SortKey;
  group: GroupKey;
}

/** A line of the list: a heading, or a machine under it. */
export type Entry =
  | { readonly heading: string; readonly count: number }
  | { readonly machine: Machine };

/** One collator for all: making one per comparison costs more than the rest of the sort. */
const names = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

/** Machines that pass the filter: online ones first, then by the chosen key, then by name. */
export function filtered(machines: Iterable<Machine>, filter: Filter): Machine[] {
  const words = filter.query.toLowerCase().split(/\s+/).filter(Boolean);
  return [...machines]
    .filter((machine) => passes(machine, words, filter))
    .sort((a, b) => Number(b.online) - Number(a.online) || by(filter.sort, a, b) || byName(a, b));
}

/** The same machines under headings, in their order; without a key there are none. A machine with several tags is under the first. */
export function grouped(list: readonly Machine[], key: GroupKey): Entry[] {
  if (key === 'none') return list.map((machine) => ({ machine }));
  const groups = new Map<string, Machine[]>();
  for (const machine of list) {
    const heading = headingOf(machine, key);
    const group = groups.get(heading);
    if (group) group.push(machine);
    else groups.set(heading, [machine]);
  }
  const last = (heading: string) => Number(heading === UNTAGGED);
  return [...groups]
    .sort(([a], [b]) => last(a) - last(b) || (key === 'tag' ? names.compare(a, b) : 0))
    .flatMap(([heading, group]): Entry[] => [
      { heading, count: group.length },
      ...group.map((machine) => ({ machine })),
    ]);
}

const UNTAGGED = 'No tag';

function headingOf(machine: Machine, key: Exclude<GroupKey, 'none'>): string {
  if (key === 'kind') return machine.kind === 'sandbox' ? 'Sandboxes' : 'Hosts';
  if (key === 'status') return machine.online ? 'Online' : 'Offline';
  return machine.tags[0] ?? UNTAGGED;
}

/** Tags in use, most used first. */
export function tagsOf(machines: Iterable<Machine>): string[] {
  const uses = new Map<string, number>();
  for (const machine of machines) {
    for (const tag of machine.tags) uses.set(tag, (uses.get(tag) ?? 0) + 1);
  }
  return [...uses].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([tag]) => tag);
}

/** Tags as typed, separated by commas or blanks, without repeats. */
export function parseTags(typed: string): string[] {
  return [...new Set(typed.split(/[\s,]+/).filter(Boolean))];
}

function passes(machine: Machine, words: string[], filter: Filter): boolean {
  if (filter.status !== 'all' && machine.online !== (filter.status === 'online')) return false;
  if (filter.tag !== undefined && !machine.tags.includes(filter.tag)) return false;
  if (filter.kind !== undefined && machine.kind !== filter.kind) return false;
  if (words.length === 0) return true;
  const text = [
    machine.name,
    machine.hostname,
    machine.os,
    machine.arch,
    machine.kind,
    ...machine.tags,
  ]
    .join(' ')
    .toLowerCase();
  return words.every((word) => text.includes(word));
}

function by(key: SortKey, a: Machine, b: Machine): number {
  if (key === 'rtt') return (a.rtt_ms ?? Infinity) - (b.rtt_ms ?? Infinity) || 0;
  if (key === 'seen') return seen(b) - seen(a);
  return 0;
}

function seen(machine: Machine): number {
  return Date.parse((machine.online && machine.online_since) || machine.last_seen_at || '') || 0;
}

function byName(a: Machine, b: Machine): number {
  return names.compare(a.name, b.name);
}
