/** The workspace page: its tabs joined to the keyboard, the address and the toasts. */
import type { Machine } from '$lib/api/types';
import { runningSessions } from '$lib/machines/sessions';
import { router } from '$lib/router/router.svelte';
import { workspacePath } from '$lib/router/routes';
import { account } from '$lib/state/account.svelte';
import { machines } from '$lib/state/machines.svelte';
import { preferences } from '$lib/state/preferences.svelte';
import { sheet } from '$lib/state/sheet.svelte';
import { shortcuts } from '$lib/state/shortcuts.svelte';
import { toasts } from '$lib/state/toasts.svelte';
import { uuid } from '../protocol/bytes';
import { isReport } from './cast';
import { connect } from './connect';
import { finished, rang } from './happenings';
import { type Action, actionOf, BINDINGS } from './keys';
import { type Layout, loadLayout, NOTHING, type Place, parseLayout, saveLayout } from './layout';
import { type Along, PANES_MAX } from './split';
import { SessionTab } from './tab.svelte';
import { Workspace } from './workspace.svelte';

/** The preference that holds the layout. */
const PREFERENCE = 'workspace';

/** What the page holds beside its tabs. */
export class WorkspacePage {
  readonly workspace = new Workspace({
    makeTab: (place, changed) => this.#makeTab(place, changed),
    keep: (layout) => this.#keep(layout),
    newId: uuid,
  });
  readonly #user = account.me?.user.id ?? '';
  /** A window of one session keeps no layout. */
  readonly #alone: boolean;
  /** Where the tabs came from; null: they have not come back yet. */
  restored: 'page' | 'account' | null = $state(null);
  /** The pane that is being dragged. */
  dragged: SessionTab | null = $state.raw(null);
  /** The tab whose name is being written. */
  renaming: SessionTab | null = $state.raw(null);
  /** The tab whose session may be ended, once that is confirmed. */
  ending: SessionTab | null = $state.raw(null);
  /** The tab that is to be closed although something in it is unfinished, once that is confirmed. */
  closing: SessionTab | null = $state.raw(null);
  /** The machine of the address that was come to. */
  arrivedAt: string | null = null;
  #online: ReadonlySet<string> = new Set();

  constructor(alone: boolean) {
    this.#alone = alone;
  }

  /** Brings back the tabs of before the reload, if there were any. */
  reload(): void {
    const kept = this.#alone ? NOTHING : loadLayout(sessionStorage, this.#user);
    if (kept === null) return;
    this.workspace.restore(kept);
    this.restored = 'page';
  }

  /** A browser that had no tabs gets those of the account, as far as their sessions run. */
  borrow(): void {
    const { places, groups, active } = parseLayout(preferences.values[PREFERENCE]);
    const running = places.filter(({ machine, session }) => {
      const there = machines.byId.get(machine);
      return (
        there?.online && runningSessions(there, this.#user).some((each) => each.session === session)
      );
    });
    this.workspace.restore(parseLayout({ places: running, groups, active }));
    this.restored = 'account';
  }

  /** Comes to a machine, once, or to a session of it. */
  arrive(machine: Machine, session: string | null): void {
    if (session !== null) {
      this.workspace.attach(machine.id, session);
      this.arrivedAt = machine.id;
      if (!this.#alone) this.moveTo(machine.id);
    }
    if (this.arrivedAt === machine.id) return;
    const all = this.restored === 'account';
    if (this.workspace.arrive(machine, this.#user, all)) this.arrivedAt = machine.id;
  }

  /** The machines that are online now: what waits for one that was not need not wait. */
  presence(online: readonly string[]): void {
    for (const id of online) if (!this.#online.has(id)) this.workspace.wake(id);
    this.#online = new Set(online);
  }

  /** The tab in front is of another machine: the address follows, without an entry to come back to. */
  moveTo(machine: string): void {
    this.arrivedAt = machine;
    router.navigate(workspacePath(machine), { replace: true });
  }

  /** Brings a tab to the front and gives it the keyboard. */
  select(tab: SessionTab): void {
    this.workspace.select(tab);
    tab.screen?.focus();
  }

  /** Closes a tab, after a question where something in it is unfinished. */
  close(tab: SessionTab | null): void {
    if (tab?.unfinished) this.closing = tab;
    else if (tab) this.workspace.close(tab);
  }

  /** Closes a tab with all its panes. */
  closeAll(panes: readonly SessionTab[]): void {
    for (const tab of panes) this.close(tab);
  }

  /** Opens a new session beside or below the one in front. */
  split(along: Along): void {
    const { active } = this.workspace;
    if (active && !this.workspace.split(active, along)) this.#full();
  }

  /** Puts a pane into the tab of another. */
  join(tab: SessionTab, at: SessionTab, along: Along, before = false): void {
    if (!this.workspace.join(tab, at, along, before)) this.#full();
  }

  /** The pane that was dragged is let go over another. */
  drop(at: SessionTab, along: Along, before: boolean): void {
    const { dragged } = this;
    this.dragged = null;
    if (dragged) this.join(dragged, at, along, before);
  }

  /** Shows a session in a window of its own instead of here. */
  detach(tab: SessionTab): void {
    const { innerWidth: width, innerHeight: height } = window;
    const address = `${workspacePath(tab.machine, tab.session)}&window`;
    open(address, '_blank', `noopener,popup,width=${width},height=${height}`);
    this.close(tab);
  }

  /** Whether it may be shown in a window of its own: it is not in one, and its session exists. */
  canDetach(tab: SessionTab): boolean {
    return !this.#alone && !tab.place.fresh;
  }

  /** Ends the session itself. Its tab stays until that has been heard. */
  end(tab: SessionTab): void {
    if (tab.phase.at === 'over') return this.workspace.close(tab);
    tab.end();
    if (tab.phase.at === 'live') return;
    toasts.show({ kind: 'info', text: 'The session ends as soon as its machine is reached' });
  }

  /** Listens to keys and to the page's end; returns what ends that. */
  listen(): () => void {
    const pressed = (event: KeyboardEvent) => this.#pressed(event);
    // Before the terminal, which would take them as typed.
    addEventListener('keydown', pressed, { capture: true });
    const ends = [
      () => removeEventListener('keydown', pressed, { capture: true }),
      shortcuts.add(...BINDINGS.map((binding) => ({ ...binding, run: () => {} }))),
      this.#leaveWithPage(),
      this.#askBeforeLeaving(),
    ];
    return () => {
      for (const end of ends) end();
    };
  }

  #makeTab(place: Place, changed: () => void): SessionTab {
    return new SessionTab({
      place,
      viewer: uuid(),
      connect,
      reports: {
        changed,
        notice: (text) => toasts.show({ kind: 'info', text }),
        ended: (tab) => this.workspace.close(tab),
        finished: (tab, code, seconds) => finished(tab, code, seconds, () => this.select(tab)),
        rang: (tab) => rang(tab, () => this.select(tab)),
        typed: (tab, bytes) => isReport(bytes) || this.workspace.relay(tab, bytes),
      },
    });
  }

  #keep(layout: Layout): void {
    if (this.#alone) return;
    saveLayout(sessionStorage, this.#user, layout);
    if (this.restored) preferences.set(PREFERENCE, layout);
  }

  #full(): void {
    toasts.show({ kind: 'info', text: `A tab has at most ${PANES_MAX} panes` });
  }

  /** A page that goes says so, so that its hold on the size goes with it. */
  #leaveWithPage(): () => void {
    const hidden = ({ persisted }: PageTransitionEvent) => {
      if (!persisted) this.workspace.dispose();
    };
    addEventListener('pagehide', hidden);
    return () => removeEventListener('pagehide', hidden);
  }

  /** The browser asks the person before a page with unfinished tabs is closed or reloaded. */
  #askBeforeLeaving(): () => void {
    const leaving = (event: BeforeUnloadEvent) => {
      if (this.workspace.tabs.some(({ unfinished }) => unfinished)) event.preventDefault();
    };
    addEventListener('beforeunload', leaving);
    return () => removeEventListener('beforeunload', leaving);
  }

  #pressed(event: KeyboardEvent): void {
    if (document.querySelector('dialog[open]')) return;
    const action = actionOf(event);
    if (!action || this.#isNothing(action)) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat || action.do === 'next' || action.do === 'previous') this.#act(action);
  }

  /** A key for a tab that is not there is the terminal's. */
  #isNothing(action: Action): boolean {
    const { front, groups } = this.workspace;
    if (action.do === 'pane') return front === null || typeof front.tree === 'string';
    return action.do === 'select' && !groups[action.index];
  }

  #act(action: Action): void {
    const { workspace } = this;
    const { active } = workspace;
    switch (action.do) {
      case 'new':
        return this.#new();
      case 'close':
        return this.close(active);
      case 'next':
        return workspace.step(1);
      case 'previous':
        return workspace.step(-1);
      case 'split-right':
        return this.split('row');
      case 'split-down':
        return this.split('column');
      case 'pane':
        workspace.focusNext(action.way);
        return;
      case 'broadcast':
        return workspace.broadcast(workspace.cast.size === 0);
      case 'select':
        return workspace.selectAt(action.index);
      case 'find':
        return active?.screen?.openFind();
      case 'prompt':
        return active?.screen?.jump(action.back);
      case 'copy':
        return active?.screen?.copy();
      case 'rename':
        this.renaming = active;
        return;
      case 'help':
        sheet.open = true;
        return;
      case 'leave':
        return this.#leave();
    }
  }

  #new(): void {
    const machine = this.workspace.active?.machine ?? this.arrivedAt;
    if (machine !== null) this.workspace.openNew(machine);
  }

  /** From the terminal to the tabs, and back: the terminal itself keeps Tab. */
  #leave(): void {
    const inTerminal = document.activeElement?.closest('.xterm') != null;
    const name = document.querySelector<HTMLElement>('[data-testid="tab-name"][aria-current]');
    if (inTerminal) name?.focus();
    else this.workspace.active?.screen?.focus();
  }
}
