/** What carries a machine's tunnel, in an interface's words. */
import type { Machine } from '$lib/api/types';

export type TransportReason = Machine['transport_reason'];

/** Why a tunnel is not over QUIC; the cause comes first, what the agent says of it is in brackets. */
export function notQuic(reason: TransportReason): string {
  const detail = reason?.detail ? ` (${reason.detail})` : '';
  return `${cause(reason)}${detail}`;
}

function cause(reason: TransportReason): string {
  if (reason?.cause === 'udp_silent') return 'no answer over UDP';
  if (reason?.cause === 'quic_failed') return 'no handshake over QUIC';
  return 'UDP does not get through';
}
