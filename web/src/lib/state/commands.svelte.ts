/** What the command palette offers: each part of the page adds what it can do for as long as it is shown. */
import type { IconName } from '$lib/ui/icons';

export interface Command {
  /** The same for the same thing, so that recent ones are known again. */
  readonly id: string;
  readonly label: string;
  /** Under which heading it stands. */
  readonly group: Group;
  readonly icon: IconName;
  /** Beside the label, quieter. */
  readonly note?: string;
  /** More words it is found by. */
  readonly words?: string;
  /** Keys that do the same, as the sheet of shortcuts writes them. */
  readonly key?: string;
  readonly run: () => void;
  /** What Ctrl+Enter does, where that is more; `says` names it. */
  readonly more?: { readonly says: string; readonly run: () => void };
}

/** Headings, in the order they are shown. */
export const GROUPS = [
  'Workspace',
  'Machines',
  'Sessions',
  'Snippets',
  'Actions',
  'On a machine',
  'Settings',
] as const;
export type Group = (typeof GROUPS)[number];

type Source = () => readonly Command[];

const KEY = 'rexec.recent';
/** Recent commands remembered on this device. */
const RECENT_MAX = 8;

export class Commands {
  /** Whether the palette is open. */
  open = $state(false);
  #below: (() => void) | undefined;
  #sources: readonly Source[] = $state.raw([]);
  #recent: readonly string[] = $state.raw(recentStored());

  /** Adds what a function says whenever the palette is open; returns what takes it away. */
  add(source: Source): () => void {
    this.#sources = [...this.#sources, source];
    return () => {
      this.#sources = this.#sources.filter((each) => each !== source);
    };
  }

  /** Everything that can be done now; of one id the latest source's. */
  all(): Command[] {
    const byId = new Map<string, Command>();
    for (const source of this.#sources) for (const each of source()) byId.set(each.id, each);
    return [...byId.values()];
  }

  /** Those run last, of `all`, newest first. */
  recent(all: readonly Command[]): Command[] {
    const byId = new Map(all.map((each) => [each.id, each]));
    return this.#recent.map((id) => byId.get(id)).filter((each) => each !== undefined);
  }

  /** The palette's key came a second time: it was meant for what is below, if that has a use for it. */
  again(ctrl: boolean): void {
    this.open = false;
    if (ctrl) this.#below?.();
  }

  /** What the palette's key does when it comes twice; returns what takes it away. */
  passTo(below: () => void): () => void {
    this.#below = below;
    return () => {
      if (this.#below === below) this.#below = undefined;
    };
  }

  /** Closes the palette, then runs. */
  run(command: Command, act = command.run): void {
    this.open = false;
    this.#recent = [command.id, ...this.#recent.filter((id) => id !== command.id)].slice(
      0,
      RECENT_MAX,
    );
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#recent));
    } catch {
      // Storage may be forbidden; recent ones are then known until the page is closed.
    }
    act();
  }
}

function recentStored(): string[] {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(value) ? value.filter((id) => typeof id === 'string') : [];
  } catch {
    return [];
  }
}

export const commands = new Commands();
