/** Where a viewer stands, what it wants of the world, and what it tells. */
import type { Bytes } from './bytes';
import type { Exit, Opened, ViewerInfo } from './messages';
import type { Painting } from './output';
import type { Carrier } from './transport';

/** Why a viewer is not attached: a name of the table of close codes, or one of the viewer's own. */
export interface Cause {
  /** `network`: the path went; `timeout`: it went silent; `control`: no ticket was to be had. */
  readonly code: string;
  /** One sentence for a person; the other side's text, untrusted. */
  readonly message: string;
}

/** Why a viewer does not come back. */
export type Ending =
  | { readonly kind: 'exited'; readonly exit: Exit }
  | { readonly kind: 'refused'; readonly cause: Cause }
  | { readonly kind: 'detached' };

/** Where a viewer stands. `n` numbers the attempts; `deadline` is when the attempt counts as failed. */
export type Phase =
  | { readonly at: 'new' }
  | {
      readonly at: 'waiting';
      readonly until: number;
      readonly ticket: boolean;
      readonly cause: Cause;
    }
  | { readonly at: 'ticketing'; readonly n: number; readonly deadline: number }
  | { readonly at: 'dialing'; readonly n: number; readonly deadline: number }
  | {
      readonly at: 'greeting';
      readonly n: number;
      readonly deadline: number;
      readonly first: Bytes;
    }
  | {
      readonly at: 'proving';
      readonly n: number;
      readonly deadline: number;
      readonly first: Bytes;
      readonly nonce: Bytes;
    }
  | { readonly at: 'proved'; readonly n: number; readonly deadline: number }
  | { readonly at: 'live'; readonly n: number; readonly since: number }
  | { readonly at: 'over'; readonly ending: Ending };

/**
 * What a viewer wants now. It is a level, not an edge: look at it after every call and make the world so.
 * `transport`: transport number `n` and no other, and a proof over `prove` if there is one; otherwise none.
 */
export type Want =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'ticket'; readonly n: number }
  | {
      readonly kind: 'transport';
      readonly n: number;
      readonly prove: ProofRequest | null;
      /** A better transport that is to be kept beside it. */
      readonly next: NextTransport | null;
    };

/** The transport that is taking over. */
export interface NextTransport {
  readonly n: number;
  readonly prove: ProofRequest | null;
}

/** What is to be signed: the host's nonce and the payload of this viewer's first frame. */
export interface ProofRequest {
  readonly nonce: Bytes;
  readonly first: Bytes;
}

/** What a viewer tells. Painting, output and reset go to the terminal in the order told. */
export type ViewerEvent =
  | { readonly type: 'phase'; readonly phase: Phase }
  | { readonly type: 'opened'; readonly opened: Opened; readonly resumed: boolean }
  | {
      readonly type: 'reset';
      readonly generation: number;
      readonly cols: number;
      readonly rows: number;
    }
  | ({ readonly type: 'painting'; readonly generation: number } & Painting)
  | {
      readonly type: 'output';
      readonly generation: number;
      /** One past the last of `bytes`. */
      readonly end: number;
      readonly bytes: Bytes;
    }
  | { readonly type: 'resized'; readonly cols: number; readonly rows: number }
  | { readonly type: 'viewers'; readonly viewers: readonly ViewerInfo[] }
  | { readonly type: 'lease'; readonly holder: string | null; readonly held: boolean }
  | { readonly type: 'input'; readonly acked: number; readonly pending: number }
  /** Input before `seq` was written when output stood at `offset`. */
  | { readonly type: 'input_ack'; readonly seq: number; readonly offset: number }
  | { readonly type: 'input_lost'; readonly bytes: number }
  | { readonly type: 'gap'; readonly from: number; readonly to: number }
  | { readonly type: 'title'; readonly title: string }
  /** What carries the bytes to the broker from here on. */
  | { readonly type: 'carrier'; readonly carrier: Carrier }
  | { readonly type: 'rtt'; readonly ms: number }
  | { readonly type: 'fault'; readonly message: string };
