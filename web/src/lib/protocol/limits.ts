/**
 * Limits the viewer and the session host must agree on (`shared/src/limits.rs` is the authority),
 * and the viewer's own, each with unit and reason.
 */

/** Protocol version spoken. */
export const PROTOCOL_VERSION = 1;
/** Largest payload of one frame, bytes; checked before anything is allocated. */
export const FRAME_MAX = 65_536;
/** Largest `Input` data in one frame, bytes: coalesced, and still short beside the window. */
export const DATA_FRAME_MAX = 32_768;
/** Unacknowledged input in flight, bytes. */
export const INPUT_WINDOW = 262_144;
/** Unacknowledged output the host keeps in flight, bytes. */
export const OUTPUT_WINDOW = 262_144;
/** Output parsed after which an `Ack` is owed, bytes. Half of what the protocol asks, so the host never waits on a late one. */
export const ACK_EVERY = 32_768;
/** A terminal that has parsed all there is, and so much of it, acknowledges at once, bytes: the host may have no more than that on its way. */
export const ACK_SOON = 2_048;
/** With less it does so after this long, ms: one `Ack` for a burst of echoes. */
export const ACK_IDLE_MS = 40;
/** Largest snapshot accepted, bytes. */
export const SNAPSHOT_MAX = 8 * 1024 * 1024;
/** Terminal size the host bears. */
export const COLS_MAX = 1_000;
/** See {@link COLS_MAX}. */
export const ROWS_MAX = 500;
/** Input accepted ahead of its acknowledgement, bytes: a large paste, and no more. */
export const INPUT_QUEUE_MAX = 16 * 1024 * 1024;
/** Length of a title shown, characters: it is the other side's text. */
export const TITLE_MAX = 128;

/** How often a visible page measures the round trip, ms. */
export const PING_EVERY_MS = 1_000;
/** When a new transport is first measured, ms: right after attaching the page is busy painting, and would measure itself. */
export const PING_FIRST_MS = 300;
/** A ping unanswered, with nothing else received, for this long means the path is dead, ms: with the wait for a ping, found within 5 s. */
export const DEAD_AFTER_MS = 3_900;
/** The same after waking up, when the path is doubted already and no round trip is known, ms. */
export const DOUBT_AFTER_MS = 2_500;
/** Round trips that a doubted path is given to answer: on most paths that is sooner. */
export const DOUBT_ROUND_TRIPS = 8;
/** What it is given at least, ms: a page that wakes up is busy. */
export const DOUBT_AT_LEAST_MS = 1_000;
/** What comes this soon after a path was doubted, ms, was on its way before, and says nothing; only the answer to a ping does. */
export const DOUBT_STALE_MS = 250;
/** How long control may take to answer a ticket request, ms. */
export const TICKET_TIMEOUT_MS = 5_000;
/** How long a transport may take to open, ms. */
export const DIAL_TIMEOUT_MS = 5_000;
/** How long from an open transport to `Opened`, ms: a broker holds an attach 10 s for a tunnel that is coming back. */
export const GREETING_TIMEOUT_MS = 20_000;

/** First step of the reconnect backoff, ms. */
export const BACKOFF_BASE_MS = 250;
/** Cap while the outage is young, ms: the page should be back within a second of the network. */
export const BACKOFF_CAP_MS = 2_000;
/** Cap of an outage older than {@link BACKOFF_PATIENCE} attempts, ms. */
export const BACKOFF_CAP_LONG_MS = 15_000;
/** Attempts after which the longer cap applies: about half a minute. */
export const BACKOFF_PATIENCE = 30;
/** Uptime after which the next failure is the first again, ms. */
export const STABLE_MS = 5_000;
/** Every so many failures in a row a new ticket is asked for, because the machine may be at another broker by now. */
export const TICKET_EVERY = 4;
/** Faults in a row (output out of step, malformed frames) after which the viewer gives up: a repaint does not heal it. */
export const FAULTS_MAX = 3;

/** How long WebTransport is tried alone before a WebSocket is opened beside it, ms: two round trips on most paths. */
export const HEAD_START_MS = 250;
/** How long a WebTransport session may take to open, ms: a path that lets no UDP through says nothing. */
export const WEB_HANDSHAKE_MS = 1_500;
/** Bytes read from a WebTransport stream at once. */
export const READ_BYTES = 65_536;
/** How long what was sent may take to be delivered before a session is closed, ms. */
export const FAREWELL_MS = 1_000;
/** First pause before WebTransport is tried again, ms. */
export const REACH_BASE_MS = 5_000;
/** Longest such pause, ms: a network where UDP comes back is noticed within minutes. */
export const REACH_CAP_MS = 300_000;
/** A session that lasted so long was no accident, ms: when it dies, the pauses begin anew. */
export const REACH_STABLE_MS = 60_000;
/** How long attaching over a better transport may take, ms; the worse one carries on meanwhile. */
export const MOVE_TIMEOUT_MS = 2_500;
/** Age at which a page asks for the hashes of certificates anew before it dials by them, ms: far below the four days that they are good for at least, in case they were lost. */
export const HASHES_FRESH_MS = 3_600_000;
