/**
 * The one table of close codes (`shared/src/close.rs`): `Error` frames carry the name, WebSocket
 * closes carry 4000 + the number.
 */

/** What to do after a close: at once, after a jittered backoff, at once with a new ticket, or nothing. */
export type Retry = 'now' | 'backoff' | 'ticket' | 'never';

/** Whose doing a close is. */
export type Fault =
  | 'nobody'
  | 'peer'
  | 'viewer'
  | 'owner'
  | 'agent'
  | 'machine'
  | 'network'
  | 'operator'
  | 'rexec';

/** One row of the table. */
export interface CloseCode {
  readonly number: number;
  readonly name: string;
  readonly fault: Fault;
  readonly retry: Retry;
}

function row(number: number, name: string, fault: Fault, retry: Retry): CloseCode {
  return Object.freeze({ number, name, fault, retry });
}

/** Every code, in the order of the table. */
export const CLOSE_CODES = [
  row(0, 'done', 'nobody', 'never'),
  row(1, 'protocol_error', 'peer', 'never'),
  row(2, 'bad_ticket', 'viewer', 'ticket'),
  row(3, 'ticket_expired', 'viewer', 'ticket'),
  row(4, 'ticket_used', 'viewer', 'ticket'),
  row(5, 'forbidden', 'viewer', 'never'),
  row(6, 'revoked', 'owner', 'never'),
  row(7, 'machine_offline', 'machine', 'backoff'),
  row(8, 'tunnel_lost', 'network', 'now'),
  row(9, 'displaced', 'agent', 'never'),
  row(10, 'draining', 'operator', 'now'),
  row(11, 'session_not_found', 'viewer', 'never'),
  row(12, 'limit_reached', 'viewer', 'backoff'),
  row(13, 'too_slow', 'peer', 'now'),
  row(14, 'overloaded', 'operator', 'backoff'),
  row(15, 'internal', 'rexec', 'backoff'),
  row(16, 'feed_stale', 'operator', 'backoff'),
  row(17, 'wrong_installation', 'agent', 'never'),
  row(18, 'host_unavailable', 'machine', 'backoff'),
  row(19, 'port_closed', 'machine', 'backoff'),
] as const satisfies readonly CloseCode[];

const WEBSOCKET_BASE = 4000;

/** The row of a name received, or nothing for a name of a newer peer. */
export function closeCodeByName(name: string): CloseCode | undefined {
  return CLOSE_CODES.find((code) => code.name === name);
}

/** The row of a WebSocket close code; nothing for the browser's own (1006: the network, mostly). */
export function closeCodeOfWebSocket(code: number): CloseCode | undefined {
  return CLOSE_CODES.find(({ number }) => WEBSOCKET_BASE + number === code);
}

/** The WebSocket close code that says this. */
export function webSocketCode(code: CloseCode): number {
  return WEBSOCKET_BASE + code.number;
}
