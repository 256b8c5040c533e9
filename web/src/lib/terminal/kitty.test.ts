// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { encodeKey, type KeyInput } from './kitty';

/** `ctrl+shift+Enter`, `Digit1=!` for a place that types another character. */
function press(keys: string, more: Partial<KeyInput> = {}): KeyInput {
  const parts = keys.split('+');
  const [code = '', typed] = (parts.pop() ?? '').split('=');
  return {
    type: 'keydown',
    code,
    key:
      typed ??
      code.replace(/^(Key|Digit)/, '').replace(/^([A-Z])$/, (letter) => letter.toLowerCase()),
    repeat: false,
    isComposing: false,
    shiftKey: parts.includes('shift'),
    altKey: parts.includes('alt'),
    ctrlKey: parts.includes('ctrl'),
    metaKey: parts.includes('meta'),
    ...more,
  };
}

const ESC = '\u001b';

// From the tables of https://sw.kovidgoyal.net/kitty/keyboard-protocol/.
describe('kitty keyboard protocol', () => {
  it.each([
    ['KeyA', null],
    ['shift+KeyA=A', null],
    ['Enter', null],
    ['Tab', null],
    ['Backspace', null],
    ['Escape', `${ESC}[27u`],
    ['shift+Enter', `${ESC}[13;2u`],
    ['ctrl+Enter', `${ESC}[13;5u`],
    ['shift+Tab', `${ESC}[9;2u`],
    ['ctrl+Backspace', `${ESC}[127;5u`],
    ['ctrl+KeyC', `${ESC}[99;5u`],
    ['ctrl+shift+KeyC=C', `${ESC}[99;6u`],
    ['alt+KeyB', `${ESC}[98;3u`],
    ['ctrl+shift+Digit1=!', `${ESC}[49;6u`],
    ['ctrl+Slash=/', `${ESC}[47;5u`],
    ['ctrl+KeyI', `${ESC}[105;5u`],
    ['ArrowUp', `${ESC}[A`],
    ['ctrl+ArrowLeft', `${ESC}[1;5D`],
    ['Home', `${ESC}[H`],
    ['Delete', `${ESC}[3~`],
    ['shift+PageUp', `${ESC}[5;2~`],
    ['F1', `${ESC}[P`],
    ['F3', `${ESC}[13~`],
    ['alt+F5', `${ESC}[15;3~`],
    ['ShiftLeft=Shift', null],
  ])('disambiguates %s', (keys, sends) => {
    expect(encodeKey(press(keys), 1)).toBe(sends);
  });

  it('is silent while it is off, while something is composed, and of what only completes', () => {
    expect(encodeKey(press('ctrl+KeyC'), 0)).toBeNull();
    expect(encodeKey(press('KeyA', { isComposing: true }), 31)).toBeNull();
    expect(encodeKey(press('KeyA=Dead'), 31)).toBeNull();
  });

  it('tells repeats and releases where they are wanted', () => {
    const released = { type: 'keyup' } as const;
    expect(encodeKey(press('ctrl+KeyC', released), 1)).toBeNull();
    expect(encodeKey(press('ctrl+KeyC', { repeat: true }), 3)).toBe(`${ESC}[99;5:2u`);
    expect(encodeKey(press('ctrl+KeyC', released), 3)).toBe(`${ESC}[99;5:3u`);
    expect(encodeKey(press('ArrowUp', released), 3)).toBe(`${ESC}[1;1:3A`);
    expect(encodeKey(press('Enter', released), 3)).toBeNull();
    expect(encodeKey(press('Enter', released), 11)).toBe(`${ESC}[13;1:3u`);
  });

  it('reports every key, what else it may be, and its text', () => {
    expect(encodeKey(press('KeyA'), 8)).toBe(`${ESC}[97u`);
    expect(encodeKey(press('Enter'), 8)).toBe(`${ESC}[13u`);
    expect(encodeKey(press('ShiftLeft=Shift'), 8)).toBe(`${ESC}[57441u`);
    expect(encodeKey(press('shift+KeyA=A'), 12)).toBe(`${ESC}[97:65;2u`);
    expect(encodeKey(press('shift+KeyA=A'), 24)).toBe(`${ESC}[97;2;65u`);
    expect(encodeKey(press('KeyA'), 24)).toBe(`${ESC}[97;1;97u`);
  });

  it('what AltGr or ⌥ composes is text', () => {
    const graph = { getModifierState: (name: string) => name === 'AltGraph' };
    expect(encodeKey(press('ctrl+alt+KeyQ=@', graph), 1)).toBeNull();
    expect(encodeKey(press('alt+KeyA=å'), 1, true)).toBeNull();
    expect(encodeKey(press('alt+KeyA=å'), 1)).toBe(`${ESC}[229;3u`);
  });

  it('locks are told only to who wants every key', () => {
    const caps = { getModifierState: (name: string) => name === 'CapsLock' };
    expect(encodeKey(press('ctrl+KeyC', caps), 1)).toBe(`${ESC}[99;5u`);
    expect(encodeKey(press('KeyA=A', caps), 8)).toBe(`${ESC}[97;65u`);
  });
});
