/** Times as a person reads them in a dense row. Pure: the caller brings the clock. */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A span in its two largest units: `42s`, `7m`, `3h 12m`, `6d 4h`. Negative spans (clocks disagree) count as none. */
export function span(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < MINUTE) return `${s}s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)}m`;
  if (s < DAY) return two(s, HOUR, 'h', MINUTE, 'm');
  return two(s, DAY, 'd', HOUR, 'h');
}

/** How long ago: `just now`, `42s ago`, `3h ago`, a date after a month. */
export function ago(iso: string, now: number): string {
  const at = Date.parse(iso);
  if (Number.isNaN(at)) return 'never';
  const s = Math.floor((now - at) / 1000);
  if (s < 5) return 'just now';
  if (s > 30 * DAY) return new Date(at).toLocaleDateString(undefined, { dateStyle: 'medium' });
  return `${span(now - at).split(' ')[0]} ago`;
}

/** Minutes and seconds left until a time, `4:07`; `0:00` when it has passed. */
export function countdown(until: number, now: number): string {
  const s = Math.max(0, Math.ceil((until - now) / 1000));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
}

/** A round trip: two digits matter, no more. */
export function roundTrip(ms: number): string {
  if (ms < 1) return '<1 ms';
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

function two(s: number, large: number, l: string, small: number, m: string): string {
  const rest = Math.floor((s % large) / small);
  const head = `${Math.floor(s / large)}${l}`;
  return rest ? `${head} ${rest}${m}` : head;
}
