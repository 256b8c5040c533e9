/** What a viewer's phase means to a person: one word, one sentence, what can be done. */
import type { Exit } from '../protocol/messages';
import type { Cause, Ending, Phase } from '../protocol/phase';

/** One word for the pill. */
export type Status = 'connecting' | 'running' | 'reconnecting' | 'offline' | 'ended' | 'stopped';

/** What a person can do about it. */
export type Remedy = 'retry' | 'reopen' | 'sign-in' | 'machines';

/** How a session stands, for a person. */
export interface Standing {
  readonly status: Status;
  readonly label: string;
  /** What is the matter; empty when nothing is. */
  readonly detail: string;
  /** When the next attempt is due, on `performance.now()`; null: nothing is waited for. */
  readonly retryAt: number | null;
  readonly remedies: readonly Remedy[];
}

const WAITING: Readonly<Record<string, string>> = {
  network: 'The path to the machine was lost',
  timeout: 'No answer on the path to the machine',
  control: 'The server does not answer',
  unreachable: 'The server does not answer',
  machine_offline: 'The machine is not connected',
  tunnel_lost: 'The machine lost its connection',
  draining: 'The broker is restarting',
  host_unavailable: 'The session host on the machine does not answer',
  port_closed: 'Nothing listens on that port of the machine',
  too_slow: 'The connection could not keep up',
  overloaded: 'The broker has no room at the moment',
  limit_reached: 'A limit was reached',
  feed_stale: 'The broker lost touch with control and opens nothing new',
  rate_limited: 'Too many requests; slowing down',
  bad_ticket: 'The ticket was not accepted',
  ticket_expired: 'The ticket had expired',
  ticket_used: 'The ticket had been used',
};

const OVER: Readonly<Record<string, readonly [string, readonly Remedy[]]>> = {
  session_not_found: ['This session is no longer on the machine', ['reopen']],
  revoked: [
    'Access was revoked: the machine was removed, or this login ended',
    ['sign-in', 'machines'],
  ],
  forbidden: ['You may not do this in this session', ['machines']],
  displaced: ['Another agent took over this machine', ['retry']],
  wrong_installation: ['The machine belongs to another installation', ['machines']],
  unauthenticated: ['You are signed out', ['sign-in']],
  not_found: ['There is no such machine', ['machines']],
  done: ['The session was left', ['retry']],
  protocol_error: ['Page and machine do not understand each other', ['retry', 'reopen']],
};

/** What keeps a viewer from being attached, and since when (`performance.now()`). */
export interface Trouble {
  readonly cause: Cause;
  readonly since: number;
}

/** The trouble after a phase: it begins with the first wait, lasts through the attempts, and ends attached or for good. */
export function troubleAfter(phase: Phase, before: Trouble | null, now: number): Trouble | null {
  switch (phase.at) {
    case 'live':
    case 'over':
      return null;
    case 'waiting':
      return { cause: phase.cause, since: before?.since ?? now };
    default:
      return before;
  }
}

/** How a viewer stands. An attempt in between two waits does not change what is the matter. */
export function standingOf(phase: Phase, trouble: Trouble | null, ending = false): Standing {
  if (phase.at === 'live') return ending ? ENDING : RUNNING;
  if (phase.at === 'over') return over(phase.ending);
  if (trouble) return waiting(trouble.cause, phase.at === 'waiting' ? phase.until : null);
  return CONNECTING;
}

const RUNNING: Standing = {
  status: 'running',
  label: 'Running',
  detail: '',
  retryAt: null,
  remedies: [],
};
/** It was asked to end and still runs. */
const ENDING: Standing = { ...RUNNING, label: 'Ending' };
const CONNECTING: Standing = { ...RUNNING, status: 'connecting', label: 'Connecting' };

/** How a session ended, in words. */
export function exitText({ code, signal }: Exit): string {
  if (signal !== null) return `ended by ${SIGNALS[signal] ?? `signal ${signal}`}`;
  return code === 0 ? 'ended' : `ended with exit code ${code ?? '?'}`;
}

const SIGNALS: Readonly<Record<number, string>> = {
  1: 'SIGHUP',
  2: 'SIGINT',
  3: 'SIGQUIT',
  6: 'SIGABRT',
  9: 'SIGKILL',
  11: 'SIGSEGV',
  15: 'SIGTERM',
};

function waiting(cause: Cause, retryAt: number | null): Standing {
  const away = cause.code === 'machine_offline' || cause.code === 'host_unavailable';
  return {
    status: away ? 'offline' : 'reconnecting',
    label: away ? 'Offline' : 'Reconnecting',
    detail: WAITING[cause.code] ?? (cause.message || cause.code),
    retryAt,
    remedies: ['retry'],
  };
}

function over(ending: Ending): Standing {
  const base = { status: 'ended', label: 'Ended', retryAt: null } as const;
  switch (ending.kind) {
    case 'exited':
      return { ...base, detail: `The session ${exitText(ending.exit)}`, remedies: ['reopen'] };
    case 'detached':
      return { ...base, detail: 'Left; the session goes on', remedies: ['retry'] };
    case 'refused':
      return refused(ending.cause);
  }
}

function refused({ code, message }: Cause): Standing {
  const [detail, remedies] = OVER[code] ?? [message || code, ['retry'] as const];
  const gone = code === 'session_not_found';
  return {
    status: gone ? 'ended' : 'stopped',
    label: gone ? 'Ended' : 'Stopped',
    detail,
    retryAt: null,
    remedies,
  };
}
