/**
 * Predictive echo on one terminal: tells {@link Prediction} what is typed, acknowledged and parsed, with
 * the clock, and draws what it says. Never a byte of it gets into the terminal.
 */
import type { Terminal } from '@xterm/xterm';
import type { ViewerEvent } from '../protocol/phase';
import { EchoOverlay } from './echo-overlay';
import { Prediction, type View } from './prediction';
import { type EchoChoice, Worth } from './worth';

/** The guesses of one terminal, and their looks. */
export class PredictiveEcho {
  readonly #view: View;
  readonly #overlay: EchoOverlay;
  readonly #worth = new Worth();
  #prediction = new Prediction(0, 0);
  readonly #choice: () => EchoChoice;
  /** The number of input after all that was typed. */
  #end = 0;
  /** The terminal's generation, whose parse reports count. */
  #generation = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `choice`: what the person wants of it, now. */
  constructor(terminal: Terminal, choice: () => EchoChoice) {
    this.#choice = choice;
    this.#view = viewOf(terminal);
    this.#overlay = new EchoOverlay(terminal, this.#view);
  }

  /** The terminal is on the page. */
  open(): void {
    this.#overlay.open();
  }

  /** Typed and accepted; `end` is the sequence number after its last byte. */
  typed(data: string, end: number): void {
    this.#end = end;
    this.#do((now) => this.#prediction.typed(data, end, this.#view, now));
  }

  /** The terminal has parsed output up to `offset`. */
  parsed(generation: number, offset: number): void {
    if (generation !== this.#generation) return;
    this.#do((now) => this.#prediction.parsed(offset, this.#view, now));
  }

  /** Takes an event of the viewer. */
  take(event: ViewerEvent): void {
    switch (event.type) {
      case 'opened': {
        const { input_seq, offset } = event.opened;
        if (!event.resumed) this.#prediction = new Prediction(input_seq, this.#end);
        return this.#do((now) => this.#prediction.acked(input_seq, offset, this.#view, now));
      }
      case 'input_ack':
        return this.#do((now) => this.#prediction.acked(event.seq, event.offset, this.#view, now));
      case 'input':
        this.#end = event.acked + event.pending;
        return this.#do(() => this.#prediction.dropped(this.#end));
      case 'reset':
      case 'painting':
        this.#generation = event.generation;
        return this.#do(() => this.#prediction.forget());
      case 'resized':
        return this.#do(() => this.#prediction.forget());
      case 'rtt':
        this.#worth.measured(event.ms);
        return this.#draw();
      default:
    }
  }

  /** Takes it off the page. */
  dispose(): void {
    clearTimeout(this.#timer);
    this.#overlay.dispose();
  }

  #do(act: (now: number) => void): void {
    const now = performance.now();
    act(now);
    this.#draw();
    clearTimeout(this.#timer);
    const { deadline } = this.#prediction;
    if (deadline === null) return;
    const look = () => this.#do((now) => this.#prediction.look(this.#view, now));
    this.#timer = setTimeout(look, Math.max(0, deadline - now));
  }

  #draw(): void {
    const shows = this.#worth.shows(this.#choice());
    this.#overlay.draw(shows ? this.#prediction.overlay : null);
  }
}

/** What a terminal shows, as predictions look at it. */
function viewOf(terminal: Terminal): View {
  const active = () => terminal.buffer.active;
  return {
    get cols() {
      return terminal.cols;
    },
    get row() {
      return active().baseY + active().cursorY;
    },
    get col() {
      return active().cursorX;
    },
    get raw() {
      const { applicationCursorKeysMode, bracketedPasteMode, mouseTrackingMode } = terminal.modes;
      // Line editors (zsh, fish) switch the cursor keys too, but they bracket pastes while one types a line.
      const keys = applicationCursorKeysMode && !bracketedPasteMode;
      return active().type === 'alternate' || mouseTrackingMode !== 'none' || keys;
    },
    cell(row, col) {
      const cell = active().getLine(row)?.getCell(col);
      return cell?.getWidth() === 1 ? cell.getChars() || ' ' : null;
    },
  };
}
