/**
 * Predictive echo, after mosh: what the line under the cursor will look like once the host has echoed
 * what was typed. It guesses, it never writes: the terminal holds what the host sent and nothing else.
 * Without a DOM or a clock; `now` is the caller's monotonic clock in milliseconds.
 *
 * - A guess belongs to an *epoch*. Guesses of an epoch are shown only once the host has echoed a character
 *   of it: a password prompt echoes none, so nothing typed there is ever shown. Enter, Esc, control
 *   characters, a cursor that the host moves by itself and every wrong guess begin a new epoch.
 * - The host says up to where input was written, and where output stood then (`InputAck`). When the terminal
 *   has parsed that far, a guess may be confirmed; {@link GRACE_MS} later one that does not hold is wrong,
 *   and all are withdrawn.
 * - After a key of unknown effect the place of the cursor is unknown (*lost*): nothing is guessed until the
 *   terminal shows all that was acknowledged; what is still on its way is then guessed from there.
 *
 * Invariants: all guesses are on one line; none is in the last column or left of where the epoch began;
 * none exists while a program paints for itself ({@link View.raw}).
 */
import { type Keystroke, keystrokes } from './keystrokes';

/** What the terminal shows: the result of the bytes parsed so far. */
export interface View {
  readonly cols: number;
  /** The line of the cursor, counted from the first line of the scrollback. */
  readonly row: number;
  /** The column of the cursor. */
  readonly col: number;
  /** A full-screen program, or one that takes keys or the mouse by itself: nothing is to be guessed. */
  readonly raw: boolean;
  /** The character in a cell, a blank for none; null when it is not exactly one cell wide. */
  cell(row: number, col: number): string | null;
}

/** What to draw over the terminal. */
export interface Overlay {
  readonly row: number;
  readonly cells: readonly { readonly col: number; readonly text: string }[];
  readonly cursor: number;
}

/** How long a program may take to echo what it has been given, ms. Mosh waits 50; a busy machine needs more, and then text would flicker. */
export const GRACE_MS = 150;
/** How long nothing must have been acknowledged for the terminal to show all that was, ms: less than from key to key. */
export const QUIET_MS = 60;
/** Keys on their way that are remembered; with more, nothing is guessed until they have arrived. */
const FLIGHT_MAX = 1_000;
/** Echoed characters that an epoch needs before it is shown, after many wrong guesses. */
const CAUTION_MAX = 8;
/** Right guesses that take back half of the caution. */
const REGAIN = 16;
/** Signs that prompts for secrets print in place of what is typed: they prove nothing. */
const MASKS: ReadonlySet<string> = new Set(['*', '•']);

interface Epoch {
  /** Characters the host has echoed as guessed. */
  echoed: number;
  shown: boolean;
}

interface Guess {
  readonly epoch: Epoch;
  /** The sequence number after the key that it is about. */
  readonly end: number;
  readonly text: string;
  /** What the cell held or was thought to hold before: to see it there proves nothing. */
  readonly before: readonly (string | null)[];
  /** A neighbour that moves when something is put in or taken out: not every program moves it. */
  readonly moved: boolean;
}

interface Move {
  readonly epoch: Epoch;
  readonly end: number;
  readonly col: number;
}

interface Ack {
  readonly seq: number;
  readonly offset: number;
  /** When the terminal had parsed up to `offset`; null: not yet. */
  at: number | null;
}

/** Guesses about one terminal. */
export class Prediction {
  #epoch: Epoch = { echoed: 0, shown: false };
  /** The newest guess about each column of `#row`. */
  #guesses = new Map<number, Guess>();
  /** Where the cursor is after each key, in order. Each is on `#row`. */
  #moves: Move[] = [];
  #row = 0;
  /** Where the cursor was when the epoch's first guess was made: what is left of it was not typed here. */
  #floor: number | null = null;
  /** The rightmost place of the cursor in this epoch. */
  #reach = 0;
  /** Keys that the terminal does not surely show yet, in order. */
  #flight: Keystroke[] = [];
  #lost: boolean;
  #acks: Ack[] = [];
  /** Input before this is acknowledged; … and the terminal has parsed its acknowledgement's offset; … for so long; … for the grace. */
  #acked: number;
  #parsed: number;
  #quiet: number;
  #settled: number;
  #offset = 0;
  /** Where the cursor stood when nothing was on its way; null while something is. */
  #resting: { readonly row: number; readonly col: number } | null = null;
  #caution = 1;
  #right = 0;
  /** Whether the line right of the cursor makes room for what is put in. A program that suggests there does not. */
  #inserts = true;

  /** Begins where the host has written all before `acked`, of `end` bytes typed. */
  constructor(acked: number, end: number) {
    this.#acked = acked;
    this.#parsed = acked;
    this.#quiet = acked;
    this.#settled = acked;
    if (end > acked) this.#flight = [{ kind: 'other', end }];
    this.#lost = end > acked;
  }

  /** `data` was typed; `end` is the sequence number after its last byte. */
  typed(data: string, end: number, view: View, now: number): void {
    this.look(view, now);
    for (const key of keystrokes(data, end)) {
      this.#flight.push(key);
      if (!this.#lost) this.#guess(key, view);
    }
    this.#resting = null;
    if (this.#flight.length <= FLIGHT_MAX) return;
    this.#flight = [{ kind: 'other', end }];
    this.#withdraw();
  }

  /** The host: input before `seq` had been written when output stood at `offset`. */
  acked(seq: number, offset: number, view: View, now: number): void {
    if (seq > this.#acked) this.#acks.push({ seq, offset, at: null });
    this.#acked = Math.max(this.#acked, seq);
    this.look(view, now);
  }

  /** The terminal has parsed all output before `offset`. */
  parsed(offset: number, view: View, now: number): void {
    this.#offset = offset;
    this.look(view, now);
  }

  /** The terminal was painted or resized: nothing that was guessed holds. */
  forget(): void {
    this.#withdraw();
    this.#resting = null;
  }

  /** Input from `seq` on will never be sent. */
  dropped(seq: number): void {
    if (this.#flight.every(({ end }) => end <= seq)) return;
    this.#flight = this.#flight.filter(({ end }) => end <= seq);
    this.#withdraw();
  }

  /** Compares with what the terminal shows now. */
  look(view: View, now: number): void {
    this.#settle(now);
    if (view.raw) this.#withdraw();
    else if (!this.#hold(view)) this.#failed();
    this.#flight = this.#flight.filter(({ end }) => end > this.#settled);
    if (this.#lost) this.#find(view);
    this.#rest(view);
  }

  /** When {@link look} must be called at the latest; null: not by the clock. */
  get deadline(): number | null {
    const parsed = this.#acks.filter((ack): ack is Ack & { at: number } => ack.at !== null);
    const due = parsed.map(({ seq, at }) => at + (seq > this.#quiet ? QUIET_MS : GRACE_MS));
    return due.length > 0 ? Math.min(...due) : null;
  }

  /** What to draw; null: nothing. */
  get overlay(): Overlay | null {
    const cells = [...this.#guesses]
      .filter(([, { epoch }]) => epoch.shown)
      .map(([col, { text }]) => ({ col, text }));
    const cursor = this.#moves.findLast(({ epoch }) => epoch.shown)?.col;
    return cursor === undefined ? null : { row: this.#row, cells, cursor };
  }

  // ── guessing ────────────────────────────────────────────────────────────────────────────────

  #guess(key: Keystroke, view: View): void {
    const { row, col } = this.#cursor(view);
    if (this.#guesses.size === 0 && this.#moves.length === 0) this.#row = row;
    this.#floor ??= col;
    this.#reach = Math.max(this.#reach, col);
    const fits = !view.raw && row === this.#row && this.#apply(key, col, view);
    if (!fits) this.#getLost();
  }

  /** Guesses what a key does at a column; false: it cannot be known. */
  #apply(key: Keystroke, col: number, view: View): boolean {
    const { end } = key;
    switch (key.kind) {
      case 'text':
        return this.#put(key.text, col, end, view);
      case 'erase':
        return col > (this.#floor ?? col) && this.#takeOut(col, end, view);
      case 'left':
        return col > (this.#floor ?? col) && this.#move(col - 1, end);
      case 'right':
        // At the end of the line some programs accept what they suggest.
        return col < this.#reach && this.#move(col + 1, end);
      case 'other':
        return false;
    }
  }

  #put(text: string, col: number, end: number, view: View): boolean {
    if (col >= view.cols - 1 || this.#shown(col, view) === null) return false;
    const run = this.#inserts ? this.#run(col, view) : [];
    if (col + run.length >= view.cols - 1) return false;
    run.forEach((moved, index) => {
      this.#set(col + index + 1, moved, end, view, true);
    });
    this.#set(col, text, end, view, false);
    this.#reach = this.#inserts ? this.#reach + 1 : Math.max(this.#reach, col + 1);
    return this.#move(col + 1, end);
  }

  #takeOut(col: number, end: number, view: View): boolean {
    const run = this.#inserts ? this.#run(col, view) : [];
    [...run, ' '].forEach((moved, index) => {
      this.#set(col - 1 + index, moved, end, view, true);
    });
    this.#reach = Math.max(this.#reach - 1, col - 1);
    return this.#move(col - 1, end);
  }

  #move(col: number, end: number): true {
    this.#moves.push({ epoch: this.#epoch, end, col });
    return true;
  }

  #set(col: number, text: string, end: number, view: View, moved: boolean): void {
    const old = this.#guesses.get(col);
    const before = [...(old ? [...old.before, old.text] : []), view.cell(this.#row, col)];
    this.#guesses.set(col, { epoch: this.#epoch, end, text, before, moved });
  }

  /** The text from a column up to the first gap: what moves when something is put in before it. */
  #run(col: number, view: View): string[] {
    const run: string[] = [];
    for (let at = col; at < view.cols; at += 1) {
      const text = this.#shown(at, view);
      if (text === null || (text === ' ' && (this.#shown(at + 1, view) ?? ' ') === ' ')) break;
      run.push(text);
    }
    return run;
  }

  /** What a cell of the line is thought to hold. */
  #shown(col: number, view: View): string | null {
    return this.#guesses.get(col)?.text ?? view.cell(this.#row, col);
  }

  #cursor(view: View): { readonly row: number; readonly col: number } {
    const last = this.#moves.at(-1);
    return last ? { row: this.#row, col: last.col } : view;
  }

  // ── comparing ───────────────────────────────────────────────────────────────────────────────

  /** Moves on with the acknowledgements. */
  #settle(now: number): void {
    for (const ack of this.#acks) {
      if (ack.offset > this.#offset) break;
      ack.at ??= now;
      this.#parsed = ack.seq;
      if (now >= ack.at + QUIET_MS) this.#quiet = ack.seq;
      if (now >= ack.at + GRACE_MS) this.#settled = ack.seq;
    }
    this.#acks = this.#acks.filter(({ seq }) => seq > this.#settled);
  }

  /** Confirms what came true. False: something should have by now. */
  #hold(view: View): boolean {
    this.#passUnknown();
    const cursor = this.#cursorHolds(view);
    if (cursor === 'wrong') return false;
    for (const [col, guess] of this.#guesses) {
      if (guess.end > this.#parsed) continue;
      if (view.cell(this.#row, col) === guess.text && (guess.moved || cursor === 'right')) {
        this.#guesses.delete(col);
        if (!guess.moved) this.#confirmed(guess);
      } else if (guess.end <= this.#settled) {
        if (!guess.moved) return false;
        this.#guesses.delete(col);
        this.#inserts = false;
      }
    }
    return true;
  }

  /** Once a key of unknown effect has arrived, what was guessed before it can no longer be compared. */
  #passUnknown(): void {
    const unknown = this.#flight.findLast(
      ({ kind, end }) => kind === 'other' && end <= this.#parsed,
    );
    if (!unknown) return;
    for (const [col, { end }] of this.#guesses) if (end <= unknown.end) this.#guesses.delete(col);
    this.#moves = this.#moves.filter(({ end }) => end > unknown.end);
  }

  /** Whether the cursor is where the newest acknowledged key leaves it, or a later one. */
  #cursorHolds(view: View): 'right' | 'wrong' | 'open' {
    const newest = this.#moves.findLastIndex(({ end }) => end <= this.#parsed);
    if (newest < 0) return 'right';
    const here = ({ col }: Move) => view.row === this.#row && view.col === col;
    if (this.#moves.slice(newest).some(here)) {
      this.#moves.splice(0, newest + 1);
      return 'right';
    }
    return (this.#moves[newest]?.end ?? 0) <= this.#settled ? 'wrong' : 'open';
  }

  #confirmed({ epoch, text, before }: Guess): void {
    if (text === ' ' || MASKS.has(text) || before.includes(text)) return;
    epoch.echoed += 1;
    epoch.shown ||= epoch.echoed >= this.#caution;
    this.#right += 1;
    if (this.#right < REGAIN) return;
    this.#right = 0;
    this.#caution = Math.max(1, Math.floor(this.#caution / 2));
  }

  #failed(): void {
    if (this.overlay) {
      this.#caution = Math.min(CAUTION_MAX, this.#caution * 2);
      this.#right = 0;
    }
    this.#withdraw();
  }

  #withdraw(): void {
    this.#guesses.clear();
    this.#moves = [];
    this.#getLost();
  }

  /** The place of the cursor is unknown from here on. */
  #getLost(): void {
    this.#beginEpoch();
    this.#lost = true;
  }

  #beginEpoch(): void {
    this.#epoch = { echoed: 0, shown: false };
    this.#floor = null;
    this.#reach = 0;
  }

  /** The terminal shows all that was acknowledged, and nothing else is known to have arrived: go on from there. */
  #find(view: View): void {
    if (view.raw || this.#acked !== this.#quiet) return;
    if (this.#guesses.size > 0 || this.#moves.length > 0) return;
    const coming = this.#flight.filter(({ end }) => end > this.#acked);
    if (coming.some(({ kind }) => kind === 'other')) return;
    this.#lost = false;
    for (const key of coming) if (!this.#lost) this.#guess(key, view);
  }

  /** A cursor that moves while nothing is on its way: the host does something else now, and trust begins anew. */
  #rest(view: View): void {
    const busy = this.#flight.length > 0 || this.#guesses.size > 0 || this.#moves.length > 0;
    if (busy) this.#resting = null;
    else if (this.#resting?.row !== view.row || this.#resting.col !== view.col) {
      if (this.#resting) this.#beginEpoch();
      this.#resting = { row: view.row, col: view.col };
    }
  }
}
