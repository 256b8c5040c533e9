/**
 * A WebTransport session with one stream as a transport: the same bytes as over a WebSocket, over UDP. The
 * broker ends the stream for good, or resets it with the number of a close code.
 */
import { type Bytes, fromBase64Url } from './bytes';
import { closeCodeByName, webSocketCode } from './codes';
import { FAREWELL_MS, READ_BYTES } from './limits';
import { ABNORMAL_CLOSURE, DEAF, type Listener, type Transport } from './transport';

/** Where a broker takes browsers over UDP, and how they know it: as a ticket says. */
export interface WebDoor {
  /** `https://…` */
  readonly url: string;
  /** base64url of the SHA-256 of the certificates it may show. */
  readonly hashes: readonly string[];
}

const DONE = closeCodeByName('done');

/** Whether this browser and this page can at all: only secure pages have it. */
export function hasWebTransport(): boolean {
  return 'WebTransport' in globalThis;
}

/** A viewer's stream over WebTransport. */
export class WebTransportStream implements Transport {
  readonly carrier = 'WebTransport';
  listener: Listener = DEAF;
  readonly #session: WebTransport;
  #writer: WritableStreamDefaultWriter<Bytes> | null = null;

  private constructor(session: WebTransport) {
    this.#session = session;
    // How a session ended is seen at its stream, or before there is one at `ready`.
    session.closed.catch(() => {});
    this.#run().then(
      () => this.#end(DONE ? webSocketCode(DONE) : ABNORMAL_CLOSURE, ''),
      (error: unknown) => this.#end(codeOf(error), error instanceof Error ? error.message : ''),
    );
  }

  /** Opens one; null when the browser takes neither address nor hashes. */
  static open({ url, hashes }: WebDoor): WebTransportStream | null {
    try {
      const serverCertificateHashes = hashes.flatMap((hash) => {
        const value = fromBase64Url(hash);
        return value ? [{ algorithm: 'sha-256', value }] : [];
      });
      return new WebTransportStream(new WebTransport(url, { serverCertificateHashes }));
    } catch {
      return null;
    }
  }

  send(bytes: Bytes): void {
    // That it failed is heard by whoever reads.
    this.#writer?.write(bytes).catch(() => {});
  }

  close(): void {
    this.listener = DEAF;
    const written = this.#writer?.close().catch(() => {});
    const late = new Promise((resolve) => setTimeout(resolve, FAREWELL_MS));
    void Promise.race([written, late]).then(() => this.#session.close());
  }

  async #run(): Promise<void> {
    await this.#session.ready;
    const { readable, writable } = await this.#session.createBidirectionalStream();
    const reader = readable.getReader({ mode: 'byob' });
    this.#writer = writable.getWriter();
    this.#writer.closed.catch(() => {});
    this.listener.opened();
    for (let buffer = new ArrayBuffer(READ_BYTES); ; ) {
      const { value, done } = await reader.read(new Uint8Array(buffer));
      if (done || !value) return;
      buffer = value.buffer;
      // What is received is kept for longer than the buffer is.
      this.listener.received(value.slice());
    }
  }

  #end(code: number, reason: string): void {
    const { listener } = this;
    this.close();
    listener.closed(code, reason);
  }
}

/** What a stream that was reset says, as a WebSocket would have; the path's own end otherwise. */
function codeOf(error: unknown): number {
  const reset = error instanceof WebTransportError ? error.streamErrorCode : null;
  return reset === null ? ABNORMAL_CLOSURE : 4000 + reset;
}
