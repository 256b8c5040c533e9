/** What a viewer and a session host say on a files stream (`shared/src/files.rs`, docs/PROTOCOL.md). */
import { type Bytes, concat, utf8 } from '../protocol/bytes';
import { ADDRESS_BYTES, Fields, parseObject, readU64, u64 } from '../protocol/fields';
import { encodeFrame, type Frame, ProtocolError } from '../protocol/frames';

/** Bytes on their way without acknowledgement. */
export const WINDOW = 1_048_576;
/** Bytes taken after which a reader acknowledges. */
export const ACK_EVERY = 131_072;
/** Entries of one directory that are told. */
export const ENTRIES_MAX = 10_000;

export type EntryKind = 'file' | 'directory' | 'link' | 'other';

/** One entry of a directory. Names and targets are the machine's text: untrusted. */
export interface Entry {
  readonly name: string;
  /** The name is not UTF-8: it is shown as far as it is, and cannot be asked for. */
  readonly unnameable: boolean;
  readonly kind: EntryKind;
  readonly size: number;
  /** Unix milliseconds. */
  readonly modified: number;
  /** The last twelve bits of `st_mode`. */
  readonly mode: number;
  readonly owner: string;
  readonly group: string;
  readonly target: string | null;
  /** What a link leads to, if it leads anywhere. */
  readonly leadsTo: EntryKind | null;
}

/** What a commit may find at its path. */
export type Replace =
  | { readonly when: 'never' }
  | { readonly when: 'always' }
  | { readonly when: 'unchanged'; readonly size: number; readonly modified: number };

/** What can be asked. Paths are absolute. */
export type Op =
  | { readonly op: 'list' | 'stat' | 'archive' | 'make_directory'; readonly path: string }
  | { readonly op: 'read'; readonly path: string; readonly offset: number }
  | {
      readonly op: 'write';
      readonly path: string;
      readonly upload: string;
      readonly size: number;
      readonly restart: boolean;
    }
  | { readonly op: 'commit'; readonly sha256: string; readonly replace: Replace }
  | { readonly op: 'rename'; readonly from: string; readonly to: string }
  | { readonly op: 'delete'; readonly path: string; readonly recursive: boolean };

/** What came of it. */
export type Outcome =
  | {
      readonly is: 'entries';
      readonly entries: readonly Entry[];
      readonly more: boolean;
      readonly cut: boolean;
    }
  | { readonly is: 'entry'; readonly entry: Entry }
  | { readonly is: 'sending'; readonly entry: Entry; readonly size: number | null }
  | { readonly is: 'sent'; readonly sha256: string; readonly lacking: readonly string[] }
  | { readonly is: 'receiving'; readonly offset: number; readonly sha256: string }
  | { readonly is: 'received'; readonly offset: number }
  | { readonly is: 'progress'; readonly entries: number }
  | { readonly is: 'done' }
  | { readonly is: 'failed'; readonly code: string; readonly message: string };

/** The stream is open. */
export interface Opened {
  readonly home: string;
  readonly read: boolean;
  readonly write: boolean;
}

/** What the host says. */
export type Reply =
  | { readonly type: 'Challenge'; readonly nonce: string }
  | ({ readonly type: 'Opened' } & Opened)
  | { readonly type: 'Answer'; readonly id: number; readonly outcome: Outcome }
  | { readonly type: 'Pong' }
  | { readonly type: 'Error'; readonly code: string; readonly message: string }
  | { readonly type: 'Data'; readonly offset: number; readonly bytes: Bytes };

/** A question as a frame. */
export function encodeAsk(id: number, op: Op): Bytes {
  return encodeFrame(0x0e, utf8(JSON.stringify({ id, ...op })));
}

/** Data before `offset` was taken. */
export function encodeAck(offset: number): Bytes {
  return encodeFrame(0x04, utf8(JSON.stringify({ offset })));
}

export function encodePing(): Bytes {
  return encodeFrame(0x0a, utf8('{"t":0}'));
}

/** Bytes of an upload. */
export function encodeData(offset: number, bytes: Uint8Array): Bytes {
  return encodeFrame(0x81, concat(u64(offset), bytes));
}

/** Reads a frame of the host; null for a type this page does not know. */
export function decodeReply({ kind, payload }: Frame): Reply | null {
  if (kind === 0xa2) {
    return { type: 'Data', offset: readU64(payload), bytes: payload.subarray(ADDRESS_BYTES) };
  }
  const fields = () => new Fields(kind, parseObject(kind, payload));
  switch (kind) {
    case 0x21:
      return { type: 'Challenge', nonce: fields().text('nonce') };
    case 0x2a:
      return { type: 'Pong' };
    case 0x2b: {
      const f = fields();
      return { type: 'Error', code: f.text('code'), message: f.text('message') };
    }
    case 0x2d: {
      const f = fields();
      return { type: 'Opened', home: f.text('home'), read: f.flag('read'), write: f.flag('write') };
    }
    case 0x2e: {
      const f = fields();
      return { type: 'Answer', id: f.count('id'), outcome: outcome(f) };
    }
    default:
      return null;
  }
}

function outcome(f: Fields): Outcome {
  const is = f.text('is');
  switch (is) {
    case 'entries':
      return {
        is,
        entries: f.list('entries').map(entry),
        more: f.flag('more'),
        cut: f.flag('cut'),
      };
    case 'entry':
      return { is, entry: entry(f.part('entry')) };
    case 'sending':
      return { is, entry: entry(f.part('entry')), size: f.integerOrNull('size') };
    case 'sent':
      return { is, sha256: f.text('sha256'), lacking: f.texts('lacking') };
    case 'receiving':
      return { is, offset: f.count('offset'), sha256: f.text('sha256') };
    case 'received':
      return { is, offset: f.count('offset') };
    case 'progress':
      return { is, entries: f.count('entries') };
    case 'done':
      return { is };
    case 'failed':
      return { is, code: f.text('code'), message: f.text('message') };
    default:
      throw new ProtocolError(`an answer that is ${is}`);
  }
}

const KINDS: readonly string[] = ['file', 'directory', 'link', 'other'] satisfies EntryKind[];

function kindOf(text: string): EntryKind {
  return KINDS.includes(text) ? (text as EntryKind) : 'other';
}

function entry(f: Fields): Entry {
  const leads = f.textOrNull('leads_to');
  return {
    name: f.text('name'),
    unnameable: f.flagOr('unnameable', false),
    kind: kindOf(f.text('kind')),
    size: f.count('size'),
    modified: f.integer('modified'),
    mode: f.count('mode'),
    owner: f.text('owner'),
    group: f.text('group'),
    target: f.textOrNull('target'),
    leadsTo: leads === null ? null : kindOf(leads),
  };
}
