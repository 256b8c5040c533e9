import { Terminal } from '@xterm/xterm';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { Feed } from './feed';
import { FocusReports } from './focus';
import { followable, followsLink } from './links';
import { needsConsent, preparePaste } from './paste';
import { swallowQueries } from './queries';
import { boundCells, fontFor, scaledRoom } from './size';
import { bufferText } from './text';

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

const parsed = (terminal: Terminal, data: string) =>
  new Promise<void>((done) => terminal.write(data, done));

describe('queries', () => {
  const QUERIES = [
    ['DA1', `${ESC}[c`],
    ['DA1 with a parameter', `${ESC}[0c`],
    ['DA2', `${ESC}[>c`],
    ['DA3', `${ESC}[=c`],
    ['DSR status', `${ESC}[5n`],
    ['DSR cursor', `${ESC}[6n`],
    ['DSR private cursor', `${ESC}[?6n`],
    ['DSR colour scheme', `${ESC}[?996n`],
    ['DECRQM', `${ESC}[4$p`],
    ['DECRQM private', `${ESC}[?2004$p`],
    ['DECRQSS', `${ESC}P$qm${ESC}\\`],
    ['XTGETTCAP', `${ESC}P+q544e${ESC}\\`],
    ['XTVERSION', `${ESC}[>q`],
    ['kitty keyboard', `${ESC}[?u`],
    ['palette', `${ESC}]4;1;?\u0007`],
    ['palette beside a colour', `${ESC}]4;1;#ff0000;2;?${ESC}\\`],
    ['foreground', `${ESC}]10;?\u0007`],
    ['background', `${ESC}]11;?${ESC}\\`],
    ['all three at once', `${ESC}]10;?;?;?\u0007`],
    ['cursor colour', `${ESC}]12;?\u0007`],
    ['clipboard', `${ESC}]52;c;?\u0007`],
    ['clipboard write', `${ESC}]52;c;cm0gLXJmIC8=\u0007`],
    ['window size in pixels', `${ESC}[14t`],
    ['window size in cells', `${ESC}[18t`],
    ['title', `${ESC}[21t`],
    ['icon', `${ESC}[20t`],
    ['terminal parameters', `${ESC}[x`],
    ['reports of focus switched on', `${ESC}[?1004h`],
  ] as const;

  it.each(QUERIES)('out_02 %s types nothing', async (_name, query) => {
    const terminal = new Terminal({
      allowProposedApi: true,
      windowOptions: { getWinSizeChars: true, getWinTitle: true },
    });
    swallowQueries(terminal.parser);
    const typed: string[] = [];
    const focus = new FocusReports();
    terminal.onData((data) => focus.passes(data) && typed.push(data));
    terminal.onBinary((data) => typed.push(data));
    await parsed(terminal, `before${query}after`);
    expect(typed).toEqual([]);
    expect(bufferText(terminal.buffer.active)).toBe('beforeafter');
    terminal.dispose();
  });

  it('xterm would answer: the queries above are not swallowed by accident', async () => {
    const terminal = new Terminal({ allowProposedApi: true });
    const typed: string[] = [];
    terminal.onData((data) => typed.push(data));
    await parsed(terminal, `${ESC}[c${ESC}[6n${ESC}P$qm${ESC}\\${ESC}[?1004h`);
    expect(typed).toHaveLength(4);
    terminal.dispose();
  });

  it('out_02 focus is reported when it changes, not when a program asks for reports', async () => {
    const terminal = new Terminal({ allowProposedApi: true });
    const element = document.body.appendChild(document.createElement('div'));
    terminal.open(element);
    const typed: string[] = [];
    const focus = new FocusReports();
    terminal.onData((data) => focus.passes(data) && typed.push(data));
    const { textarea } = terminal;
    if (textarea) focus.watch(element, textarea, new AbortController().signal);
    terminal.focus();
    await parsed(terminal, `${ESC}[?1004h`);
    expect(typed).toEqual([]);
    terminal.blur();
    terminal.focus();
    expect(typed).toEqual([`${ESC}[O`, `${ESC}[I`]);
    await parsed(terminal, `${ESC}[?1004l${ESC}[?1004h`);
    expect(typed).toHaveLength(2);
    terminal.dispose();
    element.remove();
  });
});

describe('feed', () => {
  it('a snapshot overtakes nothing and is reported when it has been parsed', async () => {
    const terminal = new Terminal({ allowProposedApi: true, cols: 80, rows: 24 });
    const reports: (readonly [number, number])[] = [];
    const resized = vi.fn();
    const feed = new Feed(terminal, {
      parsed: (...report) => reports.push(report),
      resized,
      cleared: vi.fn(),
    });
    const bytes = (text: string) => new TextEncoder().encode(text);
    // The old output ends within a sequence and within a character.
    feed.take({
      type: 'output',
      generation: 1,
      end: 8,
      bytes: Uint8Array.from([...bytes('old\u001b]0;t'), 0xe7]),
    });
    feed.take({
      type: 'painting',
      generation: 2,
      offset: 50,
      cols: 20,
      rows: 5,
      bytes: bytes('new'),
    });
    feed.take({ type: 'output', generation: 2, end: 55, bytes: bytes(' tail') });
    feed.take({ type: 'resized', cols: 30, rows: 6 });
    await parsed(terminal, '');
    expect(bufferText(terminal.buffer.active)).toBe('new tail');
    expect(reports).toEqual([
      [1, 8],
      [2, 50],
      [2, 55],
    ]);
    expect(resized.mock.calls).toEqual([
      [20, 5],
      [30, 6],
    ]);
    expect([terminal.cols, terminal.rows]).toEqual([30, 6]);
    terminal.dispose();
  });
});

describe('text', () => {
  it('wrapped lines are one line, scrollback belongs to it', async () => {
    const terminal = new Terminal({ cols: 10, rows: 3, allowProposedApi: true });
    await parsed(terminal, `one\r\n${'x'.repeat(25)}\r\ntwo\r\nthree`);
    expect(bufferText(terminal.buffer.active)).toBe(`one\n${'x'.repeat(25)}\ntwo\nthree`);
    terminal.dispose();
  });
});

describe('paste', () => {
  it.each([
    ['an end of bracketed paste', `a${ESC}[201~b`, 'ab'],
    ['an end hidden in an end', `a${ESC}[20${ESC}[201~1~b`, 'a[201~b'],
    ['control keys', 'a\u0003\u0004\u0000b\u007f', 'ab'],
    ['an eight-bit CSI', 'a\u009b201~', 'a201~'],
    ['nothing to take out', 'tab\there\r\nand\nthere', 'tab\there\r\nand\nthere'],
  ])('out_08 %s', (_what, raw, text) => {
    expect(preparePaste(raw)).toMatchObject({ text, cleaned: text !== raw });
  });

  it('out_08 several lines are asked about unless the program brackets pastes', () => {
    expect(needsConsent(preparePaste('ls\nrm x'), false)).toBe(true);
    expect(needsConsent(preparePaste('ls\r'), false)).toBe(true);
    expect(needsConsent(preparePaste('ls\nrm x'), true)).toBe(false);
    expect(needsConsent(preparePaste('one line'), false)).toBe(false);
    expect(preparePaste('a\r\nb\r\nc').lines).toBe(3);
  });
});

describe('links', () => {
  it.each([
    ['https://example.org/a?b#c', 'https://example.org/a?b#c'],
    ['http://localhost:3000', 'http://localhost:3000/'],
    ['javascript:alert(1)', null],
    ['data:text/html,x', null],
    ['file:///etc/passwd', null],
    ['rexec://x', null],
    ['//example.org', null],
    ['', null],
  ])('out_03 %s', (uri, address) => {
    expect(followable(uri)).toBe(address);
  });

  it('only a click meant for it follows a link', () => {
    expect(followsLink({ ctrlKey: false, metaKey: false })).toBe(false);
    expect(followsLink({ ctrlKey: true, metaKey: false })).toBe(true);
  });
});

describe('size', () => {
  it('stays within what a shell and a host bear', () => {
    expect(boundCells({ cols: 101, rows: 30 })).toEqual({ cols: 101, rows: 30 });
    expect(boundCells({ cols: 1, rows: 1 })).toEqual({ cols: 20, rows: 5 });
    expect(boundCells({ cols: 1e6, rows: 1e6 })).toEqual({ cols: 1_000, rows: 500 });
  });

  it('a shrunk terminal knows the room by proportion', () => {
    const before = { width: 800, height: 480 };
    expect(scaledRoom({ cols: 100, rows: 30 }, before, { width: 404, height: 480 })).toEqual({
      cols: 50,
      rows: 30,
    });
  });

  it('a larger session gets a smaller font, a smaller one never a larger', () => {
    const room = { cols: 100, rows: 30 };
    expect(fontFor({ cols: 200, rows: 30 }, room, 13)).toBe(6.5);
    expect(fontFor({ cols: 50, rows: 10 }, room, 13)).toBe(13);
    expect(fontFor({ cols: 1_000, rows: 30 }, room, 13)).toBe(6);
  });
});
