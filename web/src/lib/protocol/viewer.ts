/**
 * A viewer of one session, without input or output of its own: bytes, results and the time go in,
 * bytes, events and a {@link Want} come out. It lives as long as its terminal and survives any number
 * of transports; see docs/PROTOCOL.md for the conversation.
 *
 * `now` is the caller's monotonic clock in milliseconds.
 */
import { Backoff } from './backoff';
import { type Bytes, fromBase64Url } from './bytes';
import { closeCodeByName, closeCodeOfWebSocket, type Retry } from './codes';
import { FrameDecoder, ProtocolError } from './frames';
import type { InputLedger } from './input';
import type { SizeControl } from './lease';
import {
  DIAL_TIMEOUT_MS,
  DOUBT_AFTER_MS,
  FAULTS_MAX,
  GREETING_TIMEOUT_MS,
  MOVE_TIMEOUT_MS,
  PROTOCOL_VERSION,
  STABLE_MS,
  TICKET_TIMEOUT_MS,
} from './limits';
import {
  decodeMessage,
  encodePayload,
  type HostMessage,
  type Opened,
  type Proof,
  type SignalName,
  type Size,
  SNAPSHOT_ACK,
  type Spec,
  type ViewerMessage,
} from './messages';
import { Move } from './move';
import type { OutputTrack } from './output';
import type { Cause, Ending, Phase, ViewerEvent, Want } from './phase';
import { Streams } from './streams';
import { wantIn } from './want';

/** What a viewer is made with. */
export interface ViewerOptions {
  /** This viewer's id (UUID), used once: it names the input stream. */
  readonly viewer: string;
  /** The session's id (UUID). */
  readonly session: string;
  /** Whether the session may have to be opened; otherwise it is only attached to. */
  readonly create: boolean;
  /** What to run if it is opened; its size is what this screen would hold. */
  readonly spec: Spec;
  /** A uniform draw from 0 to 1, for the backoff. */
  readonly random: () => number;
}

/** What control hands out. */
export interface Credentials {
  /** Good once. */
  readonly ticket: string;
  /** Good for attaching to this session until the login ends. */
  readonly resume: string;
}

/** The viewer's side of the session protocol. */
export class ViewerMachine {
  readonly #options: ViewerOptions;
  readonly #streams: Streams;
  readonly #backoff: Backoff;
  #phase: Phase = { at: 'new' };
  #decoder = new FrameDecoder();
  #move: Move | null = null;
  /** A better transport has been attaching beside the one there is: the host may let that one go for it. */
  #contested = false;
  #ticket: string | null = null;
  #resume: string | null = null;
  /** The session exists: attach, do not open. */
  #exists: boolean;
  #everLive = false;
  #ending = false;
  #attempts = 0;
  #faults = 0;

  constructor(options: ViewerOptions) {
    this.#options = options;
    this.#exists = !options.create;
    this.#streams = new Streams(options.viewer, options.spec);
    this.#backoff = new Backoff(options.random);
  }

  // ── what comes out ──────────────────────────────────────────────────────────────────────────

  /** Bytes to send on the transport, in order; null when there are none. */
  pollTransmit(): Bytes | null {
    return this.#streams.pollTransmit();
  }

  /** The same for the better transport that is taking over. */
  pollTransmitNext(): Bytes | null {
    return this.#move?.pollTransmit() ?? null;
  }

  /** The next event; null when there is none. */
  pollEvent(): ViewerEvent | null {
    return this.#streams.pollEvent();
  }

  /** When {@link tick} must be called at the latest; null: never. */
  pollTimeout(): number | null {
    const phase = this.#phase;
    switch (phase.at) {
      case 'waiting':
        return phase.until;
      case 'ticketing':
      case 'dialing':
      case 'greeting':
      case 'proving':
      case 'proved':
        return phase.deadline;
      case 'live':
        return earlier(this.#streams.deadline, this.#move?.deadline ?? null);
      case 'new':
      case 'over':
        return null;
    }
  }

  /** What the world should look like now. */
  get want(): Want {
    return wantIn(this.#phase, this.#move);
  }

  /** Where it stands. */
  get phase(): Phase {
    return this.#phase;
  }

  /** Whether it was ever attached. */
  get everLive(): boolean {
    return this.#everLive;
  }

  /** The output side, to look at. */
  get output(): Pick<OutputTrack, 'epoch' | 'offset' | 'parsed' | 'generation'> {
    return this.#streams.output;
  }

  /** The input side, to look at. */
  get input(): Pick<InputLedger, 'acked' | 'pending' | 'end' | 'room'> {
    return this.#streams.input;
  }

  /** The size and the lease, to look at. */
  get size(): Pick<SizeControl, 'desired' | 'held' | 'holder' | 'writer'> {
    return this.#streams.size;
  }

  /** Newest round trip, ms. */
  get rtt(): number | null {
    return this.#streams.heartbeat.rtt;
  }

  // ── what the world reports ──────────────────────────────────────────────────────────────────

  /** Begins. */
  start(now: number): void {
    if (this.#phase.at === 'new') this.#attempt(true, now);
  }

  /** The ticket asked for. */
  ticketGranted({ ticket, resume }: Credentials, now: number): void {
    if (this.#phase.at !== 'ticketing') return;
    this.#ticket = ticket;
    this.#resume = resume;
    this.#dial(now);
  }

  /** No ticket. `final`: asking again is pointless (signed out, no such machine). */
  ticketFailed(cause: Cause, final: boolean, now: number): void {
    if (this.#phase.at !== 'ticketing') return;
    if (final) this.#end({ kind: 'refused', cause });
    else if (this.#canResume()) this.#dial(now);
    else this.#lost('backoff', cause, now);
  }

  /** The transport wanted is open. */
  connected(now: number): void {
    if (this.#phase.at !== 'dialing') return;
    const message = this.#firstMessage(this.#phase.n);
    if (!message) return this.#lost('ticket', NO_CREDENTIAL, now);
    this.#ticket = null;
    this.#streams.send(message);
    const first = encodePayload(message);
    this.#enter({ at: 'greeting', n: this.#phase.n, deadline: now + GREETING_TIMEOUT_MS, first });
  }

  /** The proof wanted. */
  proven(proof: Proof): void {
    if (this.#phase.at !== 'proving') return;
    const { n, deadline } = this.#phase;
    this.#streams.send({ type: 'Proof', ...proof });
    this.#enter({ at: 'proved', n, deadline });
  }

  /** Bytes from the transport wanted. */
  received(bytes: Bytes, now: number): void {
    if (!this.#attached()) return;
    this.#streams.heartbeat.received(now);
    const decoder = this.#decoder;
    try {
      for (const frame of decoder.push(bytes)) {
        const message = decodeMessage(frame);
        if (message) this.#handle(message, now);
        if (decoder !== this.#decoder || !this.#attached()) return;
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#fault(error.message, now);
    }
    this.#flush(now);
  }

  /** The transport wanted closed, or never opened; `code` is the WebSocket's. */
  closed(code: number, reason: string, now: number): void {
    if (this.#phase.at !== 'dialing' && !this.#attached()) return;
    const row = closeCodeOfWebSocket(code);
    if (row) return this.#lost(row.retry, { code: row.name, message: reason }, now);
    const unknown = code >= 4000 ? 'backoff' : 'now';
    this.#lost(unknown, { code: 'network', message: reason }, now);
  }

  /** A better transport than the one that is attached is open. Returns its number; null: it is not wanted. */
  better(now: number): number | null {
    const n = this.#attempts + 1;
    const message = this.#phase.at === 'live' && !this.#move ? this.#firstMessage(n) : null;
    if (!message) return null;
    this.#attempts = n;
    this.#move = new Move(n, message, now + MOVE_TIMEOUT_MS);
    this.#contested = true;
    return this.#move.n;
  }

  /** The proof wanted for it. */
  provenNext(proof: Proof): void {
    this.#move?.proven(proof);
  }

  /** Bytes from it: when the host has opened it, it is the one. */
  receivedNext(bytes: Bytes, now: number): void {
    const move = this.#move;
    if (!move) return;
    try {
      for (const frame of move.decoder.push(bytes)) {
        const message = decodeMessage(frame);
        if (!message) continue;
        if (this.#move !== move) this.#handle(message, now);
        else if (message.type === 'Error') return this.closedNext();
        else this.#moved(move, move.take(message), now);
        if (this.#move !== move && this.#decoder !== move.decoder) return;
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      if (this.#move === move) this.closedNext();
      else this.#fault(error.message, now);
    }
    this.#flush(now);
  }

  /** It is gone, or the host will not have it: the older one carries on. */
  closedNext(): void {
    this.#move = null;
  }

  /** Time passed. */
  tick(now: number): void {
    this.#advance(now);
    if (this.#move && now >= this.#move.deadline) this.closedNext();
    const deadline = 'deadline' in this.#phase ? this.#phase.deadline : null;
    if (deadline !== null && now >= deadline) this.#late(now);
    if (this.#phase.at === 'live' && this.#streams.heartbeat.isDead(now)) {
      return this.#lost('now', TIMEOUT, now);
    }
    this.#flush(now);
  }

  /** Something says that it may work now: the network is back, the machine is, a person pressed the button. */
  wake(now: number): void {
    this.#backoff.reset();
    const phase = this.#phase;
    if (phase.at === 'waiting') this.#attempt(phase.ticket, now);
    else if (phase.at === 'ticketing') this.#attempt(true, now);
    else if (phase.at === 'dialing') this.#dial(now);
    else if ('deadline' in phase) this.#hurry(phase, now);
    else this.#streams.heartbeat.probe(now);
    this.tick(now);
  }

  /** The page was shown or hidden. */
  setVisible(visible: boolean, now: number): void {
    this.#streams.heartbeat.setVisible(visible, now);
    if (visible) this.wake(now);
  }

  // ── what the person and the terminal do ─────────────────────────────────────────────────────

  /** Input, taken whole or not at all: false when it may not type, or when too much is pending. */
  write(bytes: Uint8Array, now: number): boolean {
    const refused = this.#phase.at === 'over' || (this.#everLive && !this.#streams.size.writer);
    if (refused || !this.#streams.input.push(bytes)) return false;
    this.#streams.tellInput();
    this.#flush(now);
    return true;
  }

  /** Drops input that was never sent. */
  cancelInput(): void {
    this.#streams.input.cancelUnsent();
    this.#streams.tellInput();
  }

  /** The terminal has parsed all before `offset` of this generation. */
  parsed(generation: number, offset: number, now: number): void {
    this.#streams.output.parsedTo(generation, offset, now);
    this.#flush(now);
  }

  /** This screen holds another number of cells. */
  resize(size: Size): void {
    this.#send(this.#streams.size.setDesired(size));
  }

  /** Asks to rule the size. */
  takeLease(): void {
    this.#send(this.#streams.size.take());
  }

  /** Signals the foreground process group. */
  signal(signal: SignalName): void {
    if (this.#streams.size.writer) this.#send({ type: 'Signal', signal });
  }

  /** Ends the session itself, now or as soon as it is reached. */
  endSession(): void {
    this.#ending = true;
    if (this.#streams.size.writer) this.#send({ type: 'Close' });
  }

  /** Leaves; the session goes on. */
  detach(): void {
    if (this.#phase.at === 'over') return;
    this.#send({ type: 'Detach' });
    this.#end({ kind: 'detached' });
  }

  // ── phases ──────────────────────────────────────────────────────────────────────────────────

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#streams.tell({ type: 'phase', phase });
  }

  #advance(now: number): void {
    const phase = this.#phase;
    if (phase.at === 'waiting' && now >= phase.until) this.#attempt(phase.ticket, now);
  }

  #attempt(ticket: boolean, now: number): void {
    if (!ticket && this.#canResume()) return this.#dial(now);
    this.#attempts += 1;
    this.#enter({ at: 'ticketing', n: this.#attempts, deadline: now + TICKET_TIMEOUT_MS });
  }

  /** An answer is awaited on a path that may be gone: not for much longer. */
  #hurry(phase: Extract<Phase, { deadline: number }>, now: number): void {
    const deadline = Math.min(phase.deadline, now + DOUBT_AFTER_MS);
    if (deadline < phase.deadline) this.#enter({ ...phase, deadline });
  }

  /** The step at hand took too long. */
  #late(now: number): void {
    if (this.#phase.at === 'ticketing') this.ticketFailed(NO_TICKET, false, now);
    else this.#lost('now', TIMEOUT, now);
  }

  #dial(now: number): void {
    this.#attempts += 1;
    this.#decoder = new FrameDecoder();
    this.#streams.dialed();
    this.#enter({ at: 'dialing', n: this.#attempts, deadline: now + DIAL_TIMEOUT_MS });
  }

  #lost(retry: Retry, cause: Cause, now: number): void {
    // Displaced is what the older one is told when the better one attaches, be it heard of or not: that is no end.
    const displaced = cause.code === 'displaced' && this.#contested;
    if (this.#move && (displaced || retry !== 'never'))
      return this.#enter(this.#promote(this.#move));
    if (displaced) return this.#lost('now', DISPLACED, now);
    if (this.#phase.at === 'live' && now - this.#phase.since >= STABLE_MS) this.#faults = 0;
    if (retry === 'never') return this.#end({ kind: 'refused', cause });
    this.#streams.heartbeat.stop();
    this.#ticket = null;
    const { at: until, ticket } = this.#backoff.failed(retry, now);
    this.#enter({ at: 'waiting', until, ticket, cause });
    this.#advance(now);
  }

  #end(ending: Ending): void {
    this.#move = null;
    this.#streams.heartbeat.stop();
    this.#ticket = null;
    this.#enter({ at: 'over', ending });
  }

  /** The host has opened the better transport. */
  #moved(move: Move, opened: Opened | null, now: number): void {
    if (!opened) return;
    this.#promote(move);
    this.#opened(opened, move.n, now);
  }

  /** The older transport is gone: the better one is the attempt at hand. Returns where that stands. */
  #promote(move: Move): Phase {
    this.#move = null;
    this.#decoder = move.decoder;
    this.#streams.heartbeat.stop();
    this.#streams.dialed(move.takeTransmits());
    return move.stage;
  }

  /** What came is not what the protocol says: repaint from scratch, but not for ever. */
  #fault(message: string, now: number): void {
    this.#faults += 1;
    this.#move = null;
    this.#streams.output.forget();
    this.#streams.tell({ type: 'fault', message });
    const retry = this.#faults < FAULTS_MAX ? 'now' : 'never';
    this.#lost(retry, { code: 'protocol_error', message }, now);
  }

  #attached(): boolean {
    return ['greeting', 'proving', 'proved', 'live'].includes(this.#phase.at);
  }

  #canResume(): boolean {
    return this.#resume !== null && this.#exists;
  }

  #firstMessage(attempt: number): ViewerMessage | null {
    const { viewer, session, spec } = this.#options;
    const ticket = this.#ticket ?? (this.#canResume() ? this.#resume : null);
    if (ticket === null) return null;
    const features = [SNAPSHOT_ACK];
    const common = { v: PROTOCOL_VERSION, features, ticket, viewer, attempt, session };
    const input_seq = this.#streams.input.acked;
    return this.#exists
      ? { type: 'Attach', ...common, ...this.#streams.output.resumePoint, input_seq }
      : { type: 'Open', ...common, input_seq, spec: { ...spec, ...this.#streams.size.desired } };
  }

  // ── what the host says ──────────────────────────────────────────────────────────────────────

  #handle(message: HostMessage, now: number): void {
    if (message.type === 'Error') return this.#refused(message, now);
    const phase = this.#phase;
    if (phase.at === 'live') return this.#live(message, now);
    if (phase.at === 'greeting' && message.type === 'Challenge') {
      const nonce = fromBase64Url(message.nonce);
      if (!nonce) throw new ProtocolError('challenge without a nonce');
      const { n, deadline, first } = phase;
      return this.#enter({ at: 'proving', n, deadline, first, nonce });
    }
    if (phase.at === 'proved' && message.type === 'Opened')
      return this.#opened(message, phase.n, now);
    throw new ProtocolError(`${message.type} while ${phase.at}`);
  }

  #refused({ code, message, retry }: Extract<HostMessage, { type: 'Error' }>, now: number): void {
    const known = closeCodeByName(code)?.retry;
    this.#lost(known ?? (isRetry(retry) ? retry : 'backoff'), { code, message }, now);
  }

  #opened(opened: Opened, n: number, now: number): void {
    if (opened.session !== this.#options.session) throw new ProtocolError('opened another session');
    this.#exists = true;
    this.#everLive = true;
    this.#contested = false;
    this.#backoff.succeeded(now);
    this.#enter({ at: 'live', n, since: now });
    this.#streams.opened(opened, now);
    if (this.#ending) this.endSession();
    this.tick(now);
  }

  #live(message: HostMessage, now: number): void {
    const exit = this.#streams.take(message, now);
    if (exit) this.#end({ kind: 'exited', exit });
  }

  #flush(now: number): void {
    if (this.#phase.at === 'live') this.#streams.flush(now);
  }

  #send(message: ViewerMessage | null): void {
    if (message && this.#phase.at === 'live') this.#streams.send(message);
  }
}

function earlier(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b);
}

const DISPLACED: Cause = { code: 'network', message: 'the better path broke' };
const TIMEOUT: Cause = { code: 'timeout', message: 'no answer' };
const NO_TICKET: Cause = { code: 'control', message: 'no answer to the ticket request' };
const NO_CREDENTIAL: Cause = { code: 'bad_ticket', message: 'no ticket to present' };

function isRetry(text: string): text is Retry {
  return ['now', 'backoff', 'ticket', 'never'].includes(text);
}
