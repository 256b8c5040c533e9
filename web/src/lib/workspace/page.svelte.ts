/** The workspace page: its tabs joined to the keyboard, the address and the toasts. */
import type { Machine } from '$lib/api/types';
import { router } from '$lib/router/router.svelte';
import { account } from '$lib/state/account.svelte';
import { sheet } from '$lib/state/sheet.svelte';
import { shortcuts } from '$lib/state/shortcuts.svelte';
import { toasts } from '$lib/state/toasts.svelte';
import { uuid } from '../protocol/bytes';
import { connect } from './connect';
import { type Action, actionOf, BINDINGS } from './keys';
import type { Place } from './layout';
import { SessionTab } from './tab.svelte';
import { Workspace } from './workspace.svelte';

/** What the page holds beside its tabs. */
export class WorkspacePage {
  readonly workspace = new Workspace({
    makeTab: (place, changed) => this.#makeTab(place, changed),
    store: sessionStorage,
    user: account.me?.user.id ?? '',
    newId: uuid,
  });
  /** The tab whose name is being written. */
  renaming: SessionTab | null = $state.raw(null);
  /** The tab whose session may be ended, once that is confirmed. */
  ending: SessionTab | null = $state.raw(null);
  /** The tab that is to be closed although something in it is unfinished, once that is confirmed. */
  closing: SessionTab | null = $state.raw(null);
  /** The machine of the address that was come to. */
  arrivedAt: string | null = null;
  #online: ReadonlySet<string> = new Set();

  /** Comes to a machine, once. */
  arrive(machine: Machine, user: string | undefined): void {
    if (this.arrivedAt === machine.id) return;
    if (this.workspace.arrive(machine, user)) this.arrivedAt = machine.id;
  }

  /** The machines that are online now: what waits for one that was not need not wait. */
  presence(online: readonly string[]): void {
    for (const id of online) if (!this.#online.has(id)) this.workspace.wake(id);
    this.#online = new Set(online);
  }

  /** The tab in front is of another machine: the address follows, without an entry to come back to. */
  moveTo(machine: string): void {
    this.arrivedAt = machine;
    router.navigate(`/m/${encodeURIComponent(machine)}`, { replace: true });
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
      },
    });
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
    return action.do === 'select' && !this.workspace.tabs[action.index];
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
      case 'select':
        return workspace.selectAt(action.index);
      case 'find':
        return active?.screen?.openFind();
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
