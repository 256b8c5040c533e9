/** The terminal of the landing page: shows, and takes nothing. */
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { Cast } from '$lib/recordings/cast';
import type { Player } from '$lib/recordings/replay';
import { DEFAULTS } from '$lib/state/settings.svelte';
import { lookOf } from '../terminal/look';
import '../terminal/terminal.css';
import { readColours } from '../terminal/theme';

/** Smallest and largest font that still looks like a terminal, px. */
const [FONT_MIN, FONT_MAX] = [6, 15];

/** Puts it into `place`; its colours are those of `space`. */
export function stage(space: HTMLElement, place: HTMLElement, { cols, rows }: Cast) {
  const options = {
    ...lookOf(DEFAULTS),
    disableStdin: true,
    cursorInactiveStyle: 'block',
  } as const;
  const terminal = new Terminal({ ...options, cols, rows, theme: readColours(space).theme });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(place);
  const observer = new ResizeObserver(() => {
    // The font that makes exactly its columns.
    const room = fit.proposeDimensions();
    const now = terminal.options.fontSize ?? FONT_MAX;
    if (!room || !Number.isFinite(room.cols)) return;
    const font = Math.floor(((now * room.cols) / cols) * 4) / 4;
    terminal.options.fontSize = Math.min(FONT_MAX, Math.max(FONT_MIN, font));
  });
  observer.observe(place);
  const player: Player = {
    clear: () => terminal.reset(),
    write: (text) => terminal.write(text),
  };
  return {
    ...player,
    colour: () => {
      terminal.options.theme = readColours(space).theme;
    },
    close: () => {
      observer.disconnect();
      terminal.dispose();
    },
  };
}
