/** Numbers for people. */
import { notQuic, type TransportReason } from '$lib/machines/transport';

const KIB = 1024;

/** A count of bytes: `512 B`, `3.2 MiB`. */
export function byteCount(bytes: number): string {
  if (bytes < KIB) return `${bytes} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(Math.floor(Math.log(bytes) / Math.log(KIB)), units.length);
  const value = bytes / KIB ** power;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power - 1]}`;
}

/** A round trip: `0.4 ms`, `23 ms`, `1.2 s`. */
export function roundTrip(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** How long something took: `12 s`, `3 min 20 s`, `2 h 5 min`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** How a round trip feels. */
export function quality(ms: number): 'good' | 'fair' | 'poor' {
  if (ms < 80) return 'good';
  return ms < 250 ? 'fair' : 'poor';
}

/** What carries a machine's tunnel, and why it is not the better one. */
export interface Carrier {
  readonly name: string;
  readonly why: string | null;
}

/** The carrier control names; null for one this page does not know, or none. */
export function carrierOf(
  transport: string | null | undefined,
  reason?: TransportReason,
): Carrier | null {
  if (transport === 'quic') return { name: 'QUIC', why: null };
  if (transport !== 'tcp') return null;
  const why = `TCP — ${notQuic(reason)}. QUIC is tried again by itself.`;
  return { name: 'TLS over TCP', why };
}

/** The part of a round trip that is not the machine's; the two are not measured at the same moment. */
export function restOf(total: number, part: number): string {
  return total - part < 1 ? 'under 1 ms' : `about ${roundTrip(total - part)}`;
}
