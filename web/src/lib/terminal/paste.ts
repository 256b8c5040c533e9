/** What may be pasted into a terminal, and what deserves a question first (THREATS OUT-08). */

/** A paste as it would be typed. */
export interface Paste {
  /** Without bracket ends and without controls other than tab and line ends. */
  readonly text: string;
  /** Lines it would enter. */
  readonly lines: number;
  /** Whether something was taken out of it. */
  readonly cleaned: boolean;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: controls are what this is about
const BRACKETS = /\u001b\[20[01]~/g;
// C0 but tab, line feed and carriage return; DEL; C1.
// biome-ignore lint/suspicious/noControlCharactersInRegex: controls are what this is about
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;

/** Makes a text safe to paste: nothing in it can end bracketed paste or act as a key. */
export function preparePaste(raw: string): Paste {
  const text = raw.replaceAll(BRACKETS, '').replaceAll(CONTROLS, '');
  const lines = text.replaceAll('\r\n', '\n').split(/[\r\n]/).length;
  return { text, lines, cleaned: text !== raw };
}

/** Whether to ask first: each line end would run a command, because the program does not know that it is a paste. */
export function needsConsent({ lines }: Paste, bracketed: boolean): boolean {
  return lines > 1 && !bracketed;
}
