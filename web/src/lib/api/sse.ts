/** Server-sent events as a pure reader: text in, events out (WHATWG HTML §9.2.6, without `id` and `retry`). */

export interface ServerEvent {
  event: string;
  data: string;
}

/** Longest unfinished line or event kept, in characters: `hello` with a thousand machines is about 600 KB. */
const PENDING_MAX = 8 * 1024 * 1024;

export class SseReader {
  #line = '';
  #event = '';
  #data: string[] = [];
  #size = 0;

  /** The events completed by this piece of the stream, which may be cut anywhere. */
  push(piece: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    const lines = (this.#line + piece).split('\n');
    this.#line = lines.pop() ?? '';
    if (this.#line.length + this.#size > PENDING_MAX)
      throw new RangeError('server-sent event too long');
    for (const line of lines) {
      const done = this.#take(line.endsWith('\r') ? line.slice(0, -1) : line);
      if (done) events.push(done);
    }
    return events;
  }

  #take(line: string): ServerEvent | undefined {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return undefined;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'event') this.#event = value;
    if (name === 'data') {
      this.#data.push(value);
      this.#size += value.length;
    }
    return undefined;
  }

  #dispatch(): ServerEvent | undefined {
    const done = { event: this.#event || 'message', data: this.#data.join('\n') };
    const empty = this.#data.length === 0;
    this.#event = '';
    this.#data = [];
    this.#size = 0;
    return empty ? undefined : done;
  }
}
