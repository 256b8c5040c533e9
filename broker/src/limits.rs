//! Limits that concern the broker alone: name, unit, reason. What two parts must agree on stands in [`rexec_shared::limits`].

use std::time::Duration;

// --- agents dialling in ---

/// Handshakes under way above which an address must first prove itself by a stateless retry (THREATS NW-03).
pub(crate) const HANDSHAKES_RETRY_ABOVE: usize = 1_000;
/// Handshakes under way at once; beyond it dials are ignored, and QUIC tries again by itself.
pub(crate) const HANDSHAKES_MAX: usize = 2_000;
/// Handshakes under way from one /32 or /64 (THREATS MA-11).
pub(crate) const HALF_OPEN_PER_PREFIX: usize = 32;
/// Of those, how many from addresses not yet proven, so that forged packets never lock out who really lives there.
pub(crate) const HALF_OPEN_UNPROVEN: usize = 16;
/// From the first packet to the agent's `Hello`.
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// How long no dial is accepted over TCP after the system refused one.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Dials over TCP that the kernel completes before they are accepted; the loop awaits no peer, so a storm of this size waits milliseconds.
pub(crate) const TCP_BACKLOG: i32 = 1_024;
/// Ports tried when any free one was asked for and those free for UDP are taken for TCP.
pub(crate) const PORT_TRIES: usize = 16;
/// Life of a retry token.
pub(crate) const RETRY_TOKEN_LIFE: Duration = Duration::from_secs(15);
/// Bytes kept for one dial before it is accepted: a client hello with a post-quantum share takes two packets.
pub(crate) const INCOMING_BUFFER: u64 = 8 * 1024;
/// The same for all dials together.
pub(crate) const INCOMING_BUFFER_TOTAL: u64 = 4 * 1024 * 1024;
/// Tunnels that one broker takes: three times the 10,000 it is built for.
pub(crate) const TUNNELS_MAX: usize = 32_768;

// --- a tunnel ---

/// Unread bytes of one stream that an agent may send. Windows decide isolation (docs/TRANSPORT.md); measured alike from 64 KiB to 4 MiB, and as
/// large as the output that a host keeps in flight to one viewer.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// Windows beyond one for each viewer's stream: the control stream's, and those of streams that are just being opened.
pub(crate) const SPARE_WINDOWS: u32 = 4;
/// Viewers of one tunnel that may be slow to take a message at once; one more is cut, and comes back to a screen instead of a backlog.
pub(crate) const STALLED_PER_TUNNEL: usize = 64;
/// How long a message may take before its viewer counts as slow: 64 KiB at half a megabit a second.
pub(crate) const STALL_GRACE: Duration = Duration::from_secs(1);
/// Unread bytes of all streams that an agent may send over QUIC: a whole window for each viewer that is slow, and half as much for the others,
/// so that streams left unread do not take the control stream's credit. Over TCP the multiplexer's own pool bounds them.
pub(crate) const TUNNEL_WINDOW: u32 = STALLED_PER_TUNNEL as u32 * STREAM_WINDOW / 2 * 3;
/// Bytes sent and not yet acknowledged that one tunnel may hold here, with so many viewers' streams: a whole window for each, so that a slow
/// path full of theirs leaves room for the control stream's.
pub(crate) const fn send_window(streams: u32) -> u64 {
    (streams as u64 + SPARE_WINDOWS as u64) * STREAM_WINDOW as u64
}
/// Largest UDP payload taken and tried: 4,000 bytes were best on loopback, 9,000 worse (docs/TRANSPORT.md).
pub(crate) const UDP_PAYLOAD_MAX: u16 = 4_000;
/// Socket buffers of the tunnel listener, bytes: a burst of 64 KiB from each of 64 agents. The kernel may grant less.
pub(crate) const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// The shortest time between two stateless resets: after a restart 10,000 agents learn of it within a second.
pub(crate) const RESET_INTERVAL: Duration = Duration::from_micros(100);
/// How long an agent may leave its control stream unread.
pub(crate) const CONTROL_WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// The shortest time between two presences of one machine passed on; in between the newest waits.
pub(crate) const PRESENCE_INTERVAL: Duration = Duration::from_millis(100);
/// How often the round trip is looked at, and reported when it changed notably.
pub(crate) const RTT_INTERVAL: Duration = Duration::from_secs(5);
/// Silence of an agent after which it is asked whether it is there: it pings every 3 s by itself.
pub(crate) const SILENCE_IDLE: Duration = Duration::from_millis(3_300);
/// The same while viewers are attached: it pings every second then.
pub(crate) const SILENCE_BUSY: Duration = Duration::from_secs(2);
/// How long an agent may take to answer, idle; its tunnel is lost then. Five seconds in all, with the look that notices silence late.
pub(crate) const ANSWER_IDLE: Duration = Duration::from_millis(1_500);
/// The same while viewers are attached: more than a machine that is merely busy needs.
pub(crate) const ANSWER_BUSY: Duration = Duration::from_millis(2_500);
/// How long after an arrival it is looked whether more came with it, such as the acknowledgement of what was answered; and two round trips.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(100);

// --- a browser's connection over WebTransport ---

/// Streams a browser may have open: the request that begins the session, and the viewer's.
pub(crate) const WEB_STREAMS: u32 = 2;
/// One-way streams a browser may open: HTTP/3's control stream and QPACK's two (RFC 9114 §6.2).
pub(crate) const WEB_UNI_STREAMS: u32 = 3;
/// Unread bytes of all its streams, and bytes sent to it and not yet acknowledged: the viewer's window and as much for the rest.
pub(crate) const WEB_WINDOW: u32 = 2 * STREAM_WINDOW;
/// Largest datagram announced, bytes: one that every path carries. None is ever read.
pub(crate) const WEB_DATAGRAM: usize = 1_200;
/// How often a silent connection is kept alive: well inside [`rexec_shared::limits::TUNNEL_IDLE`], which is what browsers have, too, and
/// inside the 30 s that home routers keep a UDP mapping.
pub(crate) const WEB_KEEPALIVE: Duration = Duration::from_secs(10);
/// Connections of browsers that stand, from one /32 or /64: as many as control takes over TCP.
pub(crate) const WEB_PER_PREFIX: usize = 1_024;

// --- the registry ---

/// Commands waiting for the registry; who brings more waits.
pub(crate) const COMMANDS_MAX: usize = 1_024;
/// Organisations whose feed and used tickets are remembered.
pub(crate) const ORGS_MAX: usize = 65_536;
/// How long an attach is held for a machine whose tunnel is not there, where it may be at another broker: longer than an agent whose tunnel
/// was lost takes to come back.
pub(crate) const HOLD_BESIDE_OTHERS: Duration = Duration::from_secs(3);
/// Viewers held for one machine whose tunnel is away.
pub(crate) const HELD_PER_MACHINE: usize = 64;
/// Viewers held in all.
pub(crate) const HELD_TOTAL: usize = 4_096;
/// How far ahead of this broker's clock a number may be that an agent has had elsewhere, microseconds: clocks that differ by more are broken.
pub(crate) const AFTER_AHEAD_MAX: u64 = 3_600_000_000;
/// How long it is believed that a machine is at another broker: longer than its viewers take to ask control where.
pub(crate) const MOVED_FOR: Duration = Duration::from_secs(60);
/// Machines of which that is remembered.
pub(crate) const MOVED_MAX: usize = TUNNELS_MAX;
/// Stream events waiting for control; beyond it they are counted as lost.
pub(crate) const STREAM_EVENTS_MAX: usize = 4_096;

/// Tunnels that are handed a new feed at once: ten thousand would keep everybody's keystrokes waiting behind them.
pub(crate) const FEEDS_AT_ONCE: usize = 100;
/// Between two such parts: 10,000 tunnels have it within a second. What a feed revokes is cut here at once.
pub(crate) const FEED_PAUSE: Duration = Duration::from_millis(10);

// --- viewers ---

/// Viewers that have not yet shown a ticket. Each can cost [`VIEWER_MESSAGE_MAX`] until its deadline.
pub(crate) const VIEWERS_PENDING_MAX: usize = 1_024;
/// Of those, how many from one /32 or /64.
pub(crate) const VIEWERS_PENDING_PER_PREFIX: usize = 64;
/// The same from this very machine, where a reverse proxy may stand for everybody.
pub(crate) const VIEWERS_PENDING_LOOPBACK: usize = 960;
/// Viewers in all.
pub(crate) const VIEWERS_TOTAL_MAX: usize = 16_384;
/// Largest WebSocket message of a viewer, bytes: a whole input window in one slice, its frame headers and acknowledgements.
pub(crate) const VIEWER_MESSAGE_MAX: usize = 320 * 1024;
/// Bytes of a viewer read ahead while its machine is awaited, bytes: the first frame and nothing much.
pub(crate) const HELD_BYTES_MAX: usize = 32 * 1024;
/// WebSocket read buffer, bytes: allocated per viewer, so small; a larger message grows its own.
pub(crate) const VIEWER_READ_BUFFER: usize = 8 * 1024;
/// Bytes copied in one go, in either direction, before neighbours get their turn (DESIGN §5: no task may pump without a budget).
pub(crate) const BATCH: usize = 64 * 1024;
/// Chunks taken from a stream at once: a batch of packets of 1,452 bytes.
pub(crate) const BATCH_CHUNKS: usize = 44;
/// How long a viewer may leave a message unread by its system, [`STALL_GRACE`] included.
pub(crate) const VIEWER_WRITE_DEADLINE: Duration = Duration::from_secs(20);
/// How often a viewer is pinged.
pub(crate) const VIEWER_PING: Duration = Duration::from_secs(30);
/// A viewer silent for this long is gone: two pings and a little.
pub(crate) const VIEWER_SILENT: Duration = Duration::from_secs(70);
/// How long an agent may take to let a stream be opened.
pub(crate) const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// After the agent stopped reading: how long its last words may take.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);
/// After the viewer left: how long what it typed last may take to be passed on.
pub(crate) const LAST_INPUT: Duration = Duration::from_secs(2);
/// How long a viewer may take to answer the close of its socket.
pub(crate) const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

// --- the end ---

/// Over how long a broker that has no other beside it spreads the closes of its tunnels, so that they do not come back in one burst.
pub(crate) const CLOSE_SPREAD: Duration = Duration::from_secs(1);
/// In how many parts.
pub(crate) const CLOSE_PARTS: u32 = 20;
/// How long the last events may take to reach control.
pub(crate) const FLUSH_DEADLINE: Duration = Duration::from_millis(500);
