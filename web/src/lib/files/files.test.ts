import { describe, expect, it } from 'vitest';
import { utf8 } from '../protocol/bytes';
import { encodeFrame, FrameDecoder } from '../protocol/frames';
import { decodeReply, encodeAck, encodeAsk, encodeData } from './messages';
import { badName, crumbs, freeName, join, modeText, parent, sizeText, tidy } from './path';
import { uploadId } from './send';
import { fromChooser } from './sources';

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe('paths', () => {
  it('are joined, left and read as a person types them', () => {
    expect(join('/', 'a')).toBe('/a');
    expect(join('/a', 'b')).toBe('/a/b');
    expect(['/a/b', '/a', '/'].map(parent)).toEqual(['/a', '/', '/']);
    expect(tidy('~/x', '/a', '/home/jo')).toBe('/home/jo/x');
    expect(tidy('../x//y/.', '/a/b', '/home/jo')).toBe('/a/x/y');
    expect(tidy('/../..', '/a', '/')).toBe('/');
    expect(crumbs('/a/b').map(({ path }) => path)).toEqual(['/', '/a', '/a/b']);
  });

  it('say why a name is none', () => {
    for (const bad of ['', '.', '..', 'a/b', 'é'.repeat(128)]) expect(badName(bad)).not.toBeNull();
    for (const good of ['a', '.x', '...', 'é'.repeat(127), '$(reboot)'])
      expect(badName(good)).toBeNull();
  });

  it('find a name that is free', () => {
    expect(freeName('a.txt', new Set())).toBe('a.txt');
    expect(freeName('a.txt', new Set(['a.txt', 'a (2).txt']))).toBe('a (3).txt');
    expect(freeName('.rc', new Set(['.rc']))).toBe('.rc (2)');
  });
});

it('permissions and sizes are written as people know them', () => {
  expect(modeText(0o755)).toBe('rwxr-xr-x');
  expect(modeText(0o4644)).toBe('rwSr--r--');
  expect(modeText(0o1777)).toBe('rwxrwxrwt');
  expect([0, 1023, 1024, 1_500_000, 300 * 1024 ** 3].map(sizeText)).toEqual([
    '0 B',
    '1023 B',
    '1.0 KiB',
    '1.4 MiB',
    '300 GiB',
  ]);
});

describe('the wire', () => {
  it('is what the session host reads', () => {
    expect(text(encodeAsk(7, { op: 'list', path: '/tmp/a' }).subarray(2))).toBe(
      '{"id":7,"op":"list","path":"/tmp/a"}',
    );
    expect(text(encodeAck(5).subarray(2))).toBe('{"offset":5}');
    expect([...encodeData(258, utf8('x'))]).toEqual([0x81, 9, 0, 0, 0, 0, 0, 0, 1, 2, 120]);
  });

  it('is read strictly', () => {
    const read = (kind: number, body: unknown) => {
      const [frame] = new FrameDecoder().push(encodeFrame(kind, utf8(JSON.stringify(body))));
      return frame ? decodeReply(frame) : null;
    };
    const entry = {
      name: 'a',
      kind: 'gate',
      size: 1,
      modified: -5,
      mode: 420,
      owner: 'jo',
      group: 'jo',
    };
    expect(read(0x2e, { id: 1, is: 'entry', entry })).toMatchObject({
      outcome: { entry: { kind: 'other', modified: -5, unnameable: false, leadsTo: null } },
    });
    expect(read(0x2e, { id: 1, is: 'sending', entry, size: null })).toMatchObject({
      outcome: { size: null },
    });
    expect(read(0x70, {})).toBeNull();
    for (const bad of [
      { id: 1, is: 'surprise' },
      { id: 1, is: 'entry' },
      { id: -1, is: 'done' },
      { id: 1, is: 'received', offset: -1 },
      { id: 1, is: 'sent', sha256: '', lacking: [1] },
    ]) {
      expect(() => read(0x2e, bad)).toThrow();
    }
  });
});

it('an upload is named by what it is and where it goes', () => {
  expect(uploadId('a')).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(uploadId('a')).toBe(uploadId('a'));
  expect(uploadId('a')).not.toBe(uploadId('b'));
});

it('a chosen folder comes with the directories on the way, each before what is in it', () => {
  const file = (path: string) => {
    const made = new File(['x'], path.split('/').at(-1) ?? '');
    Object.defineProperty(made, 'webkitRelativePath', { value: path });
    return made;
  };
  const items = fromChooser([file('t/a/b/one'), file('t/two')], '/home');
  expect(items.map(({ path, source }) => [path, source?.size ?? null])).toEqual([
    ['/home/t', null],
    ['/home/t/a', null],
    ['/home/t/a/b', null],
    ['/home/t/a/b/one', 1],
    ['/home/t/two', 1],
  ]);
});
