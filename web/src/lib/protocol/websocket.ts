/** A WebSocket as a transport. */
import type { Bytes } from './bytes';
import { DEAF, type Listener, type Transport } from './transport';

const NORMAL_CLOSURE = 1000;

/** A viewer's WebSocket. */
export class SocketTransport implements Transport {
  readonly carrier = 'WebSocket';
  listener: Listener = DEAF;
  readonly #socket: WebSocket;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.listener.opened();
    socket.onclose = ({ code, reason }) => {
      const { listener } = this;
      this.listener = DEAF;
      listener.closed(code, reason);
    };
    socket.onmessage = ({ data }: MessageEvent<unknown>) => {
      if (data instanceof ArrayBuffer) this.listener.received(new Uint8Array(data));
    };
  }

  /** Opens one; null when the address is none for this page. */
  static open(url: string): SocketTransport | null {
    const address = brokerAddress(url, location.href);
    try {
      return address === null ? null : new SocketTransport(new WebSocket(address));
    } catch {
      // A `ws:` address on an https page: refused by the browser before anything is sent.
      return null;
    }
  }

  send(bytes: Bytes): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(bytes);
  }

  close(): void {
    this.listener = DEAF;
    this.#socket.close(NORMAL_CLOSURE);
  }
}

/** The address of the broker as control named it, or null when it is none. */
export function brokerAddress(url: string, page: string): string | null {
  if (!URL.canParse(url, page)) return null;
  const address = new URL(url, page);
  if (address.protocol === 'http:') address.protocol = 'ws:';
  if (address.protocol === 'https:') address.protocol = 'wss:';
  address.hash = '';
  return address.protocol === 'ws:' || address.protocol === 'wss:' ? address.href : null;
}
