/** Which rows of a long list are worth making: those on the screen and some around. Pure. */

/** Lists up to here are made whole: the browser's own find works in them, and they cost little. */
const WHOLE_MAX = 60;
/** Rows made beyond each edge of the screen. */
const OVERSCAN = 12;

export interface ListView {
  total: number;
  /** Height of each row, pixels. */
  height: number;
  /** How far the list's top is above the top of the screen, pixels; negative when below. */
  top: number;
  /** Height of the screen, pixels. */
  viewport: number;
}

export interface RowWindow {
  from: number;
  /** One past the last row. */
  to: number;
  /** Heights of what is left out, pixels. */
  before: number;
  after: number;
}

export function rowWindow({ total, height, top, viewport }: ListView): RowWindow {
  if (total <= WHOLE_MAX || height <= 0) return { from: 0, to: total, before: 0, after: 0 };
  const from = clamp(Math.floor(top / height) - OVERSCAN, 0, total);
  const to = clamp(Math.ceil((top + viewport) / height) + OVERSCAN, from, total);
  return { from, to, before: from * height, after: (total - to) * height };
}

function clamp(value: number, least: number, most: number): number {
  return Math.max(least, Math.min(most, value));
}
