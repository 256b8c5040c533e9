//! Every limit that two parts must agree on: name, unit, reason.
//!
//! Limits that concern one crate alone stand in that crate.

use std::time::Duration;

/// Largest payload of one frame, bytes. Checked before anything is allocated (THREATS MA-03).
pub const FRAME_MAX: usize = 64 * 1024;
/// Largest first frame of a viewer stream, bytes: a ticket, a spec and room for features.
pub const FIRST_FRAME_MAX: usize = 16 * 1024;
/// How long a viewer has to send its first frame.
pub const FIRST_FRAME_DEADLINE: Duration = Duration::from_secs(5);
/// How long a viewer has to answer the host's challenge.
pub const PROOF_DEADLINE: Duration = Duration::from_secs(10);

/// Unacknowledged output in flight to one viewer, bytes. One parsed-byte round trip of a browser at 30 ms and 8 MB/s.
pub const OUTPUT_WINDOW: u64 = 256 * 1024;
/// A viewer acknowledges at least this often, parsed bytes.
pub const ACK_EVERY: u64 = 64 * 1024;
/// Unacknowledged input in flight from one viewer, bytes; what the host must be ready to hold per viewer.
pub const INPUT_WINDOW: u64 = 256 * 1024;
/// Largest `Input` or `Output` data in one frame, bytes: coalesced, and still short beside a window.
pub const DATA_FRAME_MAX: usize = 32 * 1024;
/// A viewer with output in flight that has acknowledged nothing for this long stops holding the PTY back.
pub const VIEWER_SILENT: Duration = Duration::from_secs(2);
/// Output kept per session for resuming viewers, bytes. Allocated as it fills.
pub const LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest snapshot, bytes: scrollback is cut from its oldest end to fit.
pub const SNAPSHOT_MAX: usize = 8 * 1024 * 1024;
/// Lines of scrollback the screen model keeps.
pub const SCROLLBACK_LINES: usize = 5_000;
/// Terminal size, columns and rows: what a PTY and a screen model can bear.
pub const COLS_MAX: u16 = 1_000;
/// See [`COLS_MAX`].
pub const ROWS_MAX: u16 = 500;

/// Sessions alive at once on one machine.
pub const SESSIONS_MAX: usize = 256;
/// Viewers attached at once to one session.
pub const VIEWERS_MAX: usize = 64;
/// Input streams (viewers seen) whose ledger a session remembers.
pub const LEDGERS_MAX: usize = 256;
/// How long an ended session can still be looked at.
pub const EXITED_KEEP: Duration = Duration::from_secs(600);

/// Lifetime of a ticket.
pub const TICKET_LIFE: Duration = Duration::from_secs(60);
/// Largest encoded ticket, bytes.
pub const TICKET_MAX: usize = 4 * 1024;
/// Ticket numbers remembered for single use; a full cache refuses (never forgets early).
pub const REPLAY_MAX: usize = 65_536;
/// Clock difference tolerated between control and a machine.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// How often control signs each organisation's revocation feed.
pub const FEED_INTERVAL: Duration = Duration::from_secs(30);
/// A feed older than this opens nothing new.
pub const FEED_STALE: Duration = Duration::from_secs(300);
/// Entries in one feed.
pub const FEED_ENTRIES_MAX: usize = 512;

/// How long a broker holds an attach for a machine whose tunnel is not there.
pub const HOLD_FOR_TUNNEL: Duration = Duration::from_secs(10);
/// Viewer streams per tunnel.
pub const STREAMS_PER_TUNNEL: u32 = 1_024;
/// QUIC idle timeout of a tunnel.
pub const TUNNEL_IDLE: Duration = Duration::from_secs(30);
/// QUIC keep-alive of a tunnel, and of its application pings.
pub const TUNNEL_KEEPALIVE: Duration = Duration::from_secs(3);
/// A ping unanswered for this long means the path is dead.
pub const TUNNEL_DEAD: Duration = Duration::from_secs(8);

/// Longest text an agent tells about itself or its tunnel, characters.
pub const AGENT_TEXT_MAX: usize = 256;

/// Life of an agent's certificate.
pub const CERT_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Age at which an agent renews its certificate.
pub const CERT_RENEW: Duration = Duration::from_secs(8 * 3600);

/// How often an agent says what its machine uses.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(5);
