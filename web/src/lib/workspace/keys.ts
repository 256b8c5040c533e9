/** The workspace's keys. They are looked at before the terminal sees them, so there are few and all have modifiers. */

import type { Way } from './split';

/** What a key does. */
export type Action =
  | {
      readonly do:
        | 'new'
        | 'close'
        | 'next'
        | 'previous'
        | 'find'
        | 'copy'
        | 'leave'
        | 'help'
        | 'rename'
        | 'split-right'
        | 'split-down'
        | 'broadcast';
    }
  | { readonly do: 'select'; readonly index: number }
  | { readonly do: 'pane'; readonly way: Way }
  | { readonly do: 'prompt'; readonly back: boolean };

/** A key of the page, as the sheet of shortcuts shows it. */
export interface Binding {
  readonly key: string;
  readonly label: string;
}

/** What the sheet lists. Browsers keep some for themselves; each of those has a second form. */
export const BINDINGS: readonly Binding[] = [
  { key: 'Ctrl+Shift+t', label: 'New session on this machine' },
  { key: 'Alt+Shift+t', label: 'New session, second key' },
  { key: 'Ctrl+Shift+w', label: 'Close the tab; its shell goes on' },
  { key: 'Alt+Shift+w', label: 'Close the tab, second key' },
  { key: 'Ctrl+PageDown', label: 'Next tab' },
  { key: 'Ctrl+PageUp', label: 'Previous tab' },
  { key: 'Alt+1…9', label: 'Tab by number' },
  { key: 'Alt+Shift+d', label: 'Split: a new session beside this one' },
  { key: 'Alt+Shift+e', label: 'Split: a new session below this one' },
  { key: 'Alt+Shift+← ↑ ↓ →', label: 'To the next pane that way' },
  { key: 'Alt+Shift+b', label: 'Type in all panes at once, or no longer' },
  { key: 'Alt+Shift+r', label: 'Rename the tab' },
  { key: 'Ctrl+Shift+f', label: 'Find in the terminal' },
  { key: 'Ctrl+Shift+↑ ↓', label: 'To the prompt before, to the next' },
  { key: 'Ctrl+Shift+c', label: 'Copy the selection' },
  { key: 'Ctrl+Shift+v', label: 'Paste' },
  { key: 'Ctrl+F6', label: 'From the terminal to the tabs, and back' },
  { key: 'Ctrl+Shift+/', label: 'This list, also from the terminal' },
];

/** The part of a key press that decides. `code` is the place on the keyboard, whatever it types. */
export type KeyPress = Pick<
  KeyboardEvent,
  'code' | 'key' | 'ctrlKey' | 'shiftKey' | 'altKey' | 'metaKey'
>;

const CTRL_SHIFT: Readonly<Record<string, Action>> = {
  KeyT: { do: 'new' },
  KeyW: { do: 'close' },
  KeyF: { do: 'find' },
  KeyC: { do: 'copy' },
  Slash: { do: 'help' },
  ArrowUp: { do: 'prompt', back: true },
  ArrowDown: { do: 'prompt', back: false },
};

const ALT_SHIFT: Readonly<Record<string, Action>> = {
  KeyT: { do: 'new' },
  KeyW: { do: 'close' },
  KeyR: { do: 'rename' },
  KeyD: { do: 'split-right' },
  KeyE: { do: 'split-down' },
  KeyB: { do: 'broadcast' },
  ArrowLeft: { do: 'pane', way: 'left' },
  ArrowRight: { do: 'pane', way: 'right' },
  ArrowUp: { do: 'pane', way: 'up' },
  ArrowDown: { do: 'pane', way: 'down' },
};

const CTRL: Readonly<Record<string, Action>> = {
  PageDown: { do: 'next' },
  PageUp: { do: 'previous' },
  F6: { do: 'leave' },
};

/** What a key press does to the workspace; null: it is the terminal's. */
export function actionOf(press: KeyPress): Action | null {
  if (press.metaKey) return null;
  switch (modifiers(press)) {
    case 'ctrl+shift':
      return CTRL_SHIFT[press.code] ?? null;
    case 'alt+shift':
      return ALT_SHIFT[press.code] ?? null;
    case 'ctrl':
      return CTRL[press.code] ?? null;
    case 'alt':
      return tabByNumber(press);
    default:
      return null;
  }
}

/** Whether the browser should paste: neither the page's nor the terminal's key. */
export function isPasteKey(press: KeyPress): boolean {
  return press.code === 'KeyV' && modifiers(press) === 'ctrl+shift' && !press.metaKey;
}

function modifiers({ ctrlKey, altKey, shiftKey }: KeyPress): string {
  return [ctrlKey && 'ctrl', altKey && 'alt', shiftKey && 'shift'].filter(Boolean).join('+');
}

/** Alt with a digit types another character on some layouts (⌥5 is ∞): then it is the terminal's. */
function tabByNumber({ code, key }: KeyPress): Action | null {
  const digit = /^Digit([1-9])$/.exec(code)?.[1];
  return digit && digit === key ? { do: 'select', index: Number(digit) - 1 } : null;
}
