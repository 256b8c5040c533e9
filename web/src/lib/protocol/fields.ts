/** Payloads of frames, read strictly. */
import type { Bytes } from './bytes';
import { ProtocolError } from './frames';
import { COLS_MAX, ROWS_MAX } from './limits';
import type { Size } from './messages';

/** Bytes of the address that a data payload begins with. */
export const ADDRESS_BYTES = 8;

/** An address. */
export function u64(value: number): Bytes {
  const bytes = new Uint8Array(ADDRESS_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}

/** The address that a data payload begins with. */
export function readU64(payload: Bytes): number {
  if (payload.length < ADDRESS_BYTES) {
    throw new ProtocolError(`data frame of ${payload.length} bytes has no room for its address`);
  }
  const value = Number(new DataView(payload.buffer, payload.byteOffset).getBigUint64(0));
  if (!Number.isSafeInteger(value)) throw new ProtocolError('data frame beyond 2^53 bytes');
  return value;
}

/** The fields of a JSON payload, read strictly: a field that is not what it should be is a protocol error. */
export class Fields {
  readonly #kind: number;
  readonly #object: Readonly<Record<string, unknown>>;

  constructor(kind: number, object: Readonly<Record<string, unknown>>) {
    this.#kind = kind;
    this.#object = object;
  }

  text(name: string): string {
    const value = this.#object[name];
    return typeof value === 'string' ? value : this.#refuse(name);
  }

  textOrNull(name: string): string | null {
    return this.#object[name] == null ? null : this.text(name);
  }

  flag(name: string): boolean {
    const value = this.#object[name];
    return typeof value === 'boolean' ? value : this.#refuse(name);
  }

  flagOr(name: string, absent: boolean): boolean {
    return this.#object[name] == null ? absent : this.flag(name);
  }

  /** A whole number that is not negative. */
  count(name: string): number {
    const value = this.#object[name];
    return Number.isSafeInteger(value) && (value as number) >= 0
      ? (value as number)
      : this.#refuse(name);
  }

  integer(name: string): number {
    return this.integerOrNull(name) ?? this.#refuse(name);
  }

  integerOrNull(name: string): number | null {
    const value = this.#object[name] ?? null;
    return value === null || Number.isSafeInteger(value)
      ? (value as number | null)
      : this.#refuse(name);
  }

  size(): Size {
    return { cols: this.#within('cols', COLS_MAX), rows: this.#within('rows', ROWS_MAX) };
  }

  #within(name: string, max: number): number {
    const value = this.count(name);
    return value >= 1 && value <= max ? value : this.#refuse(name);
  }

  list(name: string): Fields[] {
    const value = this.#object[name];
    if (!Array.isArray(value)) return this.#refuse(name);
    return value.map((item) =>
      isObject(item) ? new Fields(this.#kind, item) : this.#refuse(name),
    );
  }

  texts(name: string): string[] {
    const value = this.#object[name];
    return Array.isArray(value) && value.every((item) => typeof item === 'string')
      ? value
      : this.#refuse(name);
  }

  part(name: string): Fields {
    const value = this.#object[name];
    return isObject(value) ? new Fields(this.#kind, value) : this.#refuse(name);
  }

  #refuse(name: string): never {
    throw new ProtocolError(`frame type ${hex(this.#kind)}: bad field ${name}`);
  }
}

/** The JSON object that a payload is. */
export function parseObject(kind: number, payload: Bytes): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
    if (isObject(value)) return value;
  } catch {
    // Said below: what the parser thinks of the other side's bytes helps nobody.
  }
  throw new ProtocolError(`frame type ${hex(kind)}: not a JSON object`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function hex(kind: number): string {
  return `0x${kind.toString(16).padStart(2, '0')}`;
}
