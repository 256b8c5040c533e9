/** What is typed, as far as a guess about its echo goes. */
import { utf8 } from '../protocol/bytes';

/** One key. `end` is the sequence number after its bytes. `other`: what it does is anybody's guess. */
export type Keystroke = { readonly end: number } & (
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'erase' | 'left' | 'right' | 'other' }
);

/** Characters at once that are still typing, not a paste. */
const TYPED_MAX = 32;

/** Latin, Greek and Cyrillic letters, digits and signs: each fills one cell, by itself. All others are not guessed. */
const PLAIN = /^[\u0020-\u007e\u00a1-\u00ac\u00ae-\u02ff\u0370-\u0482\u048a-\u052f]$/;

// biome-ignore lint/suspicious/noControlCharactersInRegex: arrow keys are escape sequences
const KEYS = /\u001b[[O]([CD])|\u001b(?:\[[0-?]*[ -/]*[@-~]|O?.)?|./gsu;

/** The keys of what xterm says was typed, of which the last byte has the number `end − 1`. */
export function keystrokes(data: string, end: number): Keystroke[] {
  const keys = [...data.matchAll(KEYS)];
  if (keys.length > TYPED_MAX) return [{ kind: 'other', end }];
  let at = end - utf8(data).length;
  return keys.map(([text, arrow]) => {
    at += utf8(text).length;
    return keystroke(text, arrow, at);
  });
}

function keystroke(text: string, arrow: string | undefined, end: number): Keystroke {
  if (arrow) return { kind: arrow === 'C' ? 'right' : 'left', end };
  if (text === '\u007f') return { kind: 'erase', end };
  return PLAIN.test(text) ? { kind: 'text', text, end } : { kind: 'other', end };
}
