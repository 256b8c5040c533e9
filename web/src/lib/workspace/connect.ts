/** Joins a tab to the real world: this page's key, control's tickets, a WebSocket. */
import { Connection, fetchBroker, fetchTicket, loadViewerKey } from '../protocol';
import type { Connect } from './tab.svelte';

/** Connects to a session of a machine of this installation. */
export const connect: Connect = ({ machine, session }, options) =>
  new Connection({
    ...options,
    session,
    key: loadViewerKey,
    grant: (confirmation, signal) => fetchTicket(machine, session, confirmation, signal),
    findBroker: (signal) => fetchBroker(machine, signal),
  });
