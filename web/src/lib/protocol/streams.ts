/**
 * What flows once a viewer is attached: output, input, size and heartbeat of one session, through any
 * number of transports. It decides nothing about transports: a message that ends one is handed back.
 */
import type { Bytes } from './bytes';
import { ProtocolError } from './frames';
import { Heartbeat } from './heartbeat';
import { InputLedger } from './input';
import { SizeControl } from './lease';
import { TITLE_MAX } from './limits';
import {
  type Exit,
  encodeMessage,
  type HostMessage,
  type Opened,
  type Size,
  type ViewerMessage,
} from './messages';
import { OutputTrack, type Painting } from './output';
import type { ViewerEvent } from './phase';

/** The streams of one viewer. Bytes to send and events pile up in the order in which they came about. */
export class Streams {
  readonly input = new InputLedger();
  readonly output = new OutputTrack();
  readonly heartbeat = new Heartbeat();
  readonly size: SizeControl;
  #transmits: Bytes[] = [];
  #events: ViewerEvent[] = [];
  /** The life of the PTY that pending input was typed for; null: the first there is. */
  #inputEpoch: string | null = null;

  constructor(viewer: string, desired: Size) {
    this.size = new SizeControl(viewer, desired);
  }

  /** Bytes to send, in order. */
  pollTransmit(): Bytes | null {
    return this.#transmits.shift() ?? null;
  }

  /** The next event. */
  pollEvent(): ViewerEvent | null {
    return this.#events.shift() ?? null;
  }

  /** When {@link flush} must be called at the latest. */
  get deadline(): number | null {
    const [a, b] = [this.heartbeat.deadline, this.output.ackDeadline];
    return a === null || b === null ? (a ?? b) : Math.min(a, b);
  }

  /** A new transport: what was to be sent on an older one is not, but `first` is. */
  dialed(first: Bytes[] = []): void {
    this.#transmits = first;
  }

  /** Sends a message. */
  send(message: ViewerMessage): void {
    this.#transmits.push(encodeMessage(message));
  }

  /** Tells an event. */
  tell(event: ViewerEvent): void {
    this.#events.push(event);
  }

  /** The transport is attached. */
  opened(opened: Opened, now: number): void {
    const resumed = opened.epoch === this.output.epoch;
    this.#resumeInput(opened);
    const fresh = this.output.opened(opened.epoch, opened.offset);
    this.size.opened(opened.role, opened);
    this.heartbeat.start(now);
    const { cols, rows } = opened;
    this.tell({ type: 'opened', opened: { ...opened, title: tidyTitle(opened.title) }, resumed });
    if (fresh) this.tell({ type: 'reset', generation: this.output.generation, cols, rows });
    else this.tell({ type: 'resized', cols, rows });
  }

  /** Takes what the host says while attached. Returns the exit, if that is what it says. */
  take(message: HostMessage, now: number): Exit | null {
    switch (message.type) {
      case 'Output':
        this.#outputCame(message.offset, message.bytes);
        return null;
      case 'Snapshot':
        this.#painted(this.output.snapshot(message.offset, message, message.bytes));
        return null;
      case 'SnapshotData':
        this.#painted(this.output.snapshotData(message.bytes));
        return null;
      case 'Gap':
        this.output.gap();
        this.tell({ type: 'gap', from: message.from, to: message.to });
        return null;
      case 'InputAck':
        this.input.ack(message.seq);
        this.tell({ type: 'input_ack', seq: message.seq, offset: message.offset });
        this.tellInput();
        return null;
      case 'Pong':
        this.tell({ type: 'rtt', ms: this.heartbeat.pong(message.t / 1000, now) });
        return null;
      case 'Exit':
        return { code: message.code, signal: message.signal, offset: message.offset };
      default:
        this.#aside(message);
        return null;
    }
  }

  /** Sends what is due: a ping, an acknowledgement, input within the window. */
  flush(now: number): void {
    // Whole microseconds: the host echoes a whole number.
    if (this.heartbeat.pingDue(now)) this.send({ type: 'Ping', t: Math.round(now * 1000) });
    const offset = this.output.ackDue(now);
    if (offset !== null) this.send({ type: 'Ack', offset });
    const bytes = this.output.snapshotAckDue();
    if (bytes !== null) this.send({ type: 'SnapshotAck', bytes });
    if (!this.size.writer) return;
    for (let piece = this.input.next(); piece; piece = this.input.next()) {
      this.send({ type: 'Input', ...piece });
    }
  }

  /** Tells how much input is on its way. */
  tellInput(): void {
    const { acked, pending } = this.input;
    this.tell({ type: 'input', acked, pending });
  }

  /** Goes on with the input where the host stands; what was typed for another life of the PTY is dropped, and told. */
  #resumeInput(opened: Opened): void {
    const sameLife = this.#inputEpoch === null || this.#inputEpoch === opened.epoch;
    this.#inputEpoch = opened.epoch;
    if (opened.role === 'writer' && sameLife) return this.input.resume(opened.input_seq);
    const bytes = this.input.restart(opened.input_seq);
    if (bytes > 0) this.tell({ type: 'input_lost', bytes });
    this.tellInput();
  }

  /** What does not touch the byte streams. */
  #aside(message: HostMessage): void {
    switch (message.type) {
      case 'Resized':
        this.size.resized(message);
        return this.tell({ type: 'resized', cols: message.cols, rows: message.rows });
      case 'Viewers':
        this.tell({ type: 'viewers', viewers: message.viewers });
        return this.#leaseTold(message.viewers.find(({ lease }) => lease)?.viewer ?? null);
      case 'Lease':
        return this.#leaseTold(message.holder);
      case 'Title':
        return this.tell({ type: 'title', title: tidyTitle(message.title) });
      default:
        throw new ProtocolError(`${message.type} while live`);
    }
  }

  #leaseTold(holder: string | null): void {
    const answer = this.size.lease(holder);
    if (answer) this.send(answer);
    this.tell({ type: 'lease', holder, held: this.size.held });
  }

  #outputCame(offset: number, bytes: Bytes): void {
    const fresh = this.output.output(offset, bytes);
    const { generation, offset: end } = this.output;
    if (fresh.length > 0) this.tell({ type: 'output', generation, end, bytes: fresh });
  }

  #painted(painting: Painting | null): void {
    if (painting) this.tell({ type: 'painting', generation: this.output.generation, ...painting });
  }
}

/** Untrusted text for people: no control, no direction override, bounded (THREATS OUT-04, OUT-06). */
function tidyTitle(text: string): string {
  return Array.from(text.replaceAll(/\p{C}/gu, '')).slice(0, TITLE_MAX).join('');
}
