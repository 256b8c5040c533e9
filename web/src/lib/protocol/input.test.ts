// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { InputLedger } from './input';
import { DATA_FRAME_MAX, INPUT_QUEUE_MAX, INPUT_WINDOW } from './limits';

const all = (ledger: InputLedger) => {
  const pieces = [];
  for (let piece = ledger.next(); piece; piece = ledger.next()) pieces.push(piece);
  return pieces;
};

describe('input ledger', () => {
  it('a paste goes out in pieces up to the window and goes on as it is acknowledged', () => {
    const ledger = new InputLedger();
    ledger.push(new Uint8Array(INPUT_WINDOW + 10));
    const pieces = all(ledger);
    expect(pieces.every(({ bytes }) => bytes.length <= DATA_FRAME_MAX)).toBe(true);
    expect(pieces.reduce((sum, { bytes }) => sum + bytes.length, 0)).toBe(INPUT_WINDOW);
    ledger.ack(10);
    expect(all(ledger)).toEqual([{ seq: INPUT_WINDOW, bytes: new Uint8Array(10) }]);
  });

  it('input beyond the bound is refused whole', () => {
    const ledger = new InputLedger();
    expect(ledger.push(new Uint8Array(INPUT_QUEUE_MAX))).toBe(true);
    expect(ledger.push(Uint8Array.of(1))).toBe(false);
    expect(ledger.pending).toBe(INPUT_QUEUE_MAX);
  });

  it('a resumed transport sends again exactly what the host lacks', () => {
    const ledger = new InputLedger();
    ledger.push(Uint8Array.of(1, 2, 3, 4, 5));
    all(ledger);
    ledger.ack(1);
    ledger.resume(3);
    expect(all(ledger)).toEqual([{ seq: 3, bytes: Uint8Array.of(4, 5) }]);
  });

  it('what an older transport brought may be acknowledged before it is sent again, and is not sent again', () => {
    const ledger = new InputLedger();
    ledger.push(Uint8Array.of(1, 2, 3, 4, 5));
    all(ledger);
    ledger.resume(1);
    ledger.push(Uint8Array.of(6));
    expect(ledger.cancelUnsent()).toBe(1);
    ledger.ack(4);
    expect(all(ledger)).toEqual([{ seq: 4, bytes: Uint8Array.of(5) }]);
  });

  it('an acknowledgement of what was never sent is a protocol error', () => {
    const ledger = new InputLedger();
    ledger.push(Uint8Array.of(1, 2));
    expect(() => ledger.ack(1)).toThrow(/0 sent/);
    expect(() => ledger.resume(3)).toThrow(/expects input 3/);
  });

  it('a cancelled paste keeps what is on its way', () => {
    const ledger = new InputLedger();
    ledger.push(new Uint8Array(INPUT_WINDOW + 500));
    all(ledger);
    expect(ledger.cancelUnsent()).toBe(500);
    ledger.push(Uint8Array.of(3));
    ledger.ack(INPUT_WINDOW);
    expect(all(ledger)).toEqual([{ seq: INPUT_WINDOW, bytes: Uint8Array.of(3) }]);
  });
});
