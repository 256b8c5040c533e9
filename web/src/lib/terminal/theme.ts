/** The terminal's colours, read from the design tokens (terminal.css) as the browser computes them. */
import type { ITheme } from '@xterm/xterm';

const NAMES = {
  background: '--term-bg',
  foreground: '--term-fg',
  cursor: '--term-cursor',
  cursorAccent: '--term-bg',
  selectionBackground: '--term-selection',
  selectionInactiveBackground: '--term-selection-idle',
  scrollbarSliderBackground: '--term-slider',
  scrollbarSliderHoverBackground: '--term-slider-hover',
  scrollbarSliderActiveBackground: '--term-slider-hover',
  black: '--term-black',
  red: '--term-red',
  green: '--term-green',
  yellow: '--term-yellow',
  blue: '--term-blue',
  magenta: '--term-magenta',
  cyan: '--term-cyan',
  white: '--term-white',
  brightBlack: '--term-bright-black',
  brightRed: '--term-bright-red',
  brightGreen: '--term-bright-green',
  brightYellow: '--term-bright-yellow',
  brightBlue: '--term-bright-blue',
  brightMagenta: '--term-bright-magenta',
  brightCyan: '--term-bright-cyan',
  brightWhite: '--term-bright-white',
} as const satisfies Partial<Record<keyof ITheme, string>>;

/** Colours of found text, in the form xterm's search wants: `#rrggbb`. */
export interface SearchColours {
  readonly matchBackground: string;
  readonly matchOverviewRuler: string;
  readonly activeMatchBackground: string;
  readonly activeMatchColorOverviewRuler: string;
}

/** All colours of a terminal. */
export interface Colours {
  readonly theme: ITheme;
  readonly search: SearchColours;
}

/** The colours as the tokens stand for this element now. */
export function readColours(element: HTMLElement): Colours {
  // A token may be light-dark() or color-mix(): only a computed colour is a colour.
  const probe = document.createElement('span');
  probe.style.display = 'none';
  element.append(probe);
  const style = getComputedStyle(probe);
  const read = (token: string) => {
    probe.style.color = `var(${token})`;
    return style.color;
  };
  const theme = Object.fromEntries(
    Object.entries(NAMES).map(([name, token]) => [name, read(token)]),
  ) as ITheme;
  const [match, now] = [toHex(read('--term-match')), toHex(read('--term-match-now'))];
  probe.remove();
  return {
    theme,
    search: {
      matchBackground: match,
      matchOverviewRuler: match,
      activeMatchBackground: now,
      activeMatchColorOverviewRuler: now,
    },
  };
}

/** `rgb(1, 2, 3)`, as browsers compute colours, in hexadecimal. */
export function toHex(computed: string): string {
  const parts = computed.match(/\d+/g)?.slice(0, 3) ?? ['0', '0', '0'];
  return `#${parts.map((part) => Number(part).toString(16).padStart(2, '0')).join('')}`;
}
