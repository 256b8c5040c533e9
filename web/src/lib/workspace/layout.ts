/**
 * Which tabs are open and how they share the space, for as long as the browser tab lives, and in the account for the next
 * device. Ids and names only: no credential is ever stored, a page that comes back asks for new tickets with a new key.
 * They are one person's: another one who signs in in the same browser tab begins with none.
 */
import { leaves, parseTree, type Tree } from './split';

/** One session, as it is remembered. */
export interface Place {
  readonly machine: string;
  readonly session: string;
  /** What the person called it; empty: the session's own title is shown. */
  readonly name: string;
  /** The session may not exist yet: this page was to open it. */
  readonly fresh: boolean;
}

/** One tab: the panes that share its space, by key, and the one that has the keyboard. */
export interface Group {
  readonly tree: Tree;
  readonly focus: string;
}

/** The tabs, in order, and the pane in front. */
export interface Layout {
  readonly places: readonly Place[];
  readonly groups: readonly Group[];
  readonly active: string | null;
}

/** Where layouts are kept: `sessionStorage`, or nothing where the browser forbids it. */
export type LayoutStore = Pick<Storage, 'getItem' | 'setItem'>;

const KEY = 'rexec.workspace';
/** Sessions remembered: more than a tab strip can show. */
const PLACES_MAX = 64;
const NAME_MAX = 64;
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
export const NOTHING: Layout = { places: [], groups: [], active: null };

/** What a pane is called by: a session is shown once. */
export function keyOf({ machine, session }: Pick<Place, 'machine' | 'session'>): string {
  return `${machine}/${session}`;
}

/** A name as it may be shown and kept. */
export function tidyName(name: string): string {
  return Array.from(name.replaceAll(/\p{C}/gu, '').trim()).slice(0, NAME_MAX).join('');
}

/** The layout kept for this person; null: none was. */
export function loadLayout(store: LayoutStore, user: string): Layout | null {
  try {
    const value: unknown = JSON.parse(store.getItem(KEY) ?? 'null');
    return isRecord(value) && value.user === user ? parseLayout(value) : null;
  } catch {
    return null;
  }
}

/** Keeps a person's layout. */
export function saveLayout(store: LayoutStore, user: string, layout: Layout): void {
  try {
    store.setItem(KEY, JSON.stringify({ user, ...layout }));
  } catch {
    // Full or forbidden: the tabs then live as long as the page.
  }
}

/** A layout as it was kept; what is not one is as nothing. Every place has one pane, every pane a place. */
export function parseLayout(value: unknown): Layout {
  if (!isRecord(value) || !Array.isArray(value.places)) return NOTHING;
  const places = new Map<string, Place>();
  for (const place of value.places.slice(0, PLACES_MAX).map(parsePlace))
    if (place && !places.has(keyOf(place))) places.set(keyOf(place), place);
  const left = new Set(places.keys());
  const kept = Array.isArray(value.groups) ? value.groups.slice(0, PLACES_MAX) : [];
  const groups = kept.map((group) => parseGroup(group, left)).filter((group) => group !== null);
  for (const key of left) groups.push({ tree: key, focus: key });
  const active = typeof value.active === 'string' ? value.active : null;
  return { places: [...places.values()], groups, active };
}

function parseGroup(value: unknown, left: Set<string>): Group | null {
  if (!isRecord(value)) return null;
  const tree = parseTree(value.tree, left);
  if (tree === null) return null;
  const [first = '', ...others] = leaves(tree);
  const focus = others.find((key) => key === value.focus) ?? first;
  return { tree, focus };
}

function parsePlace(value: unknown): Place | null {
  if (!isRecord(value)) return null;
  const { machine, session, name, fresh } = value;
  if (typeof machine !== 'string' || typeof session !== 'string') return null;
  if (!ID.test(machine) || !ID.test(session)) return null;
  return {
    machine,
    session,
    name: typeof name === 'string' ? tidyName(name) : '',
    fresh: fresh === true,
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
