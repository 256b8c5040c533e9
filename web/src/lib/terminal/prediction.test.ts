// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { type Chance, forSeeds } from '../protocol/testing/random';
import { keystrokes } from './keystrokes';
import { GRACE_MS, type Overlay, Prediction, type View } from './prediction';
import { HIDE_BELOW_MS, SHOW_FROM_MS, Worth } from './worth';

const LEFT = '\u001b[D';
const RIGHT = '\u001b[C';
const ERASE = '\u007f';
const COLS = 20;
// biome-ignore lint/suspicious/noControlCharactersInRegex: arrow keys are escape sequences
const KEY = /\u001b\[.|./gs;

/** A terminal that knows what the model shell prints: characters, CR, LF, BS, and `\u0001` for an alternate screen on and off. */
class PaperScreen implements View {
  readonly cols = COLS;
  row = 0;
  col = 0;
  raw = false;
  #rows: string[][] = [];

  cell(row: number, col: number): string | null {
    return col < 0 || col >= COLS ? null : (this.#rows[row]?.[col] ?? ' ');
  }

  print(text: string): void {
    for (const char of text) this.#one(char);
  }

  line(row: number): string {
    return Array.from({ length: COLS }, (_, col) => this.cell(row, col))
      .join('')
      .trimEnd();
  }

  #one(char: string): void {
    if (char === '\r') this.col = 0;
    else if (char === '\n') this.row += 1;
    else if (char === '\b') this.col -= 1;
    else if (char === '\u0001') this.raw = !this.raw;
    else {
      if (this.col >= COLS) [this.row, this.col] = [this.row + 1, 0];
      this.#rows[this.row] ??= [];
      const row = this.#rows[this.row] ?? [];
      row[this.col] = char;
      this.col += 1;
    }
  }
}

type Mode = 'line' | 'hidden' | 'masked' | 'raw';

/** A shell with a line editor. It echoes, or not; says what it has read, and where its output stood then. */
class PaperShell {
  mode: Mode = 'line';
  /** What was typed where nothing may be seen of it. */
  readonly secrets: string[] = [];
  out = '';
  #line = '';
  #at = 0;

  constructor() {
    this.out = '$ ';
  }

  /** Reads a key; returns what it prints. */
  read(key: string, next: Mode, prints: string): string {
    const before = this.out.length;
    if (key === '\r') this.#enter(next, prints);
    else if (this.mode === 'line') this.#edit(key);
    else {
      this.secrets.push(key);
      if (this.mode === 'masked' && key.length === 1 && key >= ' ' && key !== ERASE)
        this.out += '*';
    }
    return this.out.slice(before);
  }

  #enter(next: Mode, prints: string): void {
    if (this.mode === 'raw') this.out += '\u0001';
    const prompt = { line: '$ ', hidden: 'Password: ', masked: 'PIN: ', raw: '\u0001~' }[next];
    this.out += `\r\n${prints}${prompt}`;
    this.mode = next;
    [this.#line, this.#at] = ['', 0];
  }

  #edit(key: string): void {
    const [left, right] = [this.#line.slice(0, this.#at), this.#line.slice(this.#at)];
    if (key === LEFT && left !== '') this.#set(this.#line, this.#at - 1, '\b');
    else if (key === RIGHT && right !== '') this.#set(this.#line, this.#at + 1, right.slice(0, 1));
    else if (key === ERASE && left !== '')
      this.#set(
        left.slice(0, -1) + right,
        this.#at - 1,
        `\b${right} ${'\b'.repeat(right.length + 1)}`,
      );
    else if (key.length === 1 && key >= ' ' && key !== ERASE && this.#line.length < COLS - 4)
      this.#set(left + key + right, this.#at + 1, key + right + '\b'.repeat(right.length));
  }

  #set(line: string, at: number, echo: string): void {
    [this.#line, this.#at] = [line, at];
    this.out += echo;
  }
}

type Parcel =
  | { readonly at: number; readonly ack: { seq: number; offset: number } }
  | { readonly at: number; readonly output: string };

/** A person, a shell far away, and what the person sees. */
class Far {
  now = 0;
  readonly screen = new PaperScreen();
  readonly shell = new PaperShell();
  readonly prediction = new Prediction(0, 0);
  /** Everything that was ever shown before the host had said it. */
  readonly shown: Overlay[] = [];
  readonly #up: { at: number; key: string; end: number; next: Mode; prints: string }[] = [];
  readonly #down: Parcel[] = [];
  #end = 0;
  #offset = 0;
  #lastUp = 0;
  #lastDown = 0;

  constructor(readonly delay: () => number) {
    this.#send({ output: this.shell.out });
    this.pass(2_000);
  }

  type(data: string, next: Mode = 'line', prints = ''): this {
    for (const [key] of data.matchAll(KEY)) {
      this.#end += new TextEncoder().encode(key).length;
      this.#lastUp = Math.max(this.#lastUp, this.now + this.delay());
      this.#up.push({ at: this.#lastUp, key, end: this.#end, next, prints });
      this.prediction.typed(key, this.#end, this.screen, this.now);
      this.#note();
    }
    return this;
  }

  /** The host prints by itself. */
  print(output: string): this {
    this.shell.out += output;
    this.#send({ output });
    return this;
  }

  pass(ms: number): this {
    const end = this.now + ms;
    while (this.now < end) {
      this.now += 1;
      while ((this.#up[0]?.at ?? end) <= this.now && this.#up[0]) this.#arrive();
      while ((this.#down[0]?.at ?? end) <= this.now && this.#down[0]) this.#receive();
      const { deadline } = this.prediction;
      if (deadline !== null && this.now >= deadline) this.prediction.look(this.screen, this.now);
      this.#note();
    }
    return this;
  }

  get overlay(): Overlay | null {
    return this.prediction.overlay;
  }

  /** The line of the cursor as the person sees it. */
  get seen(): string {
    const line = Array.from({ length: COLS }, (_, col) => this.screen.cell(this.screen.row, col));
    for (const { col, text } of this.overlay?.cells ?? []) line[col] = text;
    return line.join('').trimEnd();
  }

  get cursor(): number {
    return this.overlay?.cursor ?? this.screen.col;
  }

  #arrive(): void {
    const read = this.#up.shift();
    if (!read) return;
    const offset = this.shell.out.length;
    const output = this.shell.read(read.key, read.next, read.prints);
    this.#send({ ack: { seq: read.end, offset } });
    if (output !== '') this.#send({ output });
  }

  #send(parcel: { ack: { seq: number; offset: number } } | { output: string }): void {
    this.#lastDown = Math.max(this.#lastDown, this.now + this.delay());
    this.#down.push({ at: this.#lastDown, ...parcel });
  }

  #receive(): void {
    const parcel = this.#down.shift();
    if (!parcel) return;
    if ('ack' in parcel) {
      const { seq, offset } = parcel.ack;
      this.prediction.acked(seq, offset, this.screen, this.now);
    } else {
      this.screen.print(parcel.output);
      this.#offset += parcel.output.length;
      this.prediction.parsed(this.#offset, this.screen, this.now);
    }
  }

  #note(): void {
    const { overlay } = this;
    if (overlay) this.shown.push(overlay);
  }
}

const far = (ms = 150) => new Far(() => ms);
const RTT = 300;
/** A far shell whose line is trusted: its first character has come back. */
const trusted = (text = 'l') =>
  far()
    .type(text)
    .pass(RTT + 1);

describe('prediction', () => {
  it('shows nothing of a line before the host has echoed a character of it, and then at once', () => {
    const it = far().type('l');
    expect(it.overlay).toBeNull();
    it.pass(RTT / 2).type('s');
    expect(it.overlay).toBeNull();
    it.pass(RTT / 2 + 1);
    expect(it.seen).toBe('$ ls');
    it.type(' -a');
    expect(it.seen).toBe('$ ls -a');
    expect(it.cursor).toBe(7);
    it.pass(RTT + 1);
    expect(it.overlay).toBeNull();
    expect(it.screen.line(0)).toBe('$ ls -a');
  });

  it('erases and moves within what was typed', () => {
    const it = trusted('echo');
    it.type(`x${ERASE}`);
    expect([it.seen, it.cursor]).toEqual(['$ echo', 6]);
    it.type(`${LEFT}${LEFT}u`);
    expect([it.seen, it.cursor]).toEqual(['$ ecuho', 5]);
    it.type(`${ERASE}${RIGHT}`);
    expect([it.seen, it.cursor]).toEqual(['$ echo', 5]);
    it.pass(2 * RTT);
    expect(it.overlay).toBeNull();
    expect([it.screen.line(0), it.screen.col]).toEqual(['$ echo', 5]);
  });

  it('does not guess what lies left of what was typed, or right of it', () => {
    const it = trusted('a');
    it.type(ERASE).type(ERASE).type(ERASE);
    expect(it.seen).toBe('$');
    expect(it.cursor).toBe(2);
    const right = trusted('a').type(RIGHT);
    expect(right.cursor).toBe(right.screen.col);
  });

  it('shows nothing of a password, however it is typed', () => {
    for (const mode of ['hidden', 'masked'] as const) {
      const it = trusted('sudo')
        .type('\r', mode)
        .pass(RTT + GRACE_MS + 1);
      it.shown.length = 0;
      for (const key of `hun*ter2${ERASE}x`) it.type(key).pass(90);
      it.pass(2 * RTT)
        .type('\r')
        .pass(2 * RTT);
      expect(it.shown).toEqual([]);
    }
  });

  it('a password typed before its prompt is seen is not shown, even where it spells the prompt', () => {
    const it = trusted('sudo').type('\r', 'hidden');
    it.shown.length = 0;
    it.pass(GRACE_MS);
    for (const key of 'Password: Password: ') it.type(key).pass(30);
    it.pass(2 * RTT);
    expect(it.shown.flatMap(({ row, cells }) => (row > 0 ? cells : []))).toEqual([]);
  });

  it('typing goes on being guessed after Enter without a pause', () => {
    const it = trusted('ls')
      .type('\r', 'line', 'a b\r\n')
      .pass(RTT + 10);
    it.shown.length = 0;
    for (const key of 'cat a b') it.type(key).pass(110);
    expect(it.shown.length).toBeGreaterThan(0);
    it.pass(2 * RTT);
    expect(it.screen.line(it.screen.row)).toBe('$ cat a b');
    expect(it.overlay).toBeNull();
  });

  it('what turns out wrong is withdrawn, all of it, and costs trust', () => {
    const it = trusted('ab');
    it.print('\r\nmail!\r\n$ ab').type('cd');
    expect(it.seen).toBe('$ abcd');
    it.pass(RTT / 2 + GRACE_MS + RTT);
    expect(it.overlay).toBeNull();
    expect(it.screen.line(it.screen.row)).toBe('$ abcd');
    it.type('e')
      .pass(RTT + GRACE_MS + 1)
      .type('f');
    expect(it.overlay).toBeNull();
    it.pass(RTT + GRACE_MS + 1).type('g');
    expect(it.seen).toBe('$ abcdefg');
  });

  it('a cursor that the host moves by itself ends the trust', () => {
    const it = trusted('ab').pass(RTT);
    it.print('\r\nPassword: ').pass(RTT).type('x');
    expect(it.overlay).toBeNull();
  });

  it('guesses nothing in a program that paints for itself, and withdraws when one begins', () => {
    const it = trusted('vi');
    it.type('m').screen.raw = true;
    it.pass(1).prediction.look(it.screen, it.now);
    expect(it.overlay).toBeNull();
    it.type('iabc').pass(RTT);
    expect(it.overlay).toBeNull();
  });

  it('guesses nothing in the last column, nor wide or combining characters', () => {
    const it = trusted('x'.repeat(COLS - 5));
    it.type('yz!');
    expect(Math.max(...(it.overlay?.cells ?? []).map(({ col }) => col))).toBe(COLS - 2);
    for (const odd of ['漢', 'e\u0301', '🎉', '\u00ad', '\t']) {
      const { shown } = trusted('a').type(odd);
      expect(
        shown
          .flatMap(({ cells }) => cells)
          .filter(({ text }) => odd.includes(text) && text !== 'e'),
      ).toEqual([]);
    }
  });

  it('a program that does not make room right of the cursor is understood after one time', () => {
    const it = trusted('a').print('bcd\b\b\b').pass(RTT).type('b');
    expect(it.overlay?.cells).toHaveLength(4);
    it.pass(RTT + GRACE_MS + 1);
    expect(it.overlay).toBeNull();
    it.type('c');
    expect(it.overlay?.cells).toEqual([{ col: 4, text: 'c' }]);
    expect(it.seen).toBe('$ abcd');
  });

  it('a terminal that is painted anew has no guesses', () => {
    const it = trusted('ab').type('c');
    expect(it.overlay).not.toBeNull();
    it.prediction.forget();
    expect(it.overlay).toBeNull();
  });

  it('input that is never sent is not shown', () => {
    const it = trusted('ab').type('cd');
    expect(it.overlay).not.toBeNull();
    it.prediction.dropped(3);
    expect(it.overlay).toBeNull();
  });

  it('a long silence does not pile up guesses', () => {
    const it = trusted('a');
    for (let n = 0; n < 3_000; n += 1) it.type(n % 2 ? ERASE : 'b');
    expect(it.overlay).toBeNull();
    it.pass(3 * RTT);
    expect(it.screen.line(0)).toBe('$ a');
    it.type('c')
      .pass(RTT + GRACE_MS)
      .type('d');
    expect(it.seen).toBe('$ acd');
  });
});

/** Characters of which each is typed once in a while only: one that is seen tells when it was typed. */
const ALPHABET = Array.from({ length: 0x180 }, (_, index) => String.fromCharCode(0x100 + index));

function live(it: Far, chance: Chance): void {
  let next = 0;
  for (let step = 0; step < 250; step += 1) {
    it.pass(chance.between(0, chance.once(6) ? 700 : 120));
    if (chance.once(14)) {
      const mode = (['line', 'line', 'hidden', 'masked', 'raw'] as const)[chance.between(0, 4)];
      it.type('\r', mode, chance.once(2) ? 'out\r\nput\r\n' : '');
    } else if (chance.once(8)) it.type(ERASE);
    else if (chance.once(7)) it.type(chance.once(2) ? LEFT : RIGHT);
    else if (chance.once(40)) it.type('\u001b');
    else if (chance.once(60)) it.print('!');
    else {
      it.type(ALPHABET[next % ALPHABET.length] ?? '');
      next += 1;
    }
  }
}

it('whatever is typed, echoed and delayed: in the end nothing is guessed, and no secret was ever shown', () => {
  let shown = 0;
  forSeeds(150, (chance) => {
    const base = chance.between(5, 400);
    const it = new Far(() => base + (chance.once(10) ? chance.between(0, 200) : 0));
    live(it, chance);
    it.pass(20_000);
    expect(it.overlay).toBeNull();
    const seen = new Set(it.shown.flatMap(({ cells }) => cells.map(({ text }) => text)));
    const secrets = it.shell.secrets.filter((key) => key >= '\u0100' && key !== LEFT);
    expect(secrets.filter((secret) => seen.has(secret))).toEqual([]);
    shown += seen.size;
  });
  // The story is only worth its name if much was shown.
  expect(shown).toBeGreaterThan(2_000);
}, 60_000);

it('on a line that only grows, what is seen is what was typed as soon as the first has come back', () => {
  forSeeds(50, (chance) => {
    const it = far(chance.between(20, 500));
    const [first = '', ...rest] = Array.from({ length: COLS - 5 }, () =>
      chance.between(97, 122),
    ).map((code) => String.fromCharCode(code));
    let line = `$ ${first}`;
    it.type(first).pass(1_001 + GRACE_MS);
    for (const key of rest) {
      line += key;
      it.type(key);
      expect(it.seen).toBe(line);
      it.pass(chance.between(0, 150));
      expect(it.seen).toBe(line);
    }
  });
});

describe('keystrokes', () => {
  it('know arrows in both forms, and the numbers of bytes', () => {
    expect(keystrokes(`é${LEFT}\u001bOC${ERASE}`, 109)).toEqual([
      { kind: 'text', text: 'é', end: 102 },
      { kind: 'left', end: 105 },
      { kind: 'right', end: 108 },
      { kind: 'erase', end: 109 },
    ]);
  });

  it.each([
    '\r',
    '\t',
    '\u0003',
    '\u001b',
    '\u001bx',
    '\u001b[I',
    '\u001b[1;5C',
    '\u001bOA',
    '\u001b[3~',
    '漢',
    '🎉',
  ])('%j is one key of unknown effect', (data) => {
    expect(keystrokes(data, 10)).toEqual([{ kind: 'other', end: 10 }]);
  });

  it('a paste is nothing to guess at', () => {
    expect(keystrokes('x'.repeat(500), 500)).toEqual([{ kind: 'other', end: 500 }]);
  });
});

describe('worth', () => {
  it('is on from a late echo on, and off only when it is clearly near', () => {
    const worth = new Worth();
    const settle = (ms: number) => {
      for (let n = 0; n < 30; n += 1) worth.measured(ms);
      return worth.shows('auto');
    };
    expect(worth.shows('auto')).toBe(false);
    expect(settle(SHOW_FROM_MS - 1)).toBe(false);
    expect(settle(SHOW_FROM_MS + 1)).toBe(true);
    expect(settle(HIDE_BELOW_MS + 1)).toBe(true);
    expect(settle(HIDE_BELOW_MS - 1)).toBe(false);
    expect(settle(SHOW_FROM_MS - 1)).toBe(false);
  });

  it('one late measurement makes no machine far, unless it is very late', () => {
    const near = new Worth();
    for (const ms of [1.5 * SHOW_FROM_MS, 2, 20 * SHOW_FROM_MS, 2]) {
      near.measured(ms);
      expect(near.shows('auto')).toBe(false);
    }
    const far = new Worth();
    far.measured(2 * SHOW_FROM_MS);
    expect(far.shows('auto')).toBe(true);
  });

  it('obeys', () => {
    const worth = new Worth();
    expect(worth.shows('always')).toBe(true);
    worth.measured(500);
    expect(worth.shows('never')).toBe(false);
  });
});
