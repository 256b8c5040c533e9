/** Which machines a list shows and in what order. Pure. */
import type { Machine } from '$lib/api/types';

export type StatusFilter = 'all' | 'online' | 'offline';
export type SortKey = 'name' | 'seen' | 'rtt';

export interface Filter {
  /** Words that must all occur in name, host name, system, tags or kind. */
  query: string;
  status: StatusFilter;
  tag: string | undefined;
  sort: SortKey;
}

/** One collator for all: making one per comparison costs more than the rest of the sort. */
const names = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

/** Machines that pass the filter: online ones first, then by the chosen key, then by name. */
export function filtered(machines: Iterable<Machine>, filter: Filter): Machine[] {
  const words = filter.query.toLowerCase().split(/\s+/).filter(Boolean);
  return [...machines]
    .filter((machine) => passes(machine, words, filter))
    .sort((a, b) => Number(b.online) - Number(a.online) || by(filter.sort, a, b) || byName(a, b));
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
