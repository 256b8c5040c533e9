// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { utf8 } from './bytes';
import { ProtocolError } from './frames';
import { decodeMessage, encodeMessage } from './messages';

const frame = (kind: number, body: unknown) => ({ kind, payload: utf8(JSON.stringify(body)) });

describe('messages', () => {
  it('control is JSON, data is an address and bytes', () => {
    expect(encodeMessage({ type: 'Ack', offset: 7 })).toEqual(
      Uint8Array.from([0x04, 12, ...utf8('{"offset":7}')]),
    );
    const input = encodeMessage({ type: 'Input', seq: 2 ** 40 + 5, bytes: Uint8Array.of(0xff) });
    expect(Array.from(input)).toEqual([0x80, 9, 0, 0, 1, 0, 0, 0, 0, 5, 0xff]);
    expect(encodeMessage({ type: 'SnapshotAck', bytes: 9 })).toEqual(
      Uint8Array.from([0x0d, 11, ...utf8('{"bytes":9}')]),
    );
    expect(Array.from(encodeMessage({ type: 'Detach' }))).toEqual([0x0b, 2, 0x7b, 0x7d]);
  });

  it('output far into a session keeps its address', () => {
    const payload = Uint8Array.from([0, 0, 1, 0, 0, 0, 0, 5, 1, 2]);
    expect(decodeMessage({ kind: 0xa0, payload })).toEqual({
      type: 'Output',
      offset: 2 ** 40 + 5,
      bytes: Uint8Array.of(1, 2),
    });
  });

  it('a type of a newer host is passed over, an unknown field too', () => {
    expect(decodeMessage({ kind: 0x7f, payload: utf8('not even JSON') })).toBeNull();
    expect(decodeMessage(frame(0x2a, { t: 4, later: true }))).toEqual({ type: 'Pong', t: 4 });
  });

  it.each([
    ['no JSON', { kind: 0x2a, payload: utf8('{') }],
    ['no UTF-8', { kind: 0x2c, payload: Uint8Array.of(0x7b, 0xff) }],
    ['a list', frame(0x2a, [1])],
    ['a missing field', frame(0x24, { seq: 1 })],
    ['a negative offset', frame(0x29, { from: -1, to: 2 })],
    ['a broken number', frame(0x2a, { t: 1.5 })],
    ['an offset beyond what a number holds', frame(0x29, { from: 0, to: 2 ** 60 })],
    ['a terminal without columns', frame(0x25, { cols: 0, rows: 24 })],
    ['a terminal that would fill the memory', frame(0x25, { cols: 80, rows: 1e9 })],
    ['viewers that are none', frame(0x26, { viewers: [3] })],
    ['output shorter than its address', { kind: 0xa0, payload: new Uint8Array(7) }],
    ['output beyond 2^53', { kind: 0xa0, payload: new Uint8Array(8).fill(255) }],
  ])('%s is a protocol error', (_what, bad) => {
    expect(() => decodeMessage(bad)).toThrow(ProtocolError);
  });
});
