/**
 * One event stream for all tabs of a person: a browser allows six connections to an HTTP/1.1 server, and a stream in each
 * tab would leave none for the seventh. The tab that holds a Web Lock has the stream and tells the others over a
 * BroadcastChannel; when it goes, the lock goes to the next. Without Web Locks (plain http) each tab has its own.
 *
 * A leader that falls silent (a frozen tab) loses its lock to whoever misses it. That a login has ended each tab finds out
 * for itself, as leader: tabs of one person may have different logins.
 */
import { EventStream, SILENCE_MS, type StreamStanding, type StreamState } from './events';
import type { ServerEvent } from './sse';

/** What tabs say to each other. */
type Word =
  | { readonly say: 'event'; readonly event: ServerEvent }
  | { readonly say: 'stands'; readonly standing: StreamStanding }
  /** A tab that has just come, or woken: is there a leader, and what does it know? */
  | { readonly say: 'ask'; readonly retry: boolean };

/** How long a leader may take to answer, ms. */
const ANSWER_MS = 2_000;

/** What a shared stream is for. */
export interface SharedListener {
  deliver(event: ServerEvent): void;
  /** All that has been delivered so far as one event, for a tab that comes later; null: nothing yet. */
  summary(): ServerEvent | null;
}

export class SharedStream {
  state: StreamState = $state('connecting');
  /** When the next attempt is made while offline, in ms since the epoch. */
  retryAt: number | undefined = $state();

  readonly #listener: SharedListener;
  readonly #own: EventStream;
  #name = '';
  #channel: BroadcastChannel | null = null;
  /** Ends the request for the lock, or the hold on it. */
  #turn = new AbortController();
  #leads = false;
  #silence: ReturnType<typeof setTimeout> | undefined;

  constructor(url: string, listener: SharedListener) {
    this.#listener = listener;
    this.#own = new EventStream(url, {
      deliver: (event) => {
        this.#listener.deliver(event);
        this.#say({ say: 'event', event });
      },
      stands: (standing) => this.#stood(standing),
    });
  }

  /** Follows the events of a person until `stop`; only tabs of the same person share. */
  start(user: string): void {
    if (this.#channel || this.#leads) return;
    this.#show({ state: 'connecting', retryAt: undefined });
    if (!canShare()) return this.#lead();
    this.#name = `rexec-events-${user}`;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }: MessageEvent<Word>) => this.#heard(data);
    addEventListener('online', this.#wake);
    document.addEventListener('visibilitychange', this.#wake);
    this.#follow();
  }

  stop(): void {
    removeEventListener('online', this.#wake);
    document.removeEventListener('visibilitychange', this.#wake);
    clearTimeout(this.#silence);
    this.#channel?.close();
    this.#channel = null;
    this.#leads = false;
    this.#own.stop();
    this.#turn.abort();
  }

  /** Tries at once instead of waiting for the pause to end. */
  retryNow(): void {
    if (this.#leads) this.#own.retryNow();
    else this.#ask(true);
  }

  /** Waits for the lock and listens meanwhile. */
  #follow(): void {
    void this.#queue({});
    this.#ask(false);
  }

  /** Takes the lock from a leader that does not answer. */
  #overthrow(): void {
    this.#turn.abort();
    void this.#queue({ steal: true });
  }

  async #queue(how: { steal?: true }): Promise<void> {
    const turn = new AbortController();
    this.#turn = turn;
    const options = how.steal ? how : { signal: turn.signal };
    try {
      await navigator.locks.request(this.#name, options, () => this.#hold(turn.signal));
    } catch {
      // Given up by this tab, or taken by another one that missed us: then we follow that one.
      if (turn.signal.aborted) return;
      this.#leads = false;
      this.#own.stop();
      this.#follow();
    }
  }

  /** Leads for as long as the lock is held. */
  #hold(turn: AbortSignal): Promise<void> {
    if (turn.aborted) return Promise.resolve();
    clearTimeout(this.#silence);
    this.#lead();
    return new Promise((done) => turn.addEventListener('abort', () => done()));
  }

  #lead(): void {
    this.#leads = true;
    this.#own.start();
  }

  #stood(standing: StreamStanding): void {
    this.#show(standing);
    // What ended is this tab's login: the next leader asks for itself.
    if (standing.state === 'signed-out') this.stop();
    else this.#say({ say: 'stands', standing });
  }

  #heard(word: Word): void {
    if (word.say === 'ask') {
      if (this.#leads) this.#answer(word.retry);
      return;
    }
    if (this.#leads) return;
    this.#expect(SILENCE_MS);
    if (word.say === 'event') this.#listener.deliver(word.event);
    else this.#show(word.standing);
  }

  #answer(retry: boolean): void {
    if (retry) this.#own.retryNow();
    this.#say({ say: 'stands', standing: this.#own.standing });
    const event = this.#listener.summary();
    if (event) this.#say({ say: 'event', event });
  }

  #ask(retry: boolean): void {
    this.#say({ say: 'ask', retry });
    this.#expect(ANSWER_MS);
  }

  /** Something must be heard from the leader within so many ms. */
  #expect(ms: number): void {
    clearTimeout(this.#silence);
    if (this.#channel) this.#silence = setTimeout(() => this.#overthrow(), ms);
  }

  readonly #wake = () => {
    if (!this.#leads && document.visibilityState === 'visible') this.#ask(true);
  };

  #say(word: Word): void {
    this.#channel?.postMessage(word);
  }

  #show({ state, retryAt }: StreamStanding): void {
    this.state = state;
    this.retryAt = retryAt;
  }
}

function canShare(): boolean {
  // Both are missing where the page is no secure context, whatever the types say.
  return 'locks' in navigator && 'BroadcastChannel' in globalThis;
}
