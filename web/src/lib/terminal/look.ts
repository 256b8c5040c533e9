/** How a terminal looks and behaves, in xterm's words. */
import type { ITerminalOptions } from '@xterm/xterm';
import type { Settings } from '$lib/state/settings.svelte';
import { FONT_FAMILY } from './font';

/** WCAG AA for text. */
const CONTRAST_AA = 4.5;

/** The options that settings decide. */
export function lookOf(settings: Settings) {
  return {
    cursorBlink: settings.cursorBlink,
    cursorStyle: settings.cursor,
    fontFamily: familyOf(settings.fontFamily),
    fontSize: settings.fontSize,
    lineHeight: settings.lineHeight,
    minimumContrastRatio: settings.contrast ? CONTRAST_AA : 1,
    screenReaderMode: settings.screenReader,
    scrollback: settings.scrollback,
  } satisfies ITerminalOptions;
}

/** A font of this device before those that are always there. */
function familyOf(name: string): string {
  return name.trim() === '' ? FONT_FAMILY : `"${name.trim()}", ${FONT_FAMILY}`;
}
