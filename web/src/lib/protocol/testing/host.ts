/**
 * A session host small enough to be believed: a log that is a plain array, a ledger per viewer, one
 * stream at a time, displaced by the next that proves itself. It answers as docs/PROTOCOL.md says and throws where a viewer breaks it.
 */
import { concat, toBase64Url } from '../bytes';
import { encodeFrame, FrameDecoder } from '../frames';
import { INPUT_WINDOW, OUTPUT_WINDOW } from '../limits';

type Json = Record<string, unknown>;

const utf8 = new TextEncoder();
const text = new TextDecoder();

/** One stream to the host. */
export class Channel {
  readonly decoder = new FrameDecoder();
  stage: 'first' | 'proof' | 'live' | 'over' = 'first';
  first: Json = {};
  #out: Uint8Array<ArrayBuffer>[] = [];

  /** Bytes for the viewer. */
  take(): Uint8Array<ArrayBuffer> {
    const all = concat(...this.#out);
    this.#out = [];
    return all;
  }

  /** Sends a control frame. */
  say(kind: number, body: Json): void {
    this.send(encodeFrame(kind, utf8.encode(JSON.stringify(body))));
  }

  /** Sends a frame. */
  send(frame: Uint8Array<ArrayBuffer>): void {
    this.#out.push(frame);
  }
}

/** One session and the stream that is attached to it. */
export class ModelHost {
  readonly session: string;
  epoch = '00000000-0000-4000-8000-00000000e001';
  role = 'writer';
  /** Everything the PTY has printed in this epoch. */
  log: number[] = [];
  /** First byte the log still has. */
  kept = 0;
  /** Everything that was typed into the PTY. */
  typed: number[] = [];
  holder: string | null = null;
  size = { cols: 80, rows: 24 };
  /** First frames as they came, and other control frames. */
  firsts: Json[] = [];
  heard: { kind: number; body: Json }[] = [];
  acked = 0;
  /** Snapshot data of this stream: sent, and acknowledged. */
  readonly painted = { sent: 0, acked: 0 };
  /** What is still to be sent of a snapshot. */
  #picture: Uint8Array = new Uint8Array(0);
  #expected = new Map<string, number>();
  #channel = new Channel();
  #viewer = '';
  #sent = 0;

  constructor(session: string) {
    this.session = session;
  }

  /** A new transport. What an older one left unsent is lost. */
  accept(): Channel {
    this.#channel = new Channel();
    return this.#channel;
  }

  /** Bytes for the viewer. */
  take(): Uint8Array<ArrayBuffer> {
    return this.#channel.take();
  }

  /** The PTY prints. */
  print(bytes: Uint8Array | string): void {
    for (const byte of typeof bytes === 'string' ? utf8.encode(bytes) : bytes) this.log.push(byte);
    this.pump();
  }

  /** The log forgets its oldest bytes. */
  forget(count: number): void {
    this.kept = Math.min(this.kept + count, this.log.length);
  }

  /** Another life of the PTY. */
  restart(epoch: string): void {
    this.epoch = epoch;
    this.log = [];
    this.typed = [];
    this.kept = 0;
    this.#expected.clear();
  }

  /** Sends what the window allows. */
  pump(limit = Number.POSITIVE_INFINITY): void {
    if (this.#channel.stage !== 'live') return;
    this.#paint();
    if (this.#picture.length > 0) return;
    if (this.#sent < this.kept) return this.#repaint();
    while (
      this.#sent < this.log.length &&
      this.#sent - this.acked < Math.min(OUTPUT_WINDOW, limit)
    ) {
      const end = Math.min(this.log.length, this.#sent + 5_000);
      this.output(this.#sent, Uint8Array.from(this.log.slice(this.#sent, end)));
      this.#sent = end;
    }
  }

  /** Sends output as it is told, right or wrong. */
  output(offset: number, bytes: Uint8Array): void {
    const address = new Uint8Array(8);
    new DataView(address.buffer).setBigUint64(0, BigInt(offset));
    this.#channel.send(encodeFrame(0xa0, address, bytes));
  }

  /** Sends a control frame. */
  say(kind: number, body: Json): void {
    this.#channel.say(kind, body);
  }

  /** Bytes of the viewer. */
  receive(bytes: Uint8Array<ArrayBuffer>, channel = this.#channel): void {
    for (const { kind, payload } of channel.decoder.push(bytes)) {
      if (channel.stage === 'over') return;
      if (kind === 0x80) this.#input(payload, channel);
      else this.#control(kind, JSON.parse(text.decode(payload)) as Json, channel);
    }
  }

  #control(kind: number, body: Json, channel: Channel): void {
    if (channel.stage === 'first') return this.#first(kind, body, channel);
    if (channel.stage === 'proof') return this.#opened(kind, channel);
    this.heard.push({ kind, body });
    if (kind === 0x04) this.#ack(body.offset as number);
    if (kind === 0x05 && this.holder === this.#viewer) this.#resize(body);
    if (kind === 0x08) this.#lease(body);
    if (kind === 0x0a) this.say(0x2a, body);
    if (kind === 0x0d) this.#paintedAck(body.bytes as number);
    if (kind === 0x0c) this.say(0x28, { code: null, signal: 1, offset: this.log.length });
  }

  #first(kind: number, body: Json, channel: Channel): void {
    if (kind !== 0x01 && kind !== 0x02) throw new Error(`first frame of type ${kind}`);
    const before = this.firsts.findLast(({ viewer }) => viewer === body.viewer);
    if (before && (body.attempt as number) <= (before.attempt as number))
      throw new Error(`attempt ${body.attempt} after ${before.attempt}`);
    this.firsts.push({ kind, ...body });
    channel.first = body;
    channel.stage = 'proof';
    channel.say(0x21, { v: 1, features: [], nonce: toBase64Url(new Uint8Array(32).fill(7)) });
  }

  #opened(kind: number, channel: Channel): void {
    if (kind !== 0x03) throw new Error('no proof');
    const { first } = channel;
    this.#viewer = first.viewer as string;
    this.#displace(channel);
    const known = first.epoch === this.epoch && typeof first.offset === 'number';
    const from = known ? (first.offset as number) : this.kept;
    if (from > this.log.length) throw new Error('attach beyond the log');
    if (!this.#expected.has(this.#viewer))
      this.#expected.set(this.#viewer, first.input_seq as number);
    channel.stage = 'live';
    this.#picture = new Uint8Array(0);
    Object.assign(this.painted, { sent: 0, acked: 0 });
    this.#sent = from;
    this.acked = from;
    this.say(0x22, {
      session: this.session,
      epoch: this.epoch,
      role: this.role,
      ...this.size,
      offset: from,
      input_seq: this.#expected.get(this.#viewer),
      created: 1,
      title: 'shell',
    });
    this.holder ??= this.role === 'writer' ? this.#viewer : null;
    this.say(0x27, { holder: this.holder });
    if (!known && this.log.length > 0) this.#snapshot();
    this.pump();
  }

  /** The viewer is here on a newer stream; the older one is told. */
  #displace(channel: Channel): void {
    const older = this.#channel;
    this.#channel = channel;
    if (older === channel || older.stage !== 'live') return;
    older.say(0x2b, { code: 'displaced', message: 'on another stream', retry: 'never' });
    older.stage = 'over';
  }

  #repaint(): void {
    this.say(0x29, { from: this.#sent, to: this.log.length });
    this.#snapshot();
  }

  /** The model's screen is its whole log: a terminal that has seen the snapshot has seen every byte. */
  #snapshot(): void {
    const bytes = Uint8Array.from(this.log);
    this.#sent = this.log.length;
    this.acked = this.#sent;
    this.say(0x23, { offset: this.#sent, ...this.size, bytes: bytes.length });
    this.#picture = bytes;
    this.#paint();
  }

  /** Sends snapshot data as far as the window allows. */
  #paint(): void {
    const { painted } = this;
    while (this.#picture.length > 0 && painted.sent - painted.acked < OUTPUT_WINDOW) {
      const piece = this.#picture.subarray(0, 3_000);
      this.#channel.send(encodeFrame(0xa1, piece));
      painted.sent += piece.length;
      this.#picture = this.#picture.subarray(piece.length);
    }
  }

  #paintedAck(bytes: number): void {
    if (bytes > this.painted.sent) throw new Error(`acknowledged ${bytes} of a snapshot`);
    this.painted.acked = bytes;
    this.pump();
  }

  #input(payload: Uint8Array<ArrayBuffer>, channel: Channel): void {
    if (channel.stage !== 'live') throw new Error('input before opened');
    const seq = Number(new DataView(payload.buffer, payload.byteOffset).getBigUint64(0));
    const bytes = payload.subarray(8);
    const expected = this.#expected.get(this.#viewer) ?? 0;
    if (seq > expected) throw new Error(`input at ${seq}, expected ${expected}`);
    if (seq + bytes.length - expected > INPUT_WINDOW) throw new Error('input beyond the window');
    for (const byte of bytes.subarray(expected - seq)) this.typed.push(byte);
    const next = Math.max(expected, seq + bytes.length);
    this.#expected.set(this.#viewer, next);
    this.say(0x24, { seq: next, offset: this.log.length });
  }

  #ack(offset: number): void {
    if (offset > this.#sent) throw new Error(`acknowledged ${offset}, sent ${this.#sent}`);
    this.acked = Math.max(this.acked, offset);
    this.pump();
  }

  #resize(body: Json): void {
    this.size = { cols: body.cols as number, rows: body.rows as number };
    this.say(0x25, this.size);
  }

  #lease(body: Json): void {
    this.holder = this.#viewer;
    this.say(0x27, { holder: this.holder });
    this.#resize(body);
  }
}
