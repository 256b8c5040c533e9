/** Asking control for a ticket: the permission to open or attach to one session. */
import { api, call } from '$lib/api/client';
import { asProblem } from '$lib/api/problem';
import type { Ticket } from '$lib/api/types';
import type { Cause } from './phase';

/** Why there is no ticket. */
export class TicketError extends Error {
  override readonly name = 'TicketError';

  constructor(
    override readonly cause: Cause,
    /** Asking again is pointless. */
    readonly final: boolean,
  ) {
    super(cause.message);
  }
}

/** What a status means here, whatever the server calls it. */
const CODES: Readonly<Record<number, string>> = {
  0: 'control',
  401: 'unauthenticated',
  404: 'not_found',
};

/** Where the machine's viewers go now. */
export async function fetchBroker(machine: string, signal: AbortSignal): Promise<string> {
  const path = { id: machine };
  const { broker_url } = await call(
    api.GET('/api/machines/{id}/broker', { params: { path }, signal }),
  );
  return broker_url;
}

/** What a ticket may be asked for here. */
export type Capability = 'terminal' | 'files.read' | 'files.write';

/** A ticket, and with it the capability to resume. `signal` gives up. */
export async function fetchTicket(
  machine: string,
  session: string,
  key: string,
  signal: AbortSignal,
  caps: Capability[] = ['terminal'],
): Promise<Ticket> {
  const body = { machine, session, caps, key };
  try {
    return await call(api.POST('/api/tickets', { body, signal }));
  } catch (thrown) {
    const { status, code, detail } = asProblem(thrown);
    const final = status >= 400 && status < 500 && status !== 408 && status !== 429;
    throw new TicketError({ code: CODES[status] ?? code, message: detail }, final);
  }
}
