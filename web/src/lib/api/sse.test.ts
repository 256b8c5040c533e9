import { describe, expect, it } from 'vitest';
import { type ServerEvent, SseReader } from './sse';

const stream =
  ': keep-alive\n\nevent: hello\ndata: {"machines":[]}\n\nevent: machine\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata: plain\n\n';
const events: ServerEvent[] = [
  { event: 'hello', data: '{"machines":[]}' },
  { event: 'machine', data: '{"a":\n1}' },
  { event: 'message', data: 'plain' },
];

describe('server-sent events', () => {
  it('reads names, several data lines and plain messages, and passes comments over', () => {
    expect(new SseReader().push(stream)).toEqual(events);
  });

  it('gives the same events for every cut of the stream', () => {
    for (let cut = 0; cut <= stream.length; cut++) {
      const reader = new SseReader();
      const got = [...reader.push(stream.slice(0, cut)), ...reader.push(stream.slice(cut))];
      expect(got, `cut at ${cut}`).toEqual(events);
    }
  });

  it('gives the same events one character at a time', () => {
    const reader = new SseReader();
    expect([...stream].flatMap((char) => reader.push(char))).toEqual(events);
  });

  it('refuses an event without end', () => {
    const reader = new SseReader();
    const megabyte = `data: ${'x'.repeat(1024 * 1024)}\n`;
    expect(() => {
      for (let i = 0; i < 10; i++) reader.push(megabyte);
    }).toThrow(RangeError);
  });
});
