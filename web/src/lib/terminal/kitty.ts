/**
 * kitty's keyboard protocol (https://sw.kovidgoyal.net/kitty/keyboard-protocol/): a program that switches it on is told which
 * key was pressed, not only which character it makes. {@link KeyboardModes} follows what programs switch on; the session host
 * answers their queries from its own screen. {@link encodeKey} is pure.
 */
import type { IDisposable, IParser } from '@xterm/xterm';

/** Progressive enhancements. */
export const DISAMBIGUATE = 1;
export const EVENTS = 2;
export const ALTERNATES = 4;
export const ALL_KEYS = 8;
export const TEXT = 16;
const KNOWN = DISAMBIGUATE | EVENTS | ALTERNATES | ALL_KEYS | TEXT;

/** The protocol asks for a bound, and says that the oldest entry goes. */
const DEPTH_MAX = 32;

/** What is switched on, for the main and for the alternate screen. */
export class KeyboardModes {
  readonly #stacks = { normal: [] as number[], alternate: [] as number[] };
  readonly #screen: () => 'normal' | 'alternate';

  constructor(screen: () => 'normal' | 'alternate') {
    this.#screen = screen;
  }

  /** What is switched on now. */
  get flags(): number {
    return this.#stack.at(-1) ?? 0;
  }

  /** Listens to programs. The query is the host's to answer; see `queries.ts`. */
  watch(parser: IParser): IDisposable[] {
    const number = (param: number | number[] | undefined, otherwise: number) =>
      typeof param === 'number' && param > 0 ? param : otherwise;
    return [
      parser.registerCsiHandler({ prefix: '>', final: 'u' }, ([flags]) =>
        this.#push(number(flags, 0)),
      ),
      parser.registerCsiHandler({ prefix: '<', final: 'u' }, ([count]) =>
        this.#pop(number(count, 1)),
      ),
      parser.registerCsiHandler({ prefix: '=', final: 'u' }, ([flags, how]) =>
        this.#set(number(flags, 0), number(how, 1)),
      ),
      parser.registerEscHandler({ final: 'c' }, () => {
        this.reset();
        return false;
      }),
    ];
  }

  /** Nothing is switched on any more. */
  reset(): void {
    this.#stacks.normal.length = 0;
    this.#stacks.alternate.length = 0;
  }

  get #stack(): number[] {
    return this.#stacks[this.#screen()];
  }

  #push(flags: number): boolean {
    this.#stack.push(flags & KNOWN);
    if (this.#stack.length > DEPTH_MAX) this.#stack.shift();
    return true;
  }

  #pop(count: number): boolean {
    const stack = this.#stack;
    stack.length = Math.max(0, stack.length - count);
    return true;
  }

  #set(flags: number, how: number): boolean {
    const stack = this.#stack;
    const before = stack.pop() ?? 0;
    const after = how === 2 ? before | flags : how === 3 ? before & ~flags : flags;
    stack.push(after & KNOWN);
    return true;
  }
}

/** The part of a keyboard event that decides. */
export type KeyInput = Pick<
  KeyboardEvent,
  'type' | 'key' | 'code' | 'repeat' | 'shiftKey' | 'altKey' | 'ctrlKey' | 'metaKey' | 'isComposing'
> & { getModifierState?: (name: string) => boolean };

/** Keys with a number and the `u` form. */
const NUMBERED: Readonly<Record<string, number>> = {
  Escape: 27,
  Enter: 13,
  Tab: 9,
  Backspace: 127,
  CapsLock: 57358,
  ScrollLock: 57359,
  NumLock: 57360,
  PrintScreen: 57361,
  Pause: 57362,
  ContextMenu: 57363,
};

/** Keys with a letter: `CSI letter`, or `CSI 1 ; modifiers letter`. */
const LETTERED: Readonly<Record<string, string>> = {
  ArrowUp: 'A',
  ArrowDown: 'B',
  ArrowRight: 'C',
  ArrowLeft: 'D',
  End: 'F',
  Home: 'H',
  F1: 'P',
  F2: 'Q',
  F4: 'S',
};

/** Keys with a number and a tilde. */
const TILDED: Readonly<Record<string, number>> = {
  Insert: 2,
  Delete: 3,
  PageUp: 5,
  PageDown: 6,
  F3: 13,
  F5: 15,
  F6: 17,
  F7: 18,
  F8: 19,
  F9: 20,
  F10: 21,
  F11: 23,
  F12: 24,
};

/** Modifiers as keys of their own, by their place. */
const MODIFIER_KEYS: Readonly<Record<string, number>> = {
  ShiftLeft: 57441,
  ControlLeft: 57442,
  AltLeft: 57443,
  MetaLeft: 57444,
  ShiftRight: 57447,
  ControlRight: 57448,
  AltRight: 57449,
  MetaRight: 57450,
};

/** What a place of the keyboard types without Shift where the key says only what it types with it (US; others say it by `key`). */
const UNSHIFTED: Readonly<Record<string, string>> = {
  Backquote: '`',
  Minus: '-',
  Equal: '=',
  BracketLeft: '[',
  BracketRight: ']',
  Backslash: '\\',
  Semicolon: ';',
  Quote: "'",
  Comma: ',',
  Period: '.',
  Slash: '/',
};

/** What a key press or release sends under these flags; null: what it always sends, or nothing. */
export function encodeKey(input: KeyInput, flags: number, mac = false): string | null {
  if (flags === 0 || input.isComposing || input.key === 'Dead' || input.key === 'Process')
    return null;
  const released = input.type === 'keyup';
  if (released && !(flags & EVENTS)) return null;
  const event = released ? 3 : input.repeat ? 2 : 1;
  const mods = modifiersOf(input, (flags & ALL_KEYS) !== 0);
  const kind = (flags & EVENTS) !== 0 && event !== 1 ? `:${event}` : '';
  // 1 stands for no modifier; it is written only where something follows it.
  const given = mods !== 1 || kind !== '' ? `${mods}${kind}` : '';

  const letter = LETTERED[input.key];
  if (letter !== undefined) return given === '' ? `\u001b[${letter}` : `\u001b[1;${given}${letter}`;
  const tilded = TILDED[input.key];
  if (tilded !== undefined) return `\u001b[${tilded}${given === '' ? '' : `;${given}`}~`;
  const modifier = MODIFIER_KEYS[input.code];
  if (modifier !== undefined) return flags & ALL_KEYS ? numbered(modifier, given, '') : null;
  const named = NUMBERED[input.key];
  if (named !== undefined)
    return keepsItsByte(input.key, flags, released, mods) ? null : numbered(named, given, '');
  return character(input, { flags, mods, given, released, mac });
}

/** Enter, Tab and Backspace alone stay what they are, so that a shell can be saved by typing `reset`. */
function keepsItsByte(key: string, flags: number, released: boolean, mods: number): boolean {
  if (flags & ALL_KEYS || !['Enter', 'Tab', 'Backspace'].includes(key)) return false;
  return released || mods === 1;
}

interface Context {
  readonly flags: number;
  readonly mods: number;
  readonly given: string;
  readonly released: boolean;
  readonly mac: boolean;
}

/** A key that types a character. */
function character(input: KeyInput, { flags, mods, given, released, mac }: Context): string | null {
  if (Array.from(input.key).length !== 1) return null;
  // What ⌥ or AltGr makes is text.
  const composed =
    (mac && input.altKey && !input.ctrlKey) || input.getModifierState?.('AltGraph') === true;
  const text = composed || !(input.altKey || input.ctrlKey || input.metaKey);
  if (text && !(flags & ALL_KEYS)) return null;
  const base = unshifted(input);
  const code = base.codePointAt(0) ?? 0;
  const shifted = input.shiftKey && input.key !== base ? `:${input.key.codePointAt(0)}` : '';
  const alternate = flags & ALTERNATES ? shifted : '';
  const typed =
    flags & TEXT && flags & ALL_KEYS && text && !released ? `;${input.key.codePointAt(0)}` : '';
  return numbered(code, given === '' && typed !== '' ? String(mods) : given, typed, alternate);
}

function numbered(code: number, given: string, typed: string, alternate = ''): string {
  return `\u001b[${code}${alternate}${given === '' ? '' : `;${given}`}${typed}u`;
}

function unshifted({ key, code, shiftKey }: KeyInput): string {
  const lower = key.toLowerCase();
  if (!shiftKey || lower !== key) return lower;
  return /^Digit(\d)$/.exec(code)?.[1] ?? UNSHIFTED[code] ?? lower;
}

/** 1 plus a bit for each. A lock says nothing to a program that does not want every key. */
function modifiersOf(input: KeyInput, locks: boolean): number {
  const lock = (name: string, bit: number) => (locks && input.getModifierState?.(name) ? bit : 0);
  return (
    1 +
    (input.shiftKey ? 1 : 0) +
    (input.altKey ? 2 : 0) +
    (input.ctrlKey ? 4 : 0) +
    (input.metaKey ? 8 : 0) +
    lock('CapsLock', 64) +
    lock('NumLock', 128)
  );
}
