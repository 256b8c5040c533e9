/**
 * `window.__rexec`: what the terminal in front shows and where its streams stand, to look at only. For a
 * person at the console who is asked "what do you see?", and for tests.
 */
import type { SessionTab } from './tab.svelte';

/** Where the session in front stands. Offsets and sequences count bytes. */
export interface FrontState {
  readonly machine: string;
  readonly session: string;
  readonly viewer: string;
  /** `connecting`, `running`, `reconnecting`, `offline`, `ended`, `stopped`. */
  readonly status: string;
  readonly epoch: string | null;
  /** Next output byte expected. */
  readonly offset: number;
  /** Output the terminal has parsed. */
  readonly parsed: number;
  /** First input byte not acknowledged. */
  readonly inputAcked: number;
  /** Input kept until it is acknowledged. */
  readonly inputPending: number;
  readonly cols: number;
  readonly rows: number;
  /** Whether this page rules the size. */
  readonly lease: boolean;
  readonly rttMs: number | null;
  /** `WebTransport` or `WebSocket`; null before the first. */
  readonly carrier: string | null;
}

/** What the page shows to whoever looks. */
export interface Hooks {
  /** Scrollback and screen of the terminal in front; wrapped lines joined. */
  text(): string;
  /** Null when no tab is open. */
  state(): FrontState | null;
}

declare global {
  interface Window {
    __rexec?: Hooks;
  }
}

/** Puts the hooks in place; returns what takes them away. */
export function exposeHooks(front: () => SessionTab | null): () => void {
  window.__rexec = Object.freeze({
    text: () => front()?.screen?.text() ?? '',
    state: () => stateOf(front()),
  });
  return () => {
    delete window.__rexec;
  };
}

function stateOf(tab: SessionTab | null): FrontState | null {
  if (!tab) return null;
  const machine = tab.link?.machine;
  return {
    machine: tab.machine,
    session: tab.session,
    viewer: tab.viewer,
    status: tab.standing.status,
    epoch: machine?.output.epoch ?? null,
    offset: machine?.output.offset ?? 0,
    parsed: machine?.output.parsed ?? 0,
    inputAcked: machine?.input.acked ?? 0,
    inputPending: machine?.input.pending ?? 0,
    cols: tab.size?.cols ?? 0,
    rows: tab.size?.rows ?? 0,
    lease: tab.held,
    rttMs: tab.rtt,
    carrier: tab.carrier,
  };
}
