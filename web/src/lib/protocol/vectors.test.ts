// @vitest-environment node
/** The golden vectors that the Rust tests read too: `shared/vectors/frames.json`. */
import { describe, expect, it } from 'vitest';
import vectors from '../../../../shared/vectors/frames.json';
import { CLOSE_CODES, webSocketCode } from './codes';
import { FrameDecoder, ProtocolError } from './frames';
import { decodeMessage, encodeMessage, type HostMessage, type ViewerMessage } from './messages';
import { fromHex as bytesOf, toHex as hexOf } from './testing/random';

interface Vector {
  readonly direction: string;
  readonly type: number;
  readonly hex: string;
  readonly json?: object;
  readonly data?: { readonly address?: number; readonly bytes: string };
}

const frames: readonly Vector[] = vectors.frames;

const VIEWER_TYPES: Readonly<Record<number, ViewerMessage['type']>> = {
  1: 'Open',
  2: 'Attach',
  3: 'Proof',
  4: 'Ack',
  5: 'Resize',
  6: 'Signal',
  7: 'Eof',
  8: 'TakeLease',
  9: 'ReleaseLease',
  10: 'Ping',
  11: 'Detach',
  12: 'Close',
  13: 'SnapshotAck',
};

const HOST_TYPES: Readonly<Record<number, HostMessage['type']>> = {
  33: 'Challenge',
  34: 'Opened',
  35: 'Snapshot',
  36: 'InputAck',
  37: 'Resized',
  38: 'Viewers',
  39: 'Lease',
  40: 'Exit',
  41: 'Gap',
  42: 'Pong',
  43: 'Error',
  44: 'Title',
};

const named = (vector: Vector) => `${vector.type.toString(16)} ${vector.hex.slice(0, 24)}`;

/** The message of a viewer's vector, its fields in the order in which they go over the wire. */
function viewerMessage(vector: Vector): ViewerMessage {
  if (vector.data) {
    return { type: 'Input', seq: vector.data.address ?? 0, bytes: bytesOf(vector.data.bytes) };
  }
  const [frame] = new FrameDecoder().push(bytesOf(vector.hex));
  const body = JSON.parse(new TextDecoder().decode(frame?.payload)) as object;
  expect(body).toEqual(vector.json);
  return { type: VIEWER_TYPES[vector.type], ...body } as ViewerMessage;
}

describe('golden vectors', () => {
  it.each(
    frames.filter(({ direction }) => direction === 'viewer').map((v) => [named(v), v] as const),
  )('viewer frame %s is made byte for byte', (_name, vector) => {
    expect(hexOf(encodeMessage(viewerMessage(vector)))).toBe(vector.hex);
  });

  it.each(
    frames.filter(({ direction }) => direction === 'host').map((v) => [named(v), v] as const),
  )('host frame %s is read', (_name, { type, hex, json, data }) => {
    const [frame] = new FrameDecoder().push(bytesOf(hex));
    const message = frame && decodeMessage(frame);
    if (!data) {
      const { features: _, ...known } = json as Record<string, unknown>;
      expect(message).toEqual({ type: HOST_TYPES[type], ...known });
    } else {
      const bytes =
        message && 'bytes' in message ? (message.bytes as Uint8Array) : new Uint8Array();
      expect(hexOf(bytes)).toBe(data.bytes);
      if (data.address !== undefined) expect(message).toMatchObject({ offset: data.address });
    }
  });

  it.each(vectors.malformed.map(({ hex, ...why }) => [JSON.stringify(why), hex] as const))(
    'malformed %s is refused',
    (_why, hex) => {
      expect(() => new FrameDecoder().push(bytesOf(hex))).toThrow(ProtocolError);
    },
  );

  it('the table of close codes is the one in Rust', () => {
    const ours = CLOSE_CODES.map((code) => ({
      name: code.name,
      number: code.number,
      retry: code.retry,
      websocket: webSocketCode(code),
    }));
    expect(ours).toEqual(vectors.close_codes);
  });
});
