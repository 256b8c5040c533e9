/**
 * Which tabs are open, for as long as the browser tab lives. Ids and names only: no credential is ever
 * stored, a page that comes back asks for new tickets with a new key. They are one person's: another one who signs in in
 * the same browser tab begins with none.
 */

/** One tab, as it is remembered. */
export interface Place {
  readonly machine: string;
  readonly session: string;
  /** What the person called it; empty: the session's own title is shown. */
  readonly name: string;
  /** The session may not exist yet: this page was to open it. */
  readonly fresh: boolean;
}

/** The tabs and the one in front. */
export interface Layout {
  readonly places: readonly Place[];
  readonly active: string | null;
}

/** Where layouts are kept: `sessionStorage`, or nothing where the browser forbids it. */
export type LayoutStore = Pick<Storage, 'getItem' | 'setItem'>;

const KEY = 'rexec.workspace';
/** Tabs remembered: more than a tab strip can show. */
const PLACES_MAX = 64;
const NAME_MAX = 64;
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const NOTHING: Layout = { places: [], active: null };

/** What a tab is called by: a session is shown once. */
export function keyOf({ machine, session }: Pick<Place, 'machine' | 'session'>): string {
  return `${machine}/${session}`;
}

/** A name as it may be shown and kept. */
export function tidyName(name: string): string {
  return Array.from(name.replaceAll(/\p{C}/gu, '').trim()).slice(0, NAME_MAX).join('');
}

/** The layout kept for this person; what is not one is as nothing. */
export function loadLayout(store: LayoutStore, user: string): Layout {
  try {
    return parse(JSON.parse(store.getItem(KEY) ?? 'null'), user);
  } catch {
    return NOTHING;
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

function parse(value: unknown, user: string): Layout {
  if (!isRecord(value) || value.user !== user || !Array.isArray(value.places)) return NOTHING;
  const places = value.places.map(parsePlace).filter((place) => place !== null);
  const active = value.active;
  return {
    places: places.slice(0, PLACES_MAX),
    active: typeof active === 'string' ? active : null,
  };
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
