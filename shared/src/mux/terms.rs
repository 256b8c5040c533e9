//! The words of a multiplexed connection: its ends, its streams, what happens to them, and why something does not.

use std::time::Duration;

use thiserror::Error;

use super::recv::RecvError;
use super::wire::WireError;
use super::{DIALLER_STREAMS, STREAM_CREDIT};
use crate::close::CloseCode;
use crate::limits::{STREAMS_PER_TUNNEL, TUNNEL_DEAD, TUNNEL_KEEPALIVE};

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The agent: opens the control stream, keeps the path alive.
    Dialler,
    /// The broker: opens a stream per viewer.
    Listener,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }

    pub(super) fn first_stream(self) -> u32 {
        match self {
            Self::Dialler => 0,
            Self::Listener => 1,
        }
    }

    pub(super) fn streams_max(self) -> u32 {
        match self {
            Self::Dialler => DIALLER_STREAMS,
            Self::Listener => STREAMS_PER_TUNNEL,
        }
    }
}

/// When a peer is asked for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between the dialler's pings; the listener asks after twice as much silence.
    pub ping_every: Duration,
    /// Silence after which the path is dead.
    pub dead_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { ping_every: TUNNEL_KEEPALIVE, dead_after: TUNNEL_DEAD }
    }
}

/// The number of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u32);

/// The first stream: the dialler's, for tunnel control.
pub const CONTROL: StreamId = StreamId(0);

/// What the peer did that the protocol forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ProtocolError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("stream {stream} was never opened")]
    UnknownStream { stream: u32 },
    #[error("stream {stream} opened out of turn")]
    NotNext { stream: u32 },
    #[error("more than {max} streams opened")]
    TooManyStreams { max: u32 },
    #[error("stream {stream} sent more than {STREAM_CREDIT} bytes ahead of its reader")]
    OverCredit { stream: u32 },
    #[error("stream {stream} was granted more than was sent")]
    CreditOverflow { stream: u32 },
    #[error("stream {stream} went on after its end")]
    AfterEnd { stream: u32 },
    #[error("a pong to no ping")]
    UnsolicitedPong,
}

impl RecvError {
    pub(super) fn of(self, stream: u32) -> ProtocolError {
        match self {
            Self::OverCredit => ProtocolError::OverCredit { stream },
            Self::AfterEnd => ProtocolError::AfterEnd { stream },
        }
    }
}

/// How the connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// We closed it.
    Local(CloseCode),
    /// The peer closed it; `code` is a number of the table of [`crate::close`], or of a newer one.
    Peer {
        /// Its code.
        code: u32,
        /// Its words, for a log: untrusted, at most [`REASON_MAX`](super::REASON_MAX) bytes.
        reason: String,
    },
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// Nothing was heard for too long.
    TimedOut,
    /// The transport ended.
    Lost,
}

/// Something the application may have waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a stream.
    Incoming,
    /// A stream refused by [`OpenError::Full`] may be opened now.
    Room,
    /// [`Mux::read`](super::Mux::read) has something new to say.
    Readable(StreamId),
    /// [`Mux::write`](super::Mux::write) or [`Mux::outcome`](super::Mux::outcome) has something new to say.
    Writable(StreamId),
    /// The connection has ended; see [`Mux::end`](super::Mux::end).
    Ended,
}

/// Why no stream was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// As many as the peer allows are open; [`Event::Room`] tells when one has ended.
    #[error("as many streams are open as the peer allows")]
    Full,
    /// The connection has ended, or its 2³¹ numbers are used up.
    #[error("the connection opens no more streams")]
    Ended,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It was taken, all of it.
    Taken,
    /// Nothing of it was taken; [`Event::Writable`] tells when to try again.
    Full,
    /// The peer reads no more.
    Stopped(u32),
    /// The connection has ended.
    Lost,
    /// We have finished or reset this half.
    Ended,
}

/// What became of our half of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// All of it, or its reset, was handed to the transport.
    Told,
    /// The peer reads no more.
    Stopped(u32),
    /// The connection ended first.
    Lost,
}
