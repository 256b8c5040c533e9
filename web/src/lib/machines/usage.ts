/** What a machine uses, in words and as lines. Pure. */

/** One point as control tells it: thousandths of a processor, KiB of memory, KiB received and sent a second, MiB of disk. */
export type Point = readonly number[];

/** The last quarter of an hour of a machine. */
export interface Series {
  cpuMax: number;
  memoryMax: number;
  diskMax: number;
  /** Oldest first; null where none came. */
  points: (Point | null)[];
}

/** Points kept: fifteen minutes of one every five seconds. */
export const POINTS_KEPT = 180;

export const CPU = 0;
export const MEMORY = 1;
export const RECEIVED = 2;
export const SENT = 3;
export const DISK = 4;

/** One of the figures over time. */
export function column(series: Series, which: number): (number | null)[] {
  return series.points.map((point) => point?.[which] ?? null);
}

/** The newest point, unless the last ones are missing. */
export function newest(series: Series | undefined): Point | undefined {
  return series?.points.at(-1) ?? undefined;
}

/** Whole percent of `max`; none where that is not known. */
export function percent(value: number | undefined, max: number): number | undefined {
  if (value === undefined || max <= 0) return undefined;
  return Math.min(100, Math.round((value / max) * 100));
}

/**
 * An SVG path through the values, right-aligned in `slots` places; a gap where there is none. A line needs two points, so a single one is a short dash.
 */
export function linePath(
  values: readonly (number | null)[],
  max: number,
  { width, height, slots = POINTS_KEPT }: { width: number; height: number; slots?: number },
): string {
  const shown = values.slice(-slots);
  const step = width / Math.max(1, slots - 1);
  const first = slots - shown.length;
  const y = (value: number) => {
    const part = max <= 0 ? 0 : Math.min(1, value / max);
    return (height - 1 - part * (height - 2)).toFixed(1);
  };
  let path = '';
  let pen = false;
  for (const [at, value] of shown.entries()) {
    if (value === null) {
      pen = false;
      continue;
    }
    const x = ((first + at) * step).toFixed(1);
    path += pen ? `L${x} ${y(value)}` : `M${x} ${y(value)}h.1`;
    pen = true;
  }
  return path;
}

/** `512 KB`, `3.1 GB`. */
export function size(kib: number): string {
  const units = ['KB', 'MB', 'GB', 'TB', 'PB'];
  let value = kib;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** All of it in one line, for tooltips and readers. */
export function inWords(series: Series): string {
  const point = newest(series);
  if (!point) return 'Nothing told lately';
  const cpus = series.cpuMax / 1000;
  const parts = [
    `CPU ${percent(point[CPU], series.cpuMax) ?? 0} % of ${cpus}`,
    `memory ${size(point[MEMORY] ?? 0)} of ${size(series.memoryMax)}`,
    `in ${size(point[RECEIVED] ?? 0)}/s, out ${size(point[SENT] ?? 0)}/s`,
  ];
  if (series.diskMax > 0) {
    parts.push(`disk ${size((point[DISK] ?? 0) * 1024)} of ${size(series.diskMax * 1024)}`);
  }
  return parts.join(' · ');
}
