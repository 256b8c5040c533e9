/**
 * One tab: a viewer of one session and what the page shows of it. Bytes go past it to the screen and
 * never into reactive state.
 */
import type { Connection, ConnectionOptions } from '../protocol/connection';
import type { Role, Size, ViewerInfo } from '../protocol/messages';
import type { Phase, ViewerEvent } from '../protocol/phase';
import type { Carrier } from '../protocol/transport';
import { lastPart } from '../terminal/shell';
import { keyOf, type Place, tidyName } from './layout';
import { type Standing, standingOf, type Trouble, troubleAfter } from './status';

/** What a tab needs of a connection. */
export type Link = Pick<
  Connection,
  | 'machine'
  | 'start'
  | 'write'
  | 'parsed'
  | 'resize'
  | 'takeLease'
  | 'cancelInput'
  | 'endSession'
  | 'wake'
  | 'dispose'
>;

/** Makes the connection of a tab. */
export type Connect = (
  place: Place,
  options: Pick<ConnectionOptions, 'viewer' | 'create' | 'spec' | 'deliver'>,
) => Link;

/** What shows a tab's session: takes the events that concern a terminal. */
export interface Shown {
  take(event: ViewerEvent): void;
  /** Scrollback and screen. */
  text(): string;
  focus(): void;
  openFind(): void;
  copy(): void;
  /** Pastes a text, after a question where one is due; with `enter`, runs it once it is pasted. */
  insert(text: string, enter: boolean): void;
  /** Types as a key would. */
  press(text: string): void;
  /** Scrolls to the prompt before or after. */
  jump(back: boolean): void;
}

/** What a tab tells its workspace. */
export interface TabReports {
  /** Something the layout remembers has changed. */
  changed(): void;
  /** Something a person should hear of once. */
  notice(text: string): void;
  /** The session has ended because {@link SessionTab.end} asked for it. */
  ended(tab: SessionTab): void;
  /** A command ended in it; see `terminal/shell.ts`. */
  finished(tab: SessionTab, code: number | null, seconds: number): void;
  /** Its bell rang. */
  rang(tab: SessionTab): void;
  /** These bytes were typed in it. */
  typed(tab: SessionTab, bytes: Uint8Array): void;
}

/** How a tab is made. */
export interface TabOptions {
  readonly place: Place;
  readonly viewer: string;
  readonly connect: Connect;
  readonly reports: TabReports;
}

/** One tab. */
export class SessionTab {
  readonly machine: string;
  readonly session: string;
  readonly key: string;
  /** This tab's viewer id. */
  readonly viewer: string;
  /** What the person called it. */
  name = $state('');
  /** The session's own title: untrusted, sanitised. */
  title = $state('');
  /** Where its shell says it is: untrusted, sanitised. */
  cwd = $state('');
  phase: Phase = $state.raw({ at: 'new' });
  /** What keeps it from being attached. */
  trouble: Trouble | null = $state.raw(null);
  role: Role = $state('writer');
  rtt: number | null = $state(null);
  /** What carries it to the broker. */
  carrier: Carrier | null = $state(null);
  viewers: readonly ViewerInfo[] = $state.raw([]);
  holder: string | null = $state(null);
  /** Whether this viewer rules the size. */
  held = $state(false);
  /** The session's size. */
  size: Size | null = $state.raw(null);
  /** What this screen would hold. */
  room: Size | null = $state.raw(null);
  /** Input not acknowledged, bytes. */
  pending = $state(0);
  /** There is output that nobody has looked at. */
  unseen = $state(false);
  /** Whether its tab is in front. */
  shown = $state(false);
  /** Whether it is the pane with the keyboard. */
  focused = $state(false);
  /** Whether it ever was: a terminal is made, and attached, when it is first looked at. */
  everShown = $state(false);

  /** Its session is to end, and has not been heard to. */
  ending = $state(false);

  /** Whether closing it now could lose something: input that is not acknowledged, or the wish to end the session. */
  readonly unfinished = $derived(this.phase.at !== 'over' && (this.pending > 0 || this.ending));
  readonly standing: Standing = $derived(standingOf(this.phase, this.trouble, this.ending));
  readonly label = $derived(this.name || this.title || (this.cwd && lastPart(this.cwd)) || 'shell');
  readonly holderName = $derived(
    this.viewers.find(({ viewer }) => viewer === this.holder)?.name ?? null,
  );

  readonly #options: TabOptions;
  #fresh: boolean;
  #link: Link | null = $state.raw(null);
  #screen: Shown | null = null;

  constructor(options: TabOptions) {
    const { place, viewer } = options;
    this.#options = options;
    this.machine = place.machine;
    this.session = place.session;
    this.key = keyOf(place);
    this.viewer = viewer;
    this.name = place.name;
    this.#fresh = place.fresh;
  }

  /** What the layout remembers of it. */
  get place(): Place {
    return { machine: this.machine, session: this.session, name: this.name, fresh: this.#fresh };
  }

  /** Its connection, once it has one. */
  get link(): Link | null {
    return this.#link;
  }

  /** What shows it. */
  get screen(): Shown | null {
    return this.#screen;
  }

  /** A screen is there to show it. */
  attachScreen(screen: Shown): void {
    this.#screen = screen;
  }

  /** The screen holds so many cells: the first time this begins the connection. */
  setRoom(room: Size): void {
    this.room = room;
    if (this.#link) this.#link.resize(room);
    else this.#begin(room);
  }

  /** Bytes typed. Returns the number of input after them; null: they were not accepted. */
  type(bytes: Uint8Array): number | null {
    this.#options.reports.typed(this, bytes);
    return this.receive(bytes);
  }

  /** Bytes for the session, wherever they were typed; see {@link type}. */
  receive(bytes: Uint8Array): number | null {
    if (this.#link?.write(bytes)) return this.#link.machine.input.end;
    if (this.#link && this.phase.at !== 'over') this.#options.reports.notice(this.#whyNot());
    return null;
  }

  /** Gives it a name; an empty one shows the session's own title again. */
  rename(name: string): void {
    this.name = tidyName(name);
    this.#options.reports.changed();
  }

  /** Shown in front, and with the keyboard, or not. */
  show(shown: boolean, focused = shown): void {
    this.shown = shown;
    this.focused = focused;
    if (!shown) return;
    this.everShown = true;
    this.unseen = false;
  }

  /** The shell is in another directory. */
  moved(path: string): void {
    this.cwd = path;
  }

  /** A command ended. */
  finished(code: number | null, seconds: number): void {
    this.#options.reports.finished(this, code, seconds);
  }

  /** The bell rang. */
  rang(): void {
    if (!this.shown) this.unseen = true;
    this.#options.reports.rang(this);
  }

  /** Takes an event of the viewer. */
  take(event: ViewerEvent): void {
    this.#screen?.take(event);
    this.#note(event);
  }

  /** Ends the session itself: told until it is heard, then {@link TabReports.ended}. */
  end(): void {
    this.ending = true;
    this.#link?.endSession();
  }

  /** Leaves; the session goes on. */
  dispose(): void {
    if (this.pending > 0)
      this.#options.reports.notice(`${this.pending} bytes typed may not have reached the session`);
    this.#link?.dispose();
    this.#screen = null;
  }

  #whyNot(): string {
    const why =
      this.role === 'view' ? 'you may only look at this session' : 'too much is waiting to be sent';
    return `Nothing was typed: ${why}`;
  }

  #begin(room: Size): void {
    this.#link = this.#options.connect(this.place, {
      viewer: this.viewer,
      create: this.#fresh,
      // LANG is left to the machine: its own locale is the one its programs know.
      spec: { kind: 'terminal', ...room },
      deliver: (event) => this.take(event),
    });
    this.#link.start();
  }

  #note(event: ViewerEvent): void {
    switch (event.type) {
      case 'phase':
        this.phase = event.phase;
        this.trouble = troubleAfter(event.phase, this.trouble, performance.now());
        if (event.phase.at !== 'live') this.rtt = null;
        if (this.ending && isGone(event.phase)) this.#options.reports.ended(this);
        return;
      case 'opened':
        return this.#opened(event.opened);
      case 'output':
        if (!this.shown && !this.unseen) this.unseen = true;
        return;
      case 'painting':
      case 'reset':
      case 'resized':
        this.size = { cols: event.cols, rows: event.rows };
        return;
      default:
        return this.#aside(event);
    }
  }

  #aside(event: ViewerEvent): void {
    switch (event.type) {
      case 'viewers':
        this.viewers = event.viewers;
        return;
      case 'lease':
        this.holder = event.holder;
        this.held = event.held;
        return;
      case 'input':
        this.pending = event.pending;
        return;
      case 'title':
        this.title = event.title;
        return;
      case 'rtt':
        this.rtt = event.ms;
        return;
      case 'carrier':
        this.carrier = event.carrier;
        return;
      default:
        return this.#tell(event);
    }
  }

  /** What must not pass in silence. */
  #tell(event: ViewerEvent): void {
    const { notice } = this.#options.reports;
    if (event.type === 'gap')
      notice('Part of the output was too old to replay; the screen was painted anew');
    if (event.type === 'input_lost')
      notice(`${event.bytes} bytes typed for the earlier shell were not sent`);
    if (event.type === 'fault') notice(`The screen was painted anew: ${event.message}`);
  }

  #opened({ role, title }: { role: Role; title: string }): void {
    this.role = role;
    this.title = title;
    if (!this.#fresh) return;
    this.#fresh = false;
    this.#options.reports.changed();
  }
}

/** Whether the session is known to be no more. */
function isGone(phase: Phase): boolean {
  if (phase.at !== 'over') return false;
  const { ending } = phase;
  return (
    ending.kind === 'exited' ||
    (ending.kind === 'refused' && ending.cause.code === 'session_not_found')
  );
}
