/** What keys send that are not what xterm would send: Shift+Enter, and kitty's protocol. */
import type { Terminal } from '@xterm/xterm';
import { encodeKey, KeyboardModes } from './kitty';

/** What Shift+Enter sends. */
export type ShiftEnter = 'line-feed' | 'escape' | 'enter';

const NEW_LINE: Readonly<Record<ShiftEnter, string>> = {
  'line-feed': '\n',
  escape: '\u001b\r',
  enter: '\r',
};

/** ⌥ makes characters there. */
const MAC = /^Mac|^iP/.test(navigator.platform);

export class Keyboard {
  readonly modes: KeyboardModes;
  readonly #terminal: Terminal;
  readonly #shiftEnter: () => ShiftEnter;

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

  #ownOf(event: KeyboardEvent): string | null {
    const { key, type, shiftKey, altKey, ctrlKey, metaKey, isComposing } = event;
    const plain = shiftKey && !altKey && !ctrlKey && !metaKey && !isComposing;
    return key === 'Enter' && type === 'keydown' && plain ? NEW_LINE[this.#shiftEnter()] : null;
  }
}
