/** Recordings in asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/): a header, then one event a line. */

/** Output at a time, s from the start. */
export interface Frame {
  readonly at: number;
  readonly text: string;
}

/** A recording. */
export interface Cast {
  readonly cols: number;
  readonly rows: number;
  readonly title: string;
  readonly frames: readonly Frame[];
}

const SIDE_MAX = 1_000;

/** The recording in a file. Throws with the line that is wrong. */
export function parseCast(text: string): Cast {
  const [first = '', ...rest] = text.split('\n');
  const header = parsed(first, 1);
  if (!isRecord(header) || header.version !== 2)
    throw new Error('line 1: no asciicast of version 2');
  const frames: Frame[] = [];
  for (const [index, line] of rest.entries()) {
    if (line.trim() === '') continue;
    const event = parsed(line, index + 2);
    const [at, what, data] = Array.isArray(event) ? event : [];
    if (typeof at !== 'number' || typeof data !== 'string')
      throw new Error(`line ${index + 2}: no event of [time, kind, data]`);
    if (what === 'o') frames.push({ at, text: data });
  }
  return {
    cols: side(header.width, 80),
    rows: side(header.height, 24),
    title: typeof header.title === 'string' ? header.title : '',
    frames,
  };
}

function parsed(line: string, number: number): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw new Error(`line ${number}: no JSON`);
  }
}

function side(value: unknown, otherwise: number): number {
  const fine = typeof value === 'number' && Number.isInteger(value) && value > 0;
  return fine && value <= SIDE_MAX ? value : otherwise;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
