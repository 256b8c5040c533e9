// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { ACK_EVERY, ACK_IDLE_MS, ACK_SOON, SNAPSHOT_MAX } from './limits';
import { OutputTrack } from './output';

const size = { cols: 80, rows: 24 };
const piece = (length: number) => new Uint8Array(length);

describe('output track', () => {
  it('a session at its first byte needs no snapshot', () => {
    const track = new OutputTrack();
    expect(track.opened('e1', 0)).toBe(true);
    track.output(0, piece(5));
    expect(track.resumePoint).toEqual({ epoch: 'e1', offset: 5 });
  });

  it('a transport that dies within the snapshot leaves the resume point where it was', () => {
    const track = new OutputTrack();
    track.opened('e1', 900);
    expect(track.snapshot(1_000, size, 10)).toBeNull();
    track.snapshotData(piece(4));
    expect(track.resumePoint).toEqual({ epoch: null, offset: null });
    track.opened('e1', 900);
    track.snapshot(1_000, size, 4);
    expect(track.snapshotData(piece(4))).toMatchObject({ offset: 1_000, cols: 80 });
    expect(track.resumePoint).toEqual({ epoch: 'e1', offset: 1_000 });
  });

  it('each piece of snapshot data is acknowledged at once, counted over one transport', () => {
    const track = new OutputTrack();
    track.opened('e1', 900);
    track.snapshot(1_000, size, 10_010);
    track.snapshotData(piece(10_000));
    expect(track.snapshotAckDue()).toBe(10_000);
    expect(track.snapshotAckDue()).toBeNull();
    track.snapshotData(piece(10));
    expect(track.snapshotAckDue()).toBe(10_010);
    track.snapshot(1_100, size, 5);
    track.snapshotData(piece(5));
    expect(track.snapshotAckDue()).toBe(10_015);
    track.opened('e1', 1_100);
    track.snapshot(1_200, size, 7);
    track.snapshotData(piece(7));
    expect(track.snapshotAckDue()).toBe(7);
  });

  it.each([
    ['a repeated byte', 4],
    ['a missing byte', 6],
  ])('%s is a protocol error', (_what, offset) => {
    const track = new OutputTrack();
    track.opened('e1', 0);
    track.output(0, piece(5));
    expect(() => track.output(offset, piece(1))).toThrow(/expected 5/);
  });

  it('after a gap nothing is believed before the snapshot', () => {
    const track = new OutputTrack();
    track.opened('e1', 0);
    track.gap();
    expect(() => track.output(0, piece(1))).toThrow(/before the snapshot/);
  });

  it('a snapshot without limit is refused before memory is taken', () => {
    const track = new OutputTrack();
    track.opened('e1', 1);
    expect(() => track.snapshot(1, size, SNAPSHOT_MAX + 1)).toThrow(/exceeds/);
    expect(() => track.snapshotData(piece(1))).toThrow(/nobody announced/);
  });

  it('what was parsed is acknowledged when it is much, and when nothing follows', () => {
    const track = new OutputTrack();
    track.opened('e1', 0);
    track.output(0, piece(ACK_EVERY + 10));
    track.parsedTo(track.generation, ACK_EVERY, 0);
    expect(track.ackDue(0)).toBe(ACK_EVERY);
    track.parsedTo(track.generation, ACK_EVERY + 10, 5);
    expect(track.ackDue(5)).toBeNull();
    expect(track.ackDeadline).toBe(5 + ACK_IDLE_MS);
    expect(track.ackDue(5 + ACK_IDLE_MS)).toBe(ACK_EVERY + 10);
    expect(track.ackDue(1_000)).toBeNull();
  });

  it('a piece of bulk that is parsed to its end is acknowledged at once', () => {
    const track = new OutputTrack();
    track.opened('e1', 0);
    track.output(0, piece(2 * ACK_SOON));
    track.parsedTo(track.generation, ACK_SOON, 0);
    expect(track.ackDue(0)).toBeNull();
    track.parsedTo(track.generation, 2 * ACK_SOON, 0);
    expect(track.ackDue(0)).toBe(2 * ACK_SOON);
  });

  it('what an older painting parsed counts for nothing', () => {
    const track = new OutputTrack();
    track.opened('e1', 0);
    const old = track.generation;
    track.output(0, piece(50));
    track.snapshot(60, size, 0);
    track.parsedTo(old, 50, 0);
    expect(track.parsed).toBe(0);
    track.parsedTo(track.generation, 60, 0);
    expect(track.ackDue(ACK_IDLE_MS)).toBe(60);
  });

  it('what a transport that took over brings again is dropped by its address, and counts as brought', () => {
    const track = new OutputTrack();
    track.opened('e1', 0);
    track.output(0, Uint8Array.of(0, 1, 2, 3, 4, 5));
    track.parsedTo(1, 6, 0);
    track.opened('e1', 2);
    // The host has sent nothing on it yet.
    expect(track.ackDue(1_000)).toBeNull();
    expect(track.output(2, Uint8Array.of(2, 3)).length).toBe(0);
    expect(track.ackDue(1_000)).toBe(4);
    expect([...track.output(4, Uint8Array.of(4, 5, 6))]).toEqual([6]);
    expect(track.offset).toBe(7);
    expect(() => track.output(9, piece(1))).toThrow(/expected 7/);
  });
});
