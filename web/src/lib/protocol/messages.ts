/**
 * The session protocol's messages: what viewer and session host say inside frames
 * (`shared/src/message.rs`, docs/PROTOCOL.md). Unknown fields are ignored, unknown types skipped.
 */
import { type Bytes, concat, utf8 } from './bytes';
import { ADDRESS_BYTES, Fields, parseObject, readU64, u64 } from './fields';
import { encodeFrame, type Frame } from './frames';

/** A terminal's size in cells. */
export interface Size {
  readonly cols: number;
  readonly rows: number;
}

/** What to run, and in what terminal (0 × 0 where there is none). Absent `cwd` and `command`: home directory and login shell. */
export interface Spec extends Size {
  readonly kind: 'terminal' | 'files';
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly command?: readonly string[];
}

/** What a viewer may do in a session. */
export type Role = 'writer' | 'view';

/** One viewer as others see it. `name` is the actor's name from its ticket. */
export interface ViewerInfo {
  readonly viewer: string;
  readonly name: string;
  readonly role: Role;
  readonly lease: boolean;
}

/** Signals for the foreground process group. */
export type SignalName = 'INT' | 'TERM' | 'HUP' | 'KILL' | 'QUIT' | 'USR1' | 'USR2';

interface First {
  readonly v: number;
  readonly features: readonly string[];
  readonly ticket: string;
  readonly viewer: string;
  /** Which of this viewer's streams this is: above all before it. The newest is the one that counts. */
  readonly attempt: number;
  readonly session: string;
  readonly input_seq: number;
}

/** First frame of a viewer that wants a new session (or its own, retried). */
export interface Open extends First {
  readonly spec: Spec;
}

/** First frame of a viewer that comes to a session that exists. `offset` null asks for a snapshot. */
export interface Attach extends First {
  readonly epoch: string | null;
  readonly offset: number | null;
}

/** The answer to a challenge: base64url of the public key and of the signature. */
export interface Proof {
  readonly key: string;
  readonly signature: string;
}

/** Name of the feature of a viewer that acknowledges snapshot data, and so is paced while it is sent. */
export const SNAPSHOT_ACK = 'snapshot_ack';

/** What a viewer says. `Ping.t` is any whole number of the viewer's. */
export type ViewerMessage =
  | ({ readonly type: 'Open' } & Open)
  | ({ readonly type: 'Attach' } & Attach)
  | ({ readonly type: 'Proof' } & Proof)
  | { readonly type: 'Ack'; readonly offset: number }
  | ({ readonly type: 'Resize' } & Size)
  | { readonly type: 'Signal'; readonly signal: SignalName }
  | { readonly type: 'Eof' }
  | ({ readonly type: 'TakeLease' } & Size)
  | { readonly type: 'ReleaseLease' }
  | { readonly type: 'Ping'; readonly t: number }
  | { readonly type: 'Detach' }
  | { readonly type: 'Close' }
  | { readonly type: 'SnapshotAck'; readonly bytes: number }
  | { readonly type: 'Input'; readonly seq: number; readonly bytes: Uint8Array };

/** What a session host says. */
export type HostMessage =
  | { readonly type: 'Challenge'; readonly v: number; readonly nonce: string }
  | ({ readonly type: 'Opened' } & Opened)
  | ({ readonly type: 'Snapshot'; readonly offset: number; readonly bytes: number } & Size)
  | { readonly type: 'InputAck'; readonly seq: number; readonly offset: number }
  | ({ readonly type: 'Resized' } & Size)
  | { readonly type: 'Viewers'; readonly viewers: readonly ViewerInfo[] }
  | { readonly type: 'Lease'; readonly holder: string | null }
  | ({ readonly type: 'Exit' } & Exit)
  | { readonly type: 'Gap'; readonly from: number; readonly to: number }
  | { readonly type: 'Pong'; readonly t: number }
  | {
      readonly type: 'Error';
      readonly code: string;
      readonly message: string;
      readonly retry: string;
    }
  | { readonly type: 'Title'; readonly title: string }
  | { readonly type: 'Output'; readonly offset: number; readonly bytes: Bytes }
  | { readonly type: 'SnapshotData'; readonly bytes: Bytes };

/** The viewer is attached. `offset`: the first output byte that follows, unless a snapshot comes first. */
export interface Opened extends Size {
  readonly session: string;
  readonly epoch: string;
  readonly role: Role;
  readonly offset: number;
  readonly input_seq: number;
  /** Unix milliseconds. */
  readonly created: number;
  readonly title: string;
}

/** How a session ended: one of `code` and `signal` is null. */
export interface Exit {
  readonly code: number | null;
  readonly signal: number | null;
  readonly offset: number;
}

const KIND: Readonly<Record<ViewerMessage['type'], number>> = {
  Open: 0x01,
  Attach: 0x02,
  Proof: 0x03,
  Ack: 0x04,
  Resize: 0x05,
  Signal: 0x06,
  Eof: 0x07,
  TakeLease: 0x08,
  ReleaseLease: 0x09,
  Ping: 0x0a,
  Detach: 0x0b,
  Close: 0x0c,
  SnapshotAck: 0x0d,
  Input: 0x80,
};

/** The payload of a message: JSON for control, `u64 address · bytes` for data. */
export function encodePayload(message: ViewerMessage): Bytes {
  if (message.type === 'Input') return concat(u64(message.seq), message.bytes);
  const { type: _, ...body } = message;
  return utf8(JSON.stringify(body));
}

/** The frame of a message. */
export function encodeMessage(message: ViewerMessage): Bytes {
  return encodeFrame(KIND[message.type], encodePayload(message));
}

/** Reads a frame of the host; null for a type this viewer does not know. */
export function decodeMessage({ kind, payload }: Frame): HostMessage | null {
  switch (kind) {
    case 0xa0:
      return { type: 'Output', offset: readU64(payload), bytes: payload.subarray(ADDRESS_BYTES) };
    case 0xa1:
      return { type: 'SnapshotData', bytes: payload };
    default:
      return DECODERS[kind]?.(new Fields(kind, parseObject(kind, payload))) ?? null;
  }
}

const DECODERS: Readonly<Record<number, (fields: Fields) => HostMessage>> = {
  33: (f) => ({ type: 'Challenge', v: f.count('v'), nonce: f.text('nonce') }),
  34: opened,
  35: (f) => ({
    type: 'Snapshot',
    offset: f.count('offset'),
    bytes: f.count('bytes'),
    ...f.size(),
  }),
  36: (f) => ({ type: 'InputAck', seq: f.count('seq'), offset: f.count('offset') }),
  37: (f) => ({ type: 'Resized', ...f.size() }),
  38: (f) => ({ type: 'Viewers', viewers: f.list('viewers').map(viewerInfo) }),
  39: (f) => ({ type: 'Lease', holder: f.textOrNull('holder') }),
  40: (f) => ({
    type: 'Exit',
    code: f.integerOrNull('code'),
    signal: f.integerOrNull('signal'),
    offset: f.count('offset'),
  }),
  41: (f) => ({ type: 'Gap', from: f.count('from'), to: f.count('to') }),
  42: (f) => ({ type: 'Pong', t: f.count('t') }),
  43: (f) => ({
    type: 'Error',
    code: f.text('code'),
    message: f.text('message'),
    retry: f.text('retry'),
  }),
  44: (f) => ({ type: 'Title', title: f.text('title') }),
};

function opened(f: Fields): HostMessage {
  return {
    type: 'Opened',
    session: f.text('session'),
    epoch: f.text('epoch'),
    role: role(f),
    offset: f.count('offset'),
    input_seq: f.count('input_seq'),
    created: f.count('created'),
    title: f.textOrNull('title') ?? '',
    ...f.size(),
  };
}

function viewerInfo(f: Fields): ViewerInfo {
  return { viewer: f.text('viewer'), name: f.text('name'), role: role(f), lease: f.flag('lease') };
}

function role(f: Fields): Role {
  return f.text('role') === 'writer' ? 'writer' : 'view';
}
