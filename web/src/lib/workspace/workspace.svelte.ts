/**
 * The sessions of any machines that this page shows, in tabs whose space they share, which one has the keyboard, and their
 * coming back after a reload.
 */
import type { Machine } from '$lib/api/types';
import { runningSessions } from '$lib/machines/sessions';
import { type Group, keyOf, type Layout, type Place } from './layout';
import * as split from './split';
import type { SessionTab } from './tab.svelte';

/** What a workspace is made with. */
export interface WorkspaceOptions {
  readonly makeTab: (place: Place, changed: () => void) => SessionTab;
  /** Keeps the layout. */
  readonly keep: (layout: Layout) => void;
  readonly newId: () => string;
}

/** Sessions attached to at once when a machine is come to; the others are offered. */
const ATTACH_MAX = 8;

/** Sessions, and the tabs they are in. A tab is a {@link Group}; a {@link SessionTab} is one of its panes. */
export class Workspace {
  /** All panes. */
  tabs: readonly SessionTab[] = $state.raw([]);
  /** The tabs, in order. */
  groups: readonly Group[] = $state.raw([]);
  #activeKey: string | null = $state(null);
  /** The pane with the keyboard. */
  readonly active = $derived(this.#byKey(this.#activeKey));
  /** The tab in front. */
  readonly front = $derived(this.#groupOf(this.#activeKey));
  /** The panes that get what is typed in one of them; empty: nothing is broadcast. */
  cast: ReadonlySet<SessionTab> = $state.raw(new Set());
  readonly #options: WorkspaceOptions;

  constructor(options: WorkspaceOptions) {
    this.#options = options;
  }

  /** Brings back a layout that was kept. */
  restore({ places, groups, active }: Layout): void {
    this.tabs = places.map((place) => this.#make(place));
    this.groups = groups;
    const front = this.#byKey(active) ?? this.shownOf(groups[0]);
    if (front) this.select(front);
  }

  /**
   * Comes to a machine: to its tab if there is one, else to all its sessions, else to a new one.
   * Without a list of sessions (the machine is away) nothing is done; returns whether it was. With `all`, its running
   * sessions get tabs even where it has one.
   */
  arrive(machine: Machine, user: string | undefined, all = false): boolean {
    const there = this.active?.machine === machine.id;
    const mine = there ? this.active : this.tabs.find((tab) => tab.machine === machine.id);
    if (mine && !there) this.select(mine);
    if (mine && !all) return true;
    if (!machine.online) return mine != null;
    const running = runningSessions(machine, user).slice(0, ATTACH_MAX);
    const tabs = running.map(({ session, title }) => this.#attach(machine.id, session, title));
    if (!mine) this.select(tabs[0] ?? this.openNew(machine.id));
    return true;
  }

  /** Opens a new session on a machine, in a tab of its own. */
  openNew(machine: string): SessionTab {
    const tab = this.#put(this.#anew(machine));
    this.select(tab);
    return tab;
  }

  /** Opens a new session beside or below a pane, on its machine; null: there is no room for one more. */
  split(tab: SessionTab, along: split.Along): SessionTab | null {
    if (!this.#hasRoom(tab)) return null;
    const fresh = this.#make(this.#anew(tab.machine));
    this.tabs = [...this.tabs, fresh];
    this.#reshape(tab, (tree) => split.divided(tree, tab.key, fresh.key, along));
    this.select(fresh);
    return fresh;
  }

  /** Moves a pane into the tab of another, beside or below it; false: it cannot. */
  join(tab: SessionTab, at: SessionTab, along: split.Along, before = false): boolean {
    if (tab === at || !this.#hasRoom(at)) return false;
    this.#takeOut(tab);
    this.#reshape(at, (tree) => split.divided(tree, at.key, tab.key, along, before));
    this.select(tab);
    return true;
  }

  /** Moves a pane to a tab of its own, behind the one it was in. */
  lift(tab: SessionTab): void {
    const at = this.groups.findIndex(({ tree }) => split.holds(tree, tab.key));
    if (at < 0 || this.groups[at]?.tree === tab.key) return;
    this.#takeOut(tab);
    this.groups = this.groups.toSpliced(at + 1, 0, { tree: tab.key, focus: tab.key });
    this.select(tab);
  }

  /** Moves a tab to another place in the strip. */
  move(group: Group, to: number): void {
    const from = this.groups.indexOf(group);
    if (from < 0 || from === to) return;
    this.groups = this.groups.toSpliced(from, 1).toSpliced(to, 0, group);
    this.save();
  }

  /** Moves a divider of the tab in front; `done` once it is let go. */
  resize(path: string, share: number, done: boolean): void {
    const { active } = this;
    if (active) this.#reshape(active, (tree) => split.shared(tree, path, share));
    if (done) this.save();
  }

  /** The pane next to the one with the keyboard gets it. */
  focusNext(way: split.Way): boolean {
    const { active, front } = this;
    const next = active && front && this.#byKey(split.neighbour(front.tree, active.key, way));
    if (next) this.select(next);
    return next != null;
  }

  /** The panes of a tab, in reading order. */
  panesOf(group: Group): SessionTab[] {
    return split
      .leaves(group.tree)
      .map((key) => this.#byKey(key))
      .filter((tab) => tab !== null);
  }

  /** The pane of a tab that has the keyboard when it is in front. */
  shownOf(group: Group | undefined): SessionTab | null {
    return group ? this.#byKey(group.focus) : null;
  }

  /** Attaches to a session that runs, or comes to its tab. */
  attach(machine: string, session: string, title = ''): SessionTab {
    const tab = this.#attach(machine, session, title);
    this.select(tab);
    return tab;
  }

  /** Takes a pane away; its session goes on. */
  close(tab: SessionTab): void {
    if (!this.tabs.includes(tab)) return;
    const at = this.groups.findIndex(({ tree }) => split.holds(tree, tab.key));
    tab.dispose();
    this.#takeOut(tab);
    this.tabs = this.tabs.filter((each) => each !== tab);
    this.cast = without(this.cast, tab);
    if (this.#activeKey === tab.key) {
      this.#activeKey = null;
      const next = this.shownOf(this.groups[Math.min(at, this.groups.length - 1)]);
      if (next) this.select(next);
    }
    this.save();
  }

  /** Opens a new session in the place of a pane whose session is gone. */
  reopen(tab: SessionTab): void {
    this.#replace(tab, { ...tab.place, session: this.#options.newId(), fresh: true });
  }

  /** Attaches to the same session anew, as another viewer. */
  retry(tab: SessionTab): void {
    this.#replace(tab, tab.place);
  }

  /** Gives a pane the keyboard and brings its tab to the front. */
  select(tab: SessionTab): void {
    this.#activeKey = tab.key;
    this.groups = this.groups.map((group) =>
      split.holds(group.tree, tab.key) ? { ...group, focus: tab.key } : group,
    );
    const keys = new Set(this.front ? split.leaves(this.front.tree) : []);
    for (const each of this.tabs) each.show(keys.has(each.key), each === tab);
    this.save();
  }

  /** The tab so many places on, round the ends. */
  step(by: number): void {
    const { length } = this.groups;
    const at = this.front ? this.groups.indexOf(this.front) : 0;
    this.selectAt((Math.max(at, 0) + by + length) % Math.max(length, 1));
  }

  /** The tab at a place, if there is one. */
  selectAt(index: number): void {
    const tab = this.shownOf(this.groups[index]);
    if (tab) this.select(tab);
  }

  /** What is typed in one of the panes in front goes to all of them, or no longer. */
  broadcast(on: boolean): void {
    this.cast = new Set(on && this.front ? this.panesOf(this.front) : []);
  }

  /** One pane takes part in the broadcast, or no longer. */
  include(tab: SessionTab, on: boolean): void {
    const cast = on ? new Set(this.cast).add(tab) : without(this.cast, tab);
    this.cast = cast.size > 1 ? cast : new Set();
  }

  /** Something was typed in a pane: the others of its broadcast get it too. */
  relay(from: SessionTab, bytes: Uint8Array): void {
    if (!this.cast.has(from)) return;
    for (const tab of this.cast) if (tab !== from && tab.shown) tab.receive(bytes);
  }

  /** The machine is back: its sessions need not wait. */
  wake(machine: string): void {
    for (const tab of this.tabs) if (tab.machine === machine) tab.link?.wake();
  }

  /** Remembers the tabs. */
  save(): void {
    const places = this.tabs.map(({ place }) => place);
    this.#options.keep({ places, groups: this.groups, active: this.#activeKey });
  }

  /** Leaves all sessions; they go on. */
  dispose(): void {
    for (const tab of this.tabs) tab.dispose();
  }

  #byKey(key: string | null): SessionTab | null {
    return key === null ? null : (this.tabs.find((tab) => tab.key === key) ?? null);
  }

  #groupOf(key: string | null): Group | null {
    if (key === null) return null;
    return this.groups.find(({ tree }) => split.holds(tree, key)) ?? null;
  }

  #hasRoom(tab: SessionTab): boolean {
    const group = this.#groupOf(tab.key);
    return group !== null && split.leaves(group.tree).length < split.PANES_MAX;
  }

  #anew(machine: string): Place {
    return { machine, session: this.#options.newId(), name: '', fresh: true };
  }

  #attach(machine: string, session: string, title: string): SessionTab {
    const known = this.#byKey(keyOf({ machine, session }));
    if (known) return known;
    const tab = this.#put({ machine, session, name: '', fresh: false });
    tab.title = title;
    return tab;
  }

  #put(place: Place): SessionTab {
    const tab = this.#make(place);
    this.tabs = [...this.tabs, tab];
    this.groups = [...this.groups, { tree: tab.key, focus: tab.key }];
    return tab;
  }

  #replace(tab: SessionTab, place: Place): void {
    const fresh = this.#make(place);
    const cast = this.cast.has(tab);
    tab.dispose();
    this.tabs = this.tabs.with(this.tabs.indexOf(tab), fresh);
    this.#reshape(tab, (tree) => split.replaced(tree, tab.key, fresh.key));
    if (cast) this.cast = new Set(without(this.cast, tab)).add(fresh);
    this.select(fresh);
  }

  /** Another shape for the tab that a pane is in. */
  #reshape(tab: SessionTab, shape: (tree: split.Tree) => split.Tree): void {
    this.groups = this.groups.map((group) =>
      split.holds(group.tree, tab.key) ? { ...group, tree: shape(group.tree) } : group,
    );
  }

  /** Takes a pane out of its tab, and the tab away if it was the last. Its sibling's first pane is next. */
  #takeOut(tab: SessionTab): void {
    this.groups = this.groups.flatMap((group) => {
      if (!split.holds(group.tree, tab.key)) return [group];
      const keys = split.leaves(group.tree);
      const tree = split.without(group.tree, tab.key);
      if (tree === null) return [];
      const at = keys.indexOf(tab.key);
      const next = keys[at + 1] ?? keys[at - 1] ?? '';
      return [{ tree, focus: group.focus === tab.key ? next : group.focus }];
    });
  }

  #make(place: Place): SessionTab {
    return this.#options.makeTab(place, () => this.save());
  }
}

function without<T>(set: ReadonlySet<T>, member: T): Set<T> {
  return new Set([...set].filter((each) => each !== member));
}
