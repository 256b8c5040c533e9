/**
 * The event stream of control (`/api/events`) over fetch rather than EventSource: fetch tells a refused login from a dead
 * network, and shows the keep-alive comments, so that a stream that went silent is noticed and replaced.
 */
import { type ServerEvent, SseReader } from './sse';

export type StreamState = 'connecting' | 'live' | 'offline' | 'signed-out';

/** Where a stream stands. */
export interface StreamStanding {
  readonly state: StreamState;
  /** When the next attempt is made while offline, in ms since the epoch. */
  readonly retryAt: number | undefined;
}

/** Whom a stream tells. */
export interface StreamListener {
  deliver(event: ServerEvent): void;
  /** Told at every change, and with every sign of life while `live`. */
  stands(standing: StreamStanding): void;
}

/** A stream silent for longer than this is dead: control writes a comment every 15 s. */
export const SILENCE_MS = 40_000;
/** First and longest pause before dialling again. */
const BACKOFF_MS = { first: 500, longest: 15_000 };
/** A stream this old was healthy: the next failure starts from the first pause again. */
const STABLE_MS = 10_000;

/** Pause before the n-th retry in a row, with full jitter so that a restarted control is not met by all pages at once. */
export function backoff(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(BACKOFF_MS.longest, BACKOFF_MS.first * 2 ** Math.min(attempt, 10));
  return Math.round(BACKOFF_MS.first / 2 + random() * (ceiling - BACKOFF_MS.first / 2));
}

export class EventStream {
  readonly #url: string;
  readonly #listener: StreamListener;
  #standing: StreamStanding = { state: 'connecting', retryAt: undefined };
  #cut: AbortController | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #running = false;

  constructor(url: string, listener: StreamListener) {
    this.#url = url;
    this.#listener = listener;
  }

  get standing(): StreamStanding {
    return this.#standing;
  }

  /** Connects and stays connected until `stop`. */
  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#attempt = 0;
    this.#stand('connecting');
    addEventListener('online', this.#wake);
    document.addEventListener('visibilitychange', this.#wake);
    void this.#connect();
  }

  stop(): void {
    this.#running = false;
    removeEventListener('online', this.#wake);
    document.removeEventListener('visibilitychange', this.#wake);
    clearTimeout(this.#retry);
    clearTimeout(this.#watchdog);
    this.#cut?.abort();
  }

  /** Tries at once instead of waiting for the pause, or for an attempt that hangs, to end. */
  retryNow(): void {
    if (this.#running && this.#standing.state === 'offline') void this.#connect();
  }

  readonly #wake = () => {
    if (document.visibilityState === 'visible') this.retryNow();
  };

  /** One attempt; whatever the one before it still holds is let go. */
  async #connect(): Promise<void> {
    clearTimeout(this.#retry);
    this.#cut?.abort();
    const cut = new AbortController();
    this.#cut = cut;
    if (this.#standing.state === 'offline') this.#stand('offline');
    this.#watch();
    const since = Date.now();
    try {
      const response = await fetch(this.#url, {
        signal: cut.signal,
        credentials: 'same-origin',
        cache: 'no-store',
        headers: { Accept: 'text/event-stream' },
      });
      if (response.status === 401) return this.#end();
      if (!response.ok || !response.body) throw new Error(`events answered ${response.status}`);
      await this.#read(response.body, cut);
    } catch {
      // Refused, cut or silent: all end below, in another attempt.
    }
    this.#again(cut, since);
  }

  async #read(body: ReadableStream<Uint8Array>, cut: AbortController): Promise<void> {
    const reader = body.getReader();
    const utf8 = new TextDecoder();
    const events = new SseReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || cut.signal.aborted) return;
      this.#watch();
      this.#stand('live');
      for (const event of events.push(utf8.decode(value, { stream: true }))) this.#receive(event);
      if (cut.signal.aborted) return;
    }
  }

  #receive(event: ServerEvent): void {
    if (event.event === 'signed_out') this.#end();
    else if (this.#running) this.#listener.deliver(event);
  }

  #watch(): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#cut?.abort(), SILENCE_MS);
  }

  /** The attempt is over: another one after a pause, unless another one has begun. */
  #again(cut: AbortController, since: number): void {
    if (!this.#running || this.#cut !== cut) return;
    clearTimeout(this.#watchdog);
    if (Date.now() - since > STABLE_MS) this.#attempt = 0;
    const pause = backoff(this.#attempt++);
    this.#stand('offline', Date.now() + pause);
    this.#retry = setTimeout(() => void this.#connect(), pause);
  }

  #end(): void {
    this.stop();
    this.#stand('signed-out');
  }

  #stand(state: StreamState, retryAt?: number): void {
    this.#standing = { state, retryAt };
    this.#listener.stands(this.#standing);
  }
}
