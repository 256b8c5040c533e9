/** The viewer's side of the session protocol: a pure machine, a key, tickets, and the thin transport around them. */
export { uuid } from './bytes';
export { Connection, type ConnectionOptions } from './connection';
export { loadViewerKey, type ViewerKey } from './key';
export type { Exit, Role, SignalName, Size, ViewerInfo } from './messages';
export type { Cause, Ending, Phase, ViewerEvent } from './phase';
export { fetchBroker, fetchTicket, TicketError } from './tickets';
export { ViewerMachine } from './viewer';
