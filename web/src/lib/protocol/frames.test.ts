// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { concat } from './bytes';
import { encodeFrame, type Frame, FrameDecoder, ProtocolError } from './frames';
import { FRAME_MAX } from './limits';
import { decodeMessage } from './messages';
import { forSeeds, fromHex as hex, toHex } from './testing/random';

describe('frames', () => {
  it('a frame is type, varint and payload', () => {
    expect(toHex(encodeFrame(0x80, hex('aaaaaa')))).toBe('8003aaaaaa');
    expect(toHex(encodeFrame(0xa0, new Uint8Array(300))).slice(0, 6)).toBe('a0ac02');
    expect(toHex(encodeFrame(0xa0, new Uint8Array(FRAME_MAX))).slice(0, 8)).toBe('a0808004');
    expect(toHex(encodeFrame(0x0b))).toBe('0b00');
  });

  it('a frame above the limit is not made', () => {
    expect(() => encodeFrame(0x80, new Uint8Array(FRAME_MAX + 1))).toThrow(RangeError);
  });

  it.each([
    ['one above the limit', '80818004'],
    ['the largest three bytes can say', '80ffff7f'],
    ['four bytes', '80ffffff01'],
    ['a padded nought', '808000'],
    ['a padded one', '80818000'],
  ])('ma_03 a length of %s is refused before its payload comes', (_what, wire) => {
    expect(() => new FrameDecoder().push(hex(wire))).toThrow(ProtocolError);
  });

  it('any split gives the same frames', () => {
    forSeeds(60, (chance) => {
      const sent = Array.from({ length: chance.between(1, 12) }, () => ({
        kind: chance.between(0, 255),
        payload: chance.bytes(chance.once(6) ? chance.between(0, 5_000) : chance.between(0, 200)),
      }));
      const wire = concat(...sent.map(({ kind, payload }) => encodeFrame(kind, payload)));
      const decoder = new FrameDecoder();
      const seen: Frame[] = [];
      const most = chance.once(3) ? 3 : 4_000;
      for (let at = 0; at < wire.length; ) {
        const end = Math.min(wire.length, at + chance.between(1, most));
        seen.push(...decoder.push(wire.slice(at, end)));
        at = end;
      }
      expect(seen).toEqual(sent);
    });
  });

  it('mangled bytes throw a protocol error or decode, and nothing else', () => {
    forSeeds(400, (chance) => {
      const decoder = new FrameDecoder();
      const wire = concat(
        encodeFrame(0x22, chance.bytes(30)),
        encodeFrame(0xa0, chance.bytes(50)),
        chance.bytes(80),
      );
      for (let flips = chance.between(0, 8); flips > 0; flips -= 1)
        wire[chance.between(0, wire.length - 1)] = chance.between(0, 255);
      try {
        for (const frame of decoder.push(wire)) decodeMessage(frame);
      } catch (error) {
        expect(error).toBeInstanceOf(ProtocolError);
      }
    });
  });
});
