import { Terminal } from '@xterm/xterm';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { OFFER_MAX, offerOf, watchOffers } from './clipboard';
import { KeyboardModes } from './kitty';
import { swallowQueries } from './queries';
import { lastPart, pathOf, Shell } from './shell';

const ESC = '\u001b';
const mark = (what: string) => `${ESC}]133;${what}\u0007`;

vi.hoisted(() => {
  HTMLCanvasElement.prototype.getContext = () => null;
});
beforeAll(() => {
  vi.stubGlobal('matchMedia', () => ({
    addListener: vi.fn(),
    removeListener: vi.fn(),
    addEventListener: vi.fn(),
    removeEventListener: vi.fn(),
    matches: false,
  }));
});

function bench() {
  const terminal = new Terminal({ allowProposedApi: true, rows: 5, cols: 40, scrollback: 1_000 });
  terminal.open(document.body.appendChild(document.createElement('div')));
  const cwd = vi.fn();
  const finished = vi.fn();
  const shell = new Shell(terminal, { cwd, finished });
  const write = (data: string) => new Promise<void>((done) => terminal.write(data, done));
  return { terminal, shell, cwd, finished, write };
}

describe('shell integration', () => {
  it('says where the shell is', async () => {
    const { cwd, write } = bench();
    await write(`${ESC}]7;file://laptop/home/ada/my%20code\u0007`);
    await write(`${ESC}]633;P;Cwd=/srv\u0007`);
    expect(cwd.mock.calls).toEqual([['/home/ada/my code'], ['/srv']]);
  });

  it.each([
    ['no path', 'file://laptop'],
    ['another scheme', 'http://laptop/x'],
    ['a broken escape', 'file:///%zz'],
    ['a path too long', `file:///${'a'.repeat(2_000)}`],
  ])('%s is nowhere', (_what, data) => expect(pathOf(data)).toBeNull());

  it('a directory is cleaned and called by its last part', () => {
    expect(pathOf('file:///a%0ab%1b%5b')).toBe('/ab[');
    expect([lastPart('/home/ada/'), lastPart('/')]).toEqual(['ada', '/']);
  });

  it('tells the end of a command that it saw begin, with its exit code', async () => {
    const { finished, write } = bench();
    await write(`${mark('A')}$ ${mark('B')}make\r\n${mark('C')}`);
    await write(`failed\r\n${mark('D;2')}${mark('A')}`);
    expect(finished).toHaveBeenCalledExactlyOnceWith(2, expect.any(Number));
    await write(`${mark('D;0')}`);
    expect(finished).toHaveBeenCalledTimes(1);
    await write(`${mark('C')}${mark('D')}`);
    expect(finished).toHaveBeenLastCalledWith(null, expect.any(Number));
  });

  it('a screen painted anew has begun nothing', async () => {
    const { shell, finished, write } = bench();
    await write(mark('C'));
    shell.reset();
    await write(mark('D;0'));
    expect(finished).not.toHaveBeenCalled();
  });

  it('jumps between prompts', async () => {
    const { terminal, shell, write } = bench();
    for (let n = 0; n < 3; n += 1) await write(`${mark('A')}$ run ${n}\r\n${'out\r\n'.repeat(10)}`);
    // jsdom does not scroll: what it was asked for is all there is to see.
    const scrolled = vi.spyOn(terminal, 'scrollToLine');
    expect(shell.jump(true)).toBe(true);
    expect(scrolled).toHaveBeenCalledExactlyOnceWith(22);
    expect(shell.jump(false)).toBe(false);
  });
});

describe('out_01 what programs offer for the clipboard', () => {
  it('is asked about, and reading it is not even answered', async () => {
    const { terminal, write } = bench();
    const [offers, answers] = [vi.fn(), vi.fn()];
    terminal.onData(answers);
    swallowQueries(terminal.parser);
    watchOffers(terminal.parser, offers);
    await write(`${ESC}]52;c;${btoa('hello')}\u0007${ESC}]52;c;?\u0007${ESC}]52;p;?${ESC}\\`);
    expect(offers).toHaveBeenCalledExactlyOnceWith('hello');
    expect(answers).not.toHaveBeenCalled();
  });

  it.each([
    ['a question', 'c;?'],
    ['no base64', 'c;***'],
    ['no text', `c;${btoa('\u00ff\u00fe')}`],
    ['nothing', 'c;'],
    ['too much', `c;${btoa('a'.repeat(OFFER_MAX + 8))}`],
  ])('%s is no offer', (_what, data) => expect(offerOf(data)).toBeNull());

  it('as much as is allowed is one', () => {
    expect(offerOf(`c;${btoa('a'.repeat(OFFER_MAX))}`)).toHaveLength(OFFER_MAX);
  });
});

describe('keyboard modes', () => {
  it('are pushed, popped and set, for each screen apart, and gone after a reset', async () => {
    const { terminal, write } = bench();
    const modes = new KeyboardModes(() => terminal.buffer.active.type);
    modes.watch(terminal.parser);
    const after = async (data: string) => {
      await write(data);
      return modes.flags;
    };
    expect(await after(`${ESC}[>1u`)).toBe(1);
    expect(await after(`${ESC}[>5u`)).toBe(5);
    expect(await after(`${ESC}[=2;2u`)).toBe(7);
    expect(await after(`${ESC}[=1;3u`)).toBe(6);
    expect(await after(`${ESC}[=3u`)).toBe(3);
    expect(await after(`${ESC}[?1049h`)).toBe(0);
    expect(await after(`${ESC}[>8u`)).toBe(8);
    expect(await after(`${ESC}[?1049l`)).toBe(3);
    expect(await after(`${ESC}[<u`)).toBe(1);
    expect(await after(`${ESC}[<9u`)).toBe(0);
    expect(await after(`${ESC}[>1u${ESC}c`)).toBe(0);
    expect(await after(`${ESC}[>255u`)).toBe(31);
  });
});
