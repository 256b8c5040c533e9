/**
 * A better transport taking over from the one that is attached: it attaches beside it, and only when the host
 * has opened it, or the older one is gone, is it the viewer's. Until then the older one carries on.
 */
import { type Bytes, fromBase64Url } from './bytes';
import { FrameDecoder, ProtocolError } from './frames';
import {
  encodeMessage,
  encodePayload,
  type HostMessage,
  type Opened,
  type Proof,
  type ViewerMessage,
} from './messages';
import type { Phase, ProofRequest } from './phase';

type Stage = Extract<Phase, { at: 'greeting' | 'proving' | 'proved' }>;

/** One attempt to move. */
export class Move {
  readonly decoder = new FrameDecoder();
  #stage: Stage;
  #transmits: Bytes[];

  /** Attaches by `message` as attempt `n`, until `deadline`. */
  constructor(n: number, message: ViewerMessage, deadline: number) {
    this.#stage = { at: 'greeting', n, deadline, first: encodePayload(message) };
    this.#transmits = [encodeMessage(message)];
  }

  /** Its number among the attempts. */
  get n(): number {
    return this.#stage.n;
  }

  /** When it counts as failed. */
  get deadline(): number {
    return this.#stage.deadline;
  }

  /** What is to be signed. */
  get prove(): ProofRequest | null {
    const stage = this.#stage;
    return stage.at === 'proving' ? { nonce: stage.nonce, first: stage.first } : null;
  }

  /** Where it stands, as the viewer's own attempt. */
  get stage(): Stage {
    return this.#stage;
  }

  /** Bytes to send, in order. */
  pollTransmit(): Bytes | null {
    return this.#transmits.shift() ?? null;
  }

  /** All that it has not sent yet. */
  takeTransmits(): Bytes[] {
    const rest = this.#transmits;
    this.#transmits = [];
    return rest;
  }

  /** The proof wanted. */
  proven(proof: Proof): void {
    if (this.#stage.at !== 'proving') return;
    const { n, deadline } = this.#stage;
    this.#transmits.push(encodeMessage({ type: 'Proof', ...proof }));
    this.#stage = { at: 'proved', n, deadline };
  }

  /** Takes what the host says. Returns what it opened, once it has. */
  take(message: HostMessage): Opened | null {
    const stage = this.#stage;
    if (stage.at === 'proved' && message.type === 'Opened') return message;
    if (stage.at !== 'greeting' || message.type !== 'Challenge')
      throw new ProtocolError(`${message.type} while ${stage.at}`);
    const nonce = fromBase64Url(message.nonce);
    if (!nonce) throw new ProtocolError('challenge without a nonce');
    this.#stage = { ...stage, at: 'proving', nonce };
    return null;
  }
}
