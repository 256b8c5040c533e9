/** The tabs of the workspace: sessions of any machines, which one is in front, and their coming back after a reload. */
import type { Machine, MachineSession } from '$lib/api/types';
import { keyOf, type LayoutStore, loadLayout, type Place, saveLayout } from './layout';
import type { SessionTab } from './tab.svelte';

/** What a workspace is made with. */
export interface WorkspaceOptions {
  readonly makeTab: (place: Place, changed: () => void) => SessionTab;
  readonly store: LayoutStore;
  /** Whose tabs these are. */
  readonly user: string;
  readonly newId: () => string;
}

/** Sessions attached to at once when a machine is come to; the others are offered. */
const ATTACH_MAX = 8;

/** The sessions of a machine that this person can attach to. */
export function runningSessions(machine: Machine, user: string | undefined): MachineSession[] {
  return machine.sessions.filter(
    (each) =>
      each.kind === 'terminal' && !each.exited && (user === undefined || each.user === user),
  );
}

/** The tabs and their order. */
export class Workspace {
  tabs: readonly SessionTab[] = $state.raw([]);
  #activeKey: string | null = $state(null);
  readonly active = $derived(this.tabs.find(({ key }) => key === this.#activeKey) ?? null);
  readonly #options: WorkspaceOptions;

  constructor(options: WorkspaceOptions) {
    this.#options = options;
  }

  /** Brings back the tabs of before the reload. */
  restore(): void {
    const { places, active } = loadLayout(this.#options.store, this.#options.user);
    const keys = new Set<string>();
    for (const place of places) {
      if (keys.has(keyOf(place))) continue;
      keys.add(keyOf(place));
      this.tabs = [...this.tabs, this.#make(place)];
    }
    const front = this.tabs.find(({ key }) => key === active) ?? this.tabs[0];
    if (front) this.select(front);
  }

  /**
   * Comes to a machine: to its tab if there is one, else to all its sessions, else to a new one.
   * Without a list of sessions (the machine is away) nothing is done; returns whether it was.
   */
  arrive(machine: Machine, user: string | undefined): boolean {
    if (this.active?.machine === machine.id) return true;
    const mine = this.tabs.find((tab) => tab.machine === machine.id);
    if (mine) {
      this.select(mine);
      return true;
    }
    if (!machine.online) return false;
    const running = runningSessions(machine, user).slice(0, ATTACH_MAX);
    const tabs = running.map(({ session, title }) => this.#attach(machine.id, session, title));
    this.select(tabs[0] ?? this.openNew(machine.id));
    return true;
  }

  /** Opens a new session on a machine. */
  openNew(machine: string): SessionTab {
    return this.#add({ machine, session: this.#options.newId(), name: '', fresh: true });
  }

  /** Attaches to a session that runs, or comes to its tab. */
  attach(machine: string, session: string, title = ''): SessionTab {
    const tab = this.#attach(machine, session, title);
    this.select(tab);
    return tab;
  }

  /** Takes a tab away; its session goes on. */
  close(tab: SessionTab): void {
    const at = this.tabs.indexOf(tab);
    if (at < 0) return;
    tab.dispose();
    this.tabs = this.tabs.filter((each) => each !== tab);
    const next = this.tabs[Math.min(at, this.tabs.length - 1)];
    if (this.#activeKey === tab.key) {
      this.#activeKey = null;
      if (next) this.select(next);
    }
    this.save();
  }

  /** Opens a new session in the place of a tab whose session is gone. */
  reopen(tab: SessionTab): void {
    const at = this.tabs.indexOf(tab);
    const fresh = this.#make({ ...tab.place, session: this.#options.newId(), fresh: true });
    tab.dispose();
    this.tabs = this.tabs.with(at, fresh);
    this.select(fresh);
  }

  /** Attaches to the same session anew, as another viewer. */
  retry(tab: SessionTab): void {
    const at = this.tabs.indexOf(tab);
    const again = this.#make(tab.place);
    tab.dispose();
    this.tabs = this.tabs.with(at, again);
    this.select(again);
  }

  /** Brings a tab to the front. */
  select(tab: SessionTab): void {
    this.active?.show(false);
    this.#activeKey = tab.key;
    tab.show(true);
    this.save();
  }

  /** The tab so many places on, round the ends. */
  step(by: number): void {
    const { length } = this.tabs;
    const at = this.active ? this.tabs.indexOf(this.active) : 0;
    const tab = this.tabs[(at + by + length) % Math.max(length, 1)];
    if (tab) this.select(tab);
  }

  /** The tab at a place, if there is one. */
  selectAt(index: number): void {
    const tab = this.tabs[index];
    if (tab) this.select(tab);
  }

  /** The machine is back: its sessions need not wait. */
  wake(machine: string): void {
    for (const tab of this.tabs) if (tab.machine === machine) tab.link?.wake();
  }

  /** Remembers the tabs. */
  save(): void {
    const places = this.tabs.map(({ place }) => place);
    const { store, user } = this.#options;
    saveLayout(store, user, { places, active: this.#activeKey });
  }

  /** Leaves all sessions; they go on. */
  dispose(): void {
    for (const tab of this.tabs) tab.dispose();
  }

  #attach(machine: string, session: string, title: string): SessionTab {
    const known = this.tabs.find(({ key }) => key === keyOf({ machine, session }));
    if (known) return known;
    const tab = this.#put({ machine, session, name: '', fresh: false });
    tab.title = title;
    return tab;
  }

  #add(place: Place): SessionTab {
    const tab = this.#put(place);
    this.select(tab);
    return tab;
  }

  #put(place: Place): SessionTab {
    const tab = this.#make(place);
    this.tabs = [...this.tabs, tab];
    return tab;
  }

  #make(place: Place): SessionTab {
    return this.#options.makeTab(place, () => this.save());
  }
}
