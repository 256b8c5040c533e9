// @vitest-environment node
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseCast } from './cast';
import { Replay } from './replay';

const CAST = `{"version":2,"width":40,"height":5,"title":"t"}
[0.5,"o","a"]
[0.6,"i","typed"]
[1,"o","b"]
[3,"o","c"]
`;

describe('recordings', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('are read, output only', () => {
    const { cols, rows, title, frames } = parseCast(CAST);
    expect([cols, rows, title]).toEqual([40, 5, 't']);
    expect(frames.map(({ text }) => text).join('')).toBe('abc');
  });

  it.each([
    ['another version', '{"version":1}', 'line 1: no asciicast of version 2'],
    ['no JSON', `${CAST}{`, 'line 6: no JSON'],
    ['an event that is none', `${CAST}[1]`, 'line 6: no event of [time, kind, data]'],
  ])('%s is told with its line', (_what, text, message) => {
    expect(() => parseCast(text)).toThrow(message);
  });

  it('play in their own time, stop, go on, and begin anew', () => {
    const said: string[] = [];
    const replay = new Replay(parseCast(CAST), {
      clear: () => said.push('|'),
      write: (text) => said.push(text),
    });
    replay.play(2_000);
    vi.advanceTimersByTime(1_200);
    expect(said.join('')).toBe('|ab');
    replay.pause();
    vi.advanceTimersByTime(60_000);
    replay.play(2_000);
    vi.advanceTimersByTime(1_700);
    expect(said.join('')).toBe('|ab');
    vi.advanceTimersByTime(200);
    expect(said.join('')).toBe('|abc');
    vi.advanceTimersByTime(2_600);
    expect(said.join('')).toBe('|abc|a');
    replay.finish();
    expect(said.join('')).toBe('|abc|a|abc');
  });
});
