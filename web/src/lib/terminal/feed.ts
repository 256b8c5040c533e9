/**
 * Puts what the host sends onto the terminal, in order, and reports what the terminal has *parsed*.
 *
 * xterm parses in slices, later: a reset or a resize called at once would overtake bytes still in its
 * queue. So both travel through that queue, as the callback of a write.
 */
import type { Terminal } from '@xterm/xterm';
import type { ViewerEvent } from '../protocol/phase';

/** Leaves whatever sequence was cut off, and gives back colours that were set (OSC 104, 110–112). */
const CLEAN = '\u0018\u001b]104\u0007\u001b]110\u0007\u001b]111\u0007\u001b]112\u0007';

/** What the feed needs of a terminal. */
export type FedTerminal = Pick<Terminal, 'write' | 'reset' | 'resize'>;

/** What the feed reports. */
export interface FeedReports {
  /** The terminal has parsed all before `offset`. */
  parsed(generation: number, offset: number): void;
  /** The terminal was cleared: what follows is a new screen. */
  cleared(): void;
  /** The terminal has this size now. */
  resized(cols: number, rows: number): void;
}

/** Feeds one terminal. */
export class Feed {
  readonly #terminal: FedTerminal;
  readonly #reports: FeedReports;

  constructor(terminal: FedTerminal, reports: FeedReports) {
    this.#terminal = terminal;
    this.#reports = reports;
  }

  /** Takes an event; those that do not concern the terminal are passed over. */
  take(event: ViewerEvent): void {
    switch (event.type) {
      case 'reset':
        return this.#paint(event, event.generation, 0, '');
      case 'painting':
        return this.#paint(event, event.generation, event.offset, event.bytes);
      case 'output':
        return this.#terminal.write(event.bytes, () => {
          this.#reports.parsed(event.generation, event.end);
        });
      case 'resized':
        return this.#terminal.write('', () => this.#resize(event.cols, event.rows));
      default:
    }
  }

  #paint(
    size: { cols: number; rows: number },
    generation: number,
    offset: number,
    bytes: Uint8Array | '',
  ): void {
    this.#terminal.write(CLEAN, () => {
      this.#terminal.reset();
      this.#reports.cleared();
      this.#resize(size.cols, size.rows);
    });
    this.#terminal.write(bytes, () => this.#reports.parsed(generation, offset));
  }

  #resize(cols: number, rows: number): void {
    this.#terminal.resize(cols, rows);
    this.#reports.resized(cols, rows);
  }
}
