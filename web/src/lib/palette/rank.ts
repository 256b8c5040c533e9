/** Which commands a query finds, best first. Pure. */
import fuzzysort from 'fuzzysort';
import { type Command, GROUPS, type Group } from '$lib/state/commands.svelte';

/** More than this nobody reads; the rest is found by typing on. */
export const SHOWN_MAX = 60;

export interface Section {
  readonly title: Group | 'Recent' | 'Best matches';
  readonly commands: readonly Command[];
}

/** Without a query: recent ones, then everything by heading. With one: all that match, best first. */
export function sections(
  all: readonly Command[],
  recent: readonly Command[],
  query: string,
): Section[] {
  const asked = query.trim();
  if (asked !== '') return found(all, recent, asked);
  const known = new Set(recent.map(({ id }) => id));
  const groups = GROUPS.map((title): Section => {
    const commands = all.filter(({ group, id }) => group === title && !known.has(id));
    return { title, commands: commands.slice(0, SHOWN_MAX / 4) };
  });
  return [{ title: 'Recent' as const, commands: recent }, ...groups].filter(
    ({ commands }) => commands.length > 0,
  );
}

function found(all: readonly Command[], recent: readonly Command[], query: string): Section[] {
  const lately = new Set(recent.map(({ id }) => id));
  const scored = all
    .map((command) => ({
      command,
      score: scoreOf(command, query) * (lately.has(command.id) ? 1.1 : 1),
    }))
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score);
  const commands = scored.slice(0, SHOWN_MAX).map(({ command }) => command);
  return commands.length > 0 ? [{ title: 'Best matches', commands }] : [];
}

/** The label counts whole, the words beside it half. */
function scoreOf({ label, note, words, group }: Command, query: string): number {
  const aside = [note, words, group].filter((each) => each !== undefined);
  const all = `${label} ${aside.join(' ')}`;
  return Math.max(match(query, label), match(query, all) / 2);
}

function match(query: string, text: string): number {
  return fuzzysort.single(query, text)?.score ?? 0;
}
