import { Terminal } from '@xterm/xterm';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { PredictiveEcho } from './echo';
import { GRACE_MS } from './prediction';
import type { EchoChoice } from './worth';

const ESC = '\u001b';

vi.hoisted(() => {
  // jsdom draws nothing, and says so at length each time xterm asks whether it does.
  HTMLCanvasElement.prototype.getContext = () => null;
});

beforeAll(() => {
  // jsdom has no matchMedia; xterm asks it for the pixel ratio.
  vi.stubGlobal('matchMedia', () => ({
    addListener: vi.fn(),
    removeListener: vi.fn(),
    addEventListener: vi.fn(),
    removeEventListener: vi.fn(),
    matches: false,
  }));
});

let far: Far;
beforeEach(() => {
  far = new Far();
});
afterEach(() => far.end());

/** A terminal with predictive echo, and a host that a test plays by hand. */
class Far {
  choice: EchoChoice = 'always';
  readonly element = document.body.appendChild(document.createElement('div'));
  readonly terminal = new Terminal({ allowProposedApi: true, cols: 40, rows: 5 });
  readonly echo = new PredictiveEcho(this.terminal, () => this.choice);
  #offset = 0;
  #typed = 0;

  constructor() {
    this.terminal.open(this.element);
    this.echo.open();
    this.echo.take({ type: 'reset', generation: 1, cols: 40, rows: 5 });
  }

  end(): void {
    this.echo.dispose();
    this.terminal.dispose();
    this.element.remove();
  }

  async print(text: string, generation = 1): Promise<void> {
    await new Promise<void>((done) => this.terminal.write(text, done));
    this.#offset += text.length;
    this.echo.parsed(generation, this.#offset);
  }

  type(text: string): void {
    this.#typed += text.length;
    this.echo.typed(text, this.#typed);
  }

  /** The host has read all that was typed. */
  read(): void {
    this.echo.take({ type: 'input_ack', seq: this.#typed, offset: this.#offset });
  }

  /** Types a character, and has it echoed. */
  async trust(char = 'l'): Promise<void> {
    this.type(char);
    this.read();
    await this.print(char);
  }

  get drawn(): string | null {
    const echo = this.element.querySelector<HTMLElement>('.echo');
    if (!echo || echo.hidden) return null;
    return [...echo.querySelectorAll('.guess')].map(({ textContent }) => textContent).join('');
  }

  /** The terminal's own content. */
  get line(): string | undefined {
    return this.terminal.buffer.active.getLine(0)?.translateToString(true);
  }
}

describe('predictive echo on a terminal', () => {
  it('draws over the terminal and never writes into it', async () => {
    await far.print('$ ');
    await far.trust();
    far.type('s');
    expect(far.drawn).toBe('s');
    expect(far.line).toBe('$ l');
    far.read();
    await far.print('s');
    expect(far.drawn).toBeNull();
    expect(far.line).toBe('$ ls');
  });

  it('withdraws by the clock what the host does not echo', async () => {
    await far.print('$ ');
    await far.trust();
    far.type('s');
    far.read();
    expect(far.drawn).toBe('s');
    await vi.waitFor(() => expect(far.drawn).toBeNull(), { timeout: 20 * GRACE_MS });
  });

  it.each([
    ['an alternate screen', `${ESC}[?1049h`],
    ['reports of the mouse', `${ESC}[?1000h`],
    ['cursor keys of a program', `${ESC}[?1h`],
  ])('%s ends it at once', async (_what, mode) => {
    await far.print('$ ');
    await far.trust();
    far.type('s');
    expect(far.drawn).toBe('s');
    await far.print(mode);
    expect(far.drawn).toBeNull();
    far.type('x');
    far.read();
    await far.print('x');
    far.type('y');
    expect(far.drawn).toBeNull();
  });

  it('a line editor that switches the cursor keys is still a line', async () => {
    await far.print(`${ESC}[?1h${ESC}[?2004h$ `);
    await far.trust();
    far.type('s');
    expect(far.drawn).toBe('s');
  });

  it('is drawn where the round trip is long, and only as the person wants it', async () => {
    far.choice = 'auto';
    await far.print('$ ');
    await far.trust();
    far.type('s');
    expect(far.drawn).toBeNull();
    far.echo.take({ type: 'rtt', ms: 200 });
    expect(far.drawn).toBe('s');
    far.choice = 'never';
    far.type('t');
    expect(far.drawn).toBeNull();
  });

  it('a painting withdraws all, and parse reports from before it mean nothing', async () => {
    await far.print('$ ');
    await far.trust();
    far.type('s');
    const bytes = new Uint8Array(0);
    far.echo.take({ type: 'painting', generation: 2, offset: 9, cols: 40, rows: 5, bytes });
    expect(far.drawn).toBeNull();
    far.echo.parsed(1, 500);
    await far.print('$ ls', 2);
    expect(far.drawn).toBeNull();
  });

  it('what will never be sent is not drawn', async () => {
    await far.print('$ ');
    await far.trust();
    far.type('abc');
    expect(far.drawn).toBe('abc');
    far.echo.take({ type: 'input', acked: 1, pending: 0 });
    expect(far.drawn).toBeNull();
  });
});
