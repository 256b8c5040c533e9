/** One connection to a broker, whatever carries it: a byte stream each way, and how it ended. */
import type { Bytes } from './bytes';

/** What carries a viewer's bytes to the broker. */
export type Carrier = 'WebTransport' | 'WebSocket';

/** Who hears of a transport. Nothing is said before it is asked to listen, and nothing after `closed`. */
export interface Listener {
  opened(): void;
  received(bytes: Bytes): void;
  /** As a WebSocket closes: 4000 and the number of a close code, or the browser's own. */
  closed(code: number, reason: string): void;
}

/** A transport that is being opened, or is open. */
export interface Transport {
  readonly carrier: Carrier;
  listener: Listener;
  /** Sends, once it is open. What waits to be sent is bounded by the viewer's window of input. */
  send(bytes: Bytes): void;
  /** Leaves: what was sent is still delivered, the listener hears nothing more. */
  close(): void;
}

/** The browser's own word for a connection that went without a close. */
export const ABNORMAL_CLOSURE = 1006;

/** A listener that hears nothing. */
export const DEAF: Listener = { opened() {}, received() {}, closed() {} };
