// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { actionOf, isPasteKey, type KeyPress } from './keys';

/** `ctrl+shift+KeyT` as a key press; what it types is the digit on it, or named. */
function press(keys: string, key?: string): KeyPress {
  const parts = keys.split('+');
  const code = parts.pop() ?? '';
  return {
    code,
    key: key ?? code.replace('Digit', ''),
    ctrlKey: parts.includes('ctrl'),
    shiftKey: parts.includes('shift'),
    altKey: parts.includes('alt'),
    metaKey: parts.includes('meta'),
  };
}

describe('keys of the workspace', () => {
  it.each([
    ['ctrl+shift+KeyT', { do: 'new' }],
    ['alt+shift+KeyT', { do: 'new' }],
    ['ctrl+shift+KeyW', { do: 'close' }],
    ['alt+shift+KeyW', { do: 'close' }],
    ['ctrl+PageDown', { do: 'next' }],
    ['ctrl+PageUp', { do: 'previous' }],
    ['alt+Digit1', { do: 'select', index: 0 }],
    ['alt+Digit9', { do: 'select', index: 8 }],
    ['ctrl+shift+KeyF', { do: 'find' }],
    ['ctrl+shift+KeyC', { do: 'copy' }],
    ['ctrl+F6', { do: 'leave' }],
    ['ctrl+shift+Slash', { do: 'help' }],
  ])('%s acts', (keys, action) => {
    expect(actionOf(press(keys))).toEqual(action);
  });

  it.each([
    'KeyA',
    'ctrl+KeyC',
    'ctrl+KeyW',
    'ctrl+KeyT',
    'ctrl+KeyF',
    'alt+KeyB',
    'alt+Digit0',
    'shift+PageUp',
    'PageDown',
    'F6',
    'ctrl+alt+Digit1',
    'meta+KeyC',
    'ctrl+shift+KeyV',
  ])('%s is left to the terminal', (keys) => {
    expect(actionOf(press(keys))).toBeNull();
  });

  it('a layout on which Alt and a digit type something keeps it', () => {
    expect(actionOf(press('alt+Digit5', '∞'))).toBeNull();
    expect(actionOf(press('alt+Digit7', '|'))).toBeNull();
  });

  it('the paste key is left to the browser', () => {
    expect(isPasteKey(press('ctrl+shift+KeyV'))).toBe(true);
    expect(isPasteKey(press('ctrl+KeyV'))).toBe(false);
  });
});
