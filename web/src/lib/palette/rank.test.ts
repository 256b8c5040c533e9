// @vitest-environment node
import { describe, expect, it, vi } from 'vitest';
import type { Command } from '$lib/state/commands.svelte';
import { sections } from './rank';

const command = (label: string, more: Partial<Command> = {}): Command => ({
  id: label,
  label,
  group: 'Actions',
  icon: 'terminal',
  run: vi.fn(),
  ...more,
});
const all = [
  command('build-01', { group: 'Machines', words: 'linux ci' }),
  command('workbench', { group: 'Machines' }),
  command('Dark theme', { group: 'Settings' }),
  command('Sign out'),
];
const labels = (query: string, recent: Command[] = []) =>
  sections(all, recent, query).map(({ title, commands }) => [
    title,
    commands.map(({ label }) => label),
  ]);

describe('palette', () => {
  it('without a query shows recent ones once, then everything by heading', () => {
    expect(labels('', [all[2] as Command])).toEqual([
      ['Recent', ['Dark theme']],
      ['Machines', ['build-01', 'workbench']],
      ['Actions', ['Sign out']],
    ]);
  });

  it('finds by some letters in order, by words beside the label, and names the best first', () => {
    expect(labels('bld')).toEqual([['Best matches', ['build-01']]]);
    expect(labels('ci')[0]?.[1]).toContain('build-01');
    expect(labels('sign')[0]?.[1]?.[0]).toBe('Sign out');
    expect(labels('zzz')).toEqual([]);
  });
});
