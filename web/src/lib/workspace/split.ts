/**
 * How the panes of one tab share its space: a tree whose leaves are panes, by key, and whose branches divide their space
 * in two. Pure; every operation returns a new tree.
 */

/** `row`: beside each other; `column`: one above the other. */
export type Along = 'row' | 'column';

/** A pane, or two parts. */
export type Tree = string | Branch;

export interface Branch {
  readonly along: Along;
  /** What the first part takes of the space, 0 to 1. */
  readonly share: number;
  readonly first: Tree;
  readonly second: Tree;
}

/** A part of the space, in percent of the whole. */
export interface Rect {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** The line between two parts. */
export interface Divider {
  /** Which turns lead to its branch: `0` first, `1` second. */
  readonly path: string;
  readonly along: Along;
  readonly share: number;
  /** The space of its branch. */
  readonly space: Rect;
}

/** Which way from a pane. */
export type Way = 'left' | 'right' | 'up' | 'down';

/** Panes in one tab: more would be too small to read. */
export const PANES_MAX = 16;
/** Neither part takes less than this of the space. */
export const SHARE_MIN = 0.1;

const WHOLE: Rect = { left: 0, top: 0, width: 100, height: 100 };

/** The panes, in reading order. */
export function leaves(tree: Tree): string[] {
  return typeof tree === 'string' ? [tree] : [...leaves(tree.first), ...leaves(tree.second)];
}

/** Whether a pane is in it. */
export function holds(tree: Tree, key: string): boolean {
  return leaves(tree).includes(key);
}

/** Divides the space of the pane `at`: it keeps one half, `key` gets the other, `before` or behind it. */
export function divided(tree: Tree, at: string, key: string, along: Along, before = false): Tree {
  const [first, second] = before ? [key, at] : [at, key];
  return mapped(tree, at, { along, share: 0.5, first, second });
}

/** Another pane in the place of one. */
export function replaced(tree: Tree, key: string, by: string): Tree {
  return mapped(tree, key, by);
}

/** Without a pane, whose space goes to its sibling; null: it was the only one. */
export function without(tree: Tree, key: string): Tree | null {
  if (typeof tree === 'string') return tree === key ? null : tree;
  const first = without(tree.first, key);
  const second = without(tree.second, key);
  if (first === null || second === null) return first ?? second;
  return { ...tree, first, second };
}

/** With another share at the branch that `path` leads to. */
export function shared(tree: Tree, path: string, share: number): Tree {
  if (typeof tree === 'string') return tree;
  if (path === '') return { ...tree, share: bounded(share) };
  const rest = path.slice(1);
  return path[0] === '0'
    ? { ...tree, first: shared(tree.first, rest, share) }
    : { ...tree, second: shared(tree.second, rest, share) };
}

/** Where every pane is. */
export function rects(tree: Tree): Map<string, Rect> {
  const found = new Map<string, Rect>();
  walk(tree, WHOLE, '', (node, space) => {
    if (typeof node === 'string') found.set(node, space);
  });
  return found;
}

/** The lines between the parts. */
export function dividers(tree: Tree): Divider[] {
  const found: Divider[] = [];
  walk(tree, WHOLE, '', (node, space, path) => {
    if (typeof node !== 'string') found.push({ path, along: node.along, share: node.share, space });
  });
  return found;
}

/** The pane next to one, where they touch most; null: there is the edge. */
export function neighbour(tree: Tree, key: string, way: Way): string | null {
  const places = rects(tree);
  const from = places.get(key);
  if (!from) return null;
  let best: { key: string; touch: number } | null = null;
  for (const [other, rect] of places) {
    const touch = other === key ? 0 : touching(from, rect, way);
    if (touch > (best?.touch ?? 0)) best = { key: other, touch };
  }
  return best?.key ?? null;
}

/** A tree as it was kept; null: it is none, or names a pane that `known` lacks or that came before. Takes its keys out of `known`. */
export function parseTree(value: unknown, known: Set<string>, depth = 0): Tree | null {
  if (typeof value === 'string') return known.delete(value) ? value : null;
  if (depth >= PANES_MAX || typeof value !== 'object' || value === null) return null;
  const { along, share, first, second } = value as Record<string, unknown>;
  const [one, two] = [parseTree(first, known, depth + 1), parseTree(second, known, depth + 1)];
  if (one === null || two === null) return one ?? two;
  return {
    along: along === 'column' ? 'column' : 'row',
    share: bounded(typeof share === 'number' && Number.isFinite(share) ? share : 0.5),
    first: one,
    second: two,
  };
}

function bounded(share: number): number {
  return Math.min(1 - SHARE_MIN, Math.max(SHARE_MIN, share));
}

function mapped(tree: Tree, key: string, by: Tree): Tree {
  if (typeof tree === 'string') return tree === key ? by : tree;
  return { ...tree, first: mapped(tree.first, key, by), second: mapped(tree.second, key, by) };
}

function walk(
  tree: Tree,
  space: Rect,
  path: string,
  visit: (node: Tree, space: Rect, path: string) => void,
): void {
  visit(tree, space, path);
  if (typeof tree === 'string') return;
  const { left, top, width, height } = space;
  if (tree.along === 'row') {
    const cut = width * tree.share;
    walk(tree.first, { ...space, width: cut }, `${path}0`, visit);
    walk(tree.second, { ...space, left: left + cut, width: width - cut }, `${path}1`, visit);
  } else {
    const cut = height * tree.share;
    walk(tree.first, { ...space, height: cut }, `${path}0`, visit);
    walk(tree.second, { ...space, top: top + cut, height: height - cut }, `${path}1`, visit);
  }
}

/** How long the edge is that `to` shares with `from` on that side, percent. */
function touching(from: Rect, to: Rect, way: Way): number {
  const across = way === 'left' || way === 'right';
  const [a, b] = across ? [horizontal(from), horizontal(to)] : [vertical(from), vertical(to)];
  const gap = way === 'left' || way === 'up' ? a.start - b.end : b.start - a.end;
  if (Math.abs(gap) > 0.01) return 0;
  const [c, d] = across ? [vertical(from), vertical(to)] : [horizontal(from), horizontal(to)];
  return Math.max(0, Math.min(c.end, d.end) - Math.max(c.start, d.start));
}

function horizontal({ left, width }: Rect) {
  return { start: left, end: left + width };
}

function vertical({ top, height }: Rect) {
  return { start: top, end: top + height };
}
