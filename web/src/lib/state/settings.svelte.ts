/**
 * How terminals look and behave. Each setting has a default, may be set in the account, and may be set otherwise on this
 * device. {@link FIELDS} is all there is to know of them: their values are checked by it, and the page is made from it.
 */
import { preferences } from './preferences.svelte';

interface Common {
  readonly section: Section;
  readonly label: string;
  readonly help?: string;
}
/** One of a few. */
export interface ChoiceField extends Common {
  readonly kind: 'choice';
  readonly options: readonly { readonly value: string; readonly label: string }[];
  readonly fallback: string;
}
/** A number. */
export interface AmountField extends Common {
  readonly kind: 'amount';
  readonly unit: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly fallback: number;
}
/** Yes or no. */
export interface ToggleField extends Common {
  readonly kind: 'toggle';
  readonly fallback: boolean;
}
/** Words. */
export interface TextField extends Common {
  readonly kind: 'text';
  readonly pattern: RegExp;
  readonly example: string;
  readonly fallback: string;
}
export type Field = ChoiceField | AmountField | ToggleField | TextField;

/** The parts of the page. */
export const SECTIONS = {
  look: 'Look',
  typing: 'Typing',
  clipboard: 'Clipboard',
  notice: 'Notifications',
} as const;
export type Section = keyof typeof SECTIONS;

export const FIELDS = {
  colours: {
    kind: 'choice',
    section: 'look',
    label: 'Colours',
    options: [
      { value: 'rexec', label: 'Rexec' },
      { value: 'catppuccin', label: 'Catppuccin' },
      { value: 'dracula', label: 'Dracula' },
      { value: 'gruvbox', label: 'Gruvbox' },
      { value: 'nord', label: 'Nord' },
      { value: 'solarized', label: 'Solarized' },
    ],
    help: 'Schemes with a light half follow the theme; Dracula and Nord are dark.',
    fallback: 'rexec',
  },
  fontFamily: {
    kind: 'text',
    section: 'look',
    label: 'Font',
    help: 'A monospaced font installed on this device. Empty: JetBrains Mono, which comes with the page.',
    pattern: /^[\p{L}\p{N} ._-]{0,64}$/u,
    example: 'Fira Code',
    fallback: '',
  },
  // 13.5: the WebGL renderer cuts cells to whole pixels, and 13.5 makes 8.1, which loses little.
  fontSize: {
    kind: 'amount',
    section: 'look',
    label: 'Font size',
    unit: 'px',
    min: 8,
    max: 32,
    step: 0.5,
    fallback: 13.5,
  },
  lineHeight: {
    kind: 'amount',
    section: 'look',
    label: 'Line height',
    unit: '×',
    min: 1,
    max: 2,
    step: 0.05,
    fallback: 1.2,
  },
  cursor: {
    kind: 'choice',
    section: 'look',
    label: 'Cursor',
    options: [
      { value: 'block', label: 'Block' },
      { value: 'bar', label: 'Bar' },
      { value: 'underline', label: 'Underline' },
    ],
    help: 'Programs may change it while they run.',
    fallback: 'block',
  },
  cursorBlink: { kind: 'toggle', section: 'look', label: 'Blinking cursor', fallback: true },
  contrast: {
    kind: 'toggle',
    section: 'look',
    label: 'Keep text legible',
    help: 'Lifts text to a contrast of 4.5 : 1, whatever colours a program puts on each other.',
    fallback: true,
  },
  scrollback: {
    kind: 'amount',
    section: 'look',
    label: 'Scrollback',
    help: 'Lines kept in this page. A machine keeps up to 5,000 for whoever comes back.',
    unit: 'lines',
    min: 0,
    max: 100_000,
    step: 1_000,
    fallback: 10_000,
  },
  screenReader: {
    kind: 'toggle',
    section: 'look',
    label: 'Screen reader',
    help: 'Reads out what is printed, and lets its lines be walked through.',
    fallback: false,
  },
  echo: {
    kind: 'choice',
    section: 'typing',
    label: 'Predictive echo',
    options: [
      { value: 'auto', label: 'Auto' },
      { value: 'always', label: 'Always' },
      { value: 'never', label: 'Never' },
    ],
    help: 'Typed text at once, underlined until the machine confirms it. Auto: from 30 ms on.',
    fallback: 'auto',
  },
  shiftEnter: {
    kind: 'choice',
    section: 'typing',
    label: 'Shift + Enter sends',
    options: [
      { value: 'line-feed', label: 'Line feed' },
      { value: 'escape', label: 'Esc, Enter' },
      { value: 'enter', label: 'Enter' },
    ],
    help: 'A line feed is a new line to AI assistants in the terminal and runs the line in shells. Programs that know the kitty keyboard protocol get the key itself.',
    fallback: 'line-feed',
  },
  paletteKey: {
    kind: 'choice',
    section: 'typing',
    label: 'Command palette',
    options: [
      { value: 'mod+k', label: 'Ctrl K, ⌘ K' },
      { value: 'mod+shift+p', label: 'Ctrl Shift P, ⌘ Shift P' },
    ],
    help: 'Pressed twice in a terminal, Ctrl K is the shell’s.',
    fallback: 'mod+k',
  },
  copyOnSelect: {
    kind: 'toggle',
    section: 'clipboard',
    label: 'Copy what is selected',
    fallback: false,
  },
  programCopies: {
    kind: 'choice',
    section: 'clipboard',
    label: 'Programs that copy',
    options: [
      { value: 'ask', label: 'Ask' },
      { value: 'never', label: 'Never' },
    ],
    help: 'A program may offer text for the clipboard (OSC 52). None can ever read it.',
    fallback: 'ask',
  },
  bell: {
    kind: 'choice',
    section: 'notice',
    label: 'Bell',
    options: [
      { value: 'flash', label: 'Flash' },
      { value: 'sound', label: 'Sound' },
      { value: 'off', label: 'Off' },
    ],
    fallback: 'flash',
  },
  finishedAfter: {
    kind: 'amount',
    section: 'notice',
    label: 'Tell when a command ends that took',
    help: 'Only of terminals that nobody looks at, and of shells that mark their commands. 0: never.',
    unit: 'seconds or more',
    min: 0,
    max: 3_600,
    step: 5,
    fallback: 10,
  },
} as const satisfies Record<string, Field>;

type ValueOf<F extends Field> = F extends ChoiceField
  ? F['options'][number]['value']
  : F extends AmountField
    ? number
    : F extends ToggleField
      ? boolean
      : string;

export type Key = keyof typeof FIELDS;
export type Settings = { readonly [K in Key]: ValueOf<(typeof FIELDS)[K]> };
/** Where a setting holds. */
export type Layer = 'account' | 'device';

export const KEYS = Object.keys(FIELDS) as Key[];
export const DEFAULTS = Object.fromEntries(
  KEYS.map((key) => [key, FIELDS[key].fallback]),
) as unknown as Settings;

/** The preference that holds the account's. */
const PREFERENCE = 'terminal';
const STORED = 'rexec.settings';

/** What is wrong with a value; null: nothing. */
export function wrongWith(key: Key, value: unknown): string | null {
  const field: Field = FIELDS[key];
  switch (field.kind) {
    case 'toggle':
      return typeof value === 'boolean' ? null : 'yes or no';
    case 'choice':
      return field.options.some((option) => option.value === value)
        ? null
        : 'not one of the choices';
    case 'text':
      return typeof value === 'string' && field.pattern.test(value)
        ? null
        : 'letters, digits, spaces, dots and dashes, at most 64';
    case 'amount': {
      const fine = typeof value === 'number' && value >= field.min && value <= field.max;
      return fine ? null : `from ${field.min} to ${field.max}`;
    }
  }
}

/** What of a stored value is settings; the rest is as if it were not there. */
export function parseSettings(value: unknown): Partial<Settings> {
  if (typeof value !== 'object' || value === null) return {};
  const found = value as Record<string, unknown>;
  return Object.fromEntries(
    KEYS.filter((key) => key in found && wrongWith(key, found[key]) === null).map((key) => [
      key,
      found[key],
    ]),
  );
}

export class SettingsStore {
  /** What this device sets otherwise. */
  device: Partial<Settings> = $state.raw(stored());
  readonly account: Partial<Settings> = $derived(parseSettings(preferences.values[PREFERENCE]));
  readonly value: Settings = $derived({ ...DEFAULTS, ...this.account, ...this.device });

  constructor() {
    addEventListener('storage', ({ key }) => {
      if (key === STORED || key === null) this.device = stored();
    });
  }

  /** Sets one; `undefined`, or what holds without it, leaves it to the layer below. */
  set<K extends Key>(layer: Layer, key: K, value: Settings[K] | undefined): void {
    const below = layer === 'device' ? { ...DEFAULTS, ...this.account } : DEFAULTS;
    const { [key]: _before, ...rest } = this[layer];
    const next = value === undefined || value === below[key] ? rest : { ...rest, [key]: value };
    if (layer === 'account') preferences.set(PREFERENCE, next);
    else this.#keep(next as Partial<Settings>);
  }

  #keep(next: Partial<Settings>): void {
    this.device = next;
    try {
      localStorage.setItem(STORED, JSON.stringify(next));
    } catch {
      // Storage may be forbidden; the choice then lasts until the page is closed.
    }
  }
}

function stored(): Partial<Settings> {
  try {
    return parseSettings(JSON.parse(localStorage.getItem(STORED) ?? '{}'));
  } catch {
    return {};
  }
}

export const settings = new SettingsStore();
