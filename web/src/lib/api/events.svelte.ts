/**
 * The event stream of control (`/api/events`) over fetch rather than EventSource: fetch tells a refused login from a dead
 * network, and shows the keep-alive comments, so that a stream that went silent is noticed and replaced.
 */
import { type ServerEvent, SseReader } from './sse';

export type StreamState = 'connecting' | 'live' | 'offline' | 'signed-out';

/** A stream silent for longer than this is dead: control writes a comment every 15 s. */
const SILENCE_MS = 40_000;
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
  state: StreamState = $state('connecting');
  /** When the next attempt is made while offline, in ms since the epoch. */
  retryAt: number | undefined = $state();

  readonly #url: string;
  readonly #deliver: (event: ServerEvent) => void;
  #cut: AbortController | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #running = false;

  constructor(url: string, deliver: (event: ServerEvent) => void) {
    this.#url = url;
    this.#deliver = deliver;
  }

  /** Connects and stays connected until `stop`. */
  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#attempt = 0;
    this.state = 'connecting';
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

  /** Tries at once instead of waiting for the pause to end. */
  retryNow(): void {
    if (!this.#running || this.state !== 'offline') return;
    clearTimeout(this.#retry);
    void this.#connect();
  }

  readonly #wake = () => {
    if (document.visibilityState === 'visible') this.retryNow();
  };

  async #connect(): Promise<void> {
    this.retryAt = undefined;
    const cut = new AbortController();
    this.#cut = cut;
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
      await this.#read(response.body);
    } catch {
      // Refused, cut or silent: all end below, in another attempt.
    }
    if (Date.now() - since > STABLE_MS) this.#attempt = 0;
    if (this.#cut === cut) this.#again();
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    const reader = body.getReader();
    const utf8 = new TextDecoder();
    const events = new SseReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || !this.#running) return;
      this.state = 'live';
      this.#watch();
      for (const event of events.push(utf8.decode(value, { stream: true }))) this.#receive(event);
      if (!this.#running) return;
    }
  }

  #receive(event: ServerEvent): void {
    if (event.event === 'signed_out') this.#end();
    else this.#deliver(event);
  }

  #watch(): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#cut?.abort(), SILENCE_MS);
  }

  #again(): void {
    clearTimeout(this.#watchdog);
    if (!this.#running) return;
    this.state = 'offline';
    const pause = backoff(this.#attempt++);
    this.retryAt = Date.now() + pause;
    this.#retry = setTimeout(() => void this.#connect(), pause);
  }

  #end(): void {
    this.stop();
    this.state = 'signed-out';
  }
}
