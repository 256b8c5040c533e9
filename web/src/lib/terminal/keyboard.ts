/** What keys send that are not what xterm would send: Shift+Enter, and kitty's protocol. */
import type { Terminal } from '@xterm/xterm';
import { encodeKey, KeyboardModes, type KeyInput } from './kitty';

/** What Shift+Enter sends. */
export type ShiftEnter = 'line-feed' | 'escape' | 'enter';

const NEW_LINE: Readonly<Record<ShiftEnter, string>> = {
  'line-feed': '\n',
  escape: '\u001b\r',
  enter: '\r',
};

/** ⌥ makes characters there. */
const MAC = /^Mac|^iP/.test(navigator.platform);

/** Modifiers that are held by a tap, for the next key. */
export interface Held {
  readonly ctrl: boolean;
  readonly alt: boolean;
}

const NONE: Held = { ctrl: false, alt: false };

/** What keys that type nothing send where no protocol is switched on. */
const LEGACY: Readonly<Record<string, string>> = {
  Escape: '\u001b',
  Tab: '\t',
  Enter: '\r',
};

export class Keyboard {
  readonly modes: KeyboardModes;
  readonly #terminal: Terminal;
  readonly #shiftEnter: () => ShiftEnter;
  #held: Held = NONE;
  /** Called when what is held was used up. */
  released: () => void = () => {};

  constructor(terminal: Terminal, shiftEnter: () => ShiftEnter) {
    this.#terminal = terminal;
    this.#shiftEnter = shiftEnter;
    this.modes = new KeyboardModes(() => terminal.buffer.active.type);
    this.modes.watch(terminal.parser);
  }

  /** Whether a key event was dealt with here: xterm must leave it alone. */
  takes(event: KeyboardEvent): boolean {
    if (event.type === 'keypress') return false;
    const sends = encodeKey(event, this.modes.flags, MAC) ?? this.#ownOf(event);
    if (sends === null) return false;
    event.preventDefault();
    this.#terminal.input(sends);
    return true;
  }

  /** Holds modifiers for the next key. */
  hold(held: Held): void {
    this.#held = held;
  }

  /** What a key without a keyboard sends: `Escape`, `Tab`, `ArrowUp`, or a character. */
  press(key: string): void {
    const held = this.#release();
    const special = key.startsWith('Arrow') && !held.ctrl && !held.alt && this.modes.flags === 0;
    if (special && this.#terminal.modes.applicationCursorKeysMode)
      return this.#terminal.input(`\u001bO${ARROWS[key] ?? ''}`);
    // Without a protocol only the form of the arrows is kitty's: it is xterm's as well.
    const flags = this.modes.flags || (key.startsWith('Arrow') ? 1 : 0);
    const sends = encodeKey(deckKey(key, held), flags) ?? LEGACY[key] ?? key;
    this.#terminal.input(held.alt && flags === 0 ? `\u001b${sends}` : sends);
  }

  /** What typed text becomes with the modifiers that are held. */
  withHeld(data: string): string {
    if ((!this.#held.ctrl && !this.#held.alt) || Array.from(data).length !== 1) return data;
    const held = this.#release();
    const encoded = encodeKey(deckKey(data, held), this.modes.flags);
    if (encoded !== null) return encoded;
    const code = data.toUpperCase().charCodeAt(0);
    // @ to _ have a control character, and so has the space, which stands for @.
    const control = code === 32 ? 0 : code >= 64 && code < 96 ? code - 64 : null;
    const typed = held.ctrl && control !== null ? String.fromCharCode(control) : data;
    return held.alt ? `\u001b${typed}` : typed;
  }

  #release(): Held {
    const held = this.#held;
    this.#held = NONE;
    if (held.ctrl || held.alt) this.released();
    return held;
  }

  #ownOf(event: KeyboardEvent): string | null {
    const { key, type, shiftKey, altKey, ctrlKey, metaKey, isComposing } = event;
    const plain = shiftKey && !altKey && !ctrlKey && !metaKey && !isComposing;
    return key === 'Enter' && type === 'keydown' && plain ? NEW_LINE[this.#shiftEnter()] : null;
  }
}

const ARROWS: Readonly<Record<string, string>> = {
  ArrowUp: 'A',
  ArrowDown: 'B',
  ArrowRight: 'C',
  ArrowLeft: 'D',
};

function deckKey(key: string, { ctrl, alt }: Held): KeyInput {
  return {
    type: 'keydown',
    key,
    code: '',
    repeat: false,
    isComposing: false,
    shiftKey: false,
    altKey: alt,
    ctrlKey: ctrl,
    metaKey: false,
  };
}
