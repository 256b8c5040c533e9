//! Many streams over one reliable byte stream: the tunnel where UDP is blocked (TLS over TCP), without a socket or a clock.
//!
//! A stream is two independent halves, as with QUIC: each side may `finish` or `reset` its own half and `stop` the other's, and the peer is told
//! each. Codes are those of [`crate::close`].
//!
//! ```text
//! opener                                   acceptor
//!   │ OPEN · DATA … DATA · FIN               │   never more data than the peer's credit
//!   │ ──────────────────────────────────────▶│
//!   │            CREDIT, as it is read       │   STREAM_CREDIT at first, then what was read
//!   │ ◀──────────────────────────────────────│
//!   │            DATA … FIN  or  RESET(code) │
//!   │ ◀──────────────────────────────────────│
//!   │ STOP(code)                             │   answered by RESET with the same code
//!   │ ──────────────────────────────────────▶│
//! ```
//!
//! Layout and types of frames stand in `mux/wire.rs` and in `docs/PROTOCOL.md`. The caller gives received bytes to [`Mux::handle_input`], sends what
//! [`Mux::poll_output`] hands out, and drains [`Mux::poll_event`] after every call.
//!
//! # Invariants
//!
//! * The transport is always read: no stream's reader, however stuck, delays a frame of another stream. There is no window that streams share.
//! * Received and unread: at most [`STREAM_CREDIT`] per stream. Written and unsent: at most [`SEND_QUEUE`] and one chunk of the application's own per
//!   stream. Frames due: a fixed number per stream and per connection. A stream counts against its opener's limit until the application has accepted
//!   it and both halves have ended on the wire.
//! * Stream numbers are dense: the dialler's are 0, 2, 4 …, the listener's 1, 3, 5 …, each exactly once. So a frame for a stream that never was is told
//!   from one for a stream that is over. The latter is a legal race for `CREDIT` and `STOP` alone, and is counted.
//! * Short frames go before data, so a stream's `OPEN` is on the wire before its first byte. Data goes as `mux/schedule.rs` says.
//! * A protocol error ends everything with [`CloseCode::ProtocolError`]; nothing received after it is looked at.
#![deny(clippy::disallowed_methods)]

mod pulse;
mod recv;
mod schedule;
mod send;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::close::CloseCode;
use crate::limits::{STREAMS_PER_TUNNEL, TUNNEL_DEAD, TUNNEL_KEEPALIVE};
use pulse::Pulse;
pub use recv::Read;
use recv::RecvError;
use schedule::{Line, Schedule};
pub use send::SEND_QUEUE;
use stream::Stream;
pub use wire::{DATA_MAX, FRAME_MAX, HEADER, REASON_MAX, WireError};
use wire::{Decoder, Frame};

/// Bytes of one half-stream that may be on their way and unread. As much as a viewer's output window, so the tunnel is never what a session
/// waits for; 8 MB/s at 30 ms.
pub const STREAM_CREDIT: usize = 256 * 1024;
/// A stream with at most this much to say goes before bulk, bytes: keystrokes, their echo, acknowledgements.
pub const SMALL_MAX: usize = 1024;
/// Streams the dialler may have open: its control stream.
pub const DIALLER_STREAMS: u32 = 1;

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The agent: opens the control stream, keeps the path alive.
    Dialler,
    /// The broker: opens a stream per viewer.
    Listener,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }

    fn first_stream(self) -> u32 {
        match self {
            Self::Dialler => 0,
            Self::Listener => 1,
        }
    }

    fn streams_max(self) -> u32 {
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
pub struct StreamId(u32);

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
    fn of(self, stream: u32) -> ProtocolError {
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
        /// Its words, for a log: untrusted, at most [`REASON_MAX`] bytes.
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
    /// [`Mux::read`] has something new to say.
    Readable(StreamId),
    /// [`Mux::write`] or [`Mux::outcome`] has something new to say.
    Writable(StreamId),
    /// The connection has ended; see [`Mux::end`].
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

/// One end of a multiplexed connection.
#[derive(Debug)]
pub struct Mux {
    side: Side,
    streams: BTreeMap<u32, Stream>,
    next_ours: Option<u32>,
    next_theirs: Option<u32>,
    /// Streams counted against our limit and the peer's.
    open_ours: u32,
    open_theirs: u32,
    /// Opened by the peer, not yet accepted.
    incoming: VecDeque<u32>,
    /// Streams with short frames due, once each.
    signals: VecDeque<u32>,
    schedule: Schedule,
    pulse: Pulse,
    decoder: Decoder,
    events: VecDeque<Event>,
    end: Option<End>,
    /// The `CLOSE` to send.
    goodbye: Option<(CloseCode, String)>,
    late: u64,
    received: u64,
}

impl Mux {
    /// A fresh connection.
    pub fn new(side: Side, timing: Timing, now: Instant) -> Self {
        Self {
            side,
            streams: BTreeMap::new(),
            next_ours: Some(side.first_stream()),
            next_theirs: Some(side.other().first_stream()),
            open_ours: 0,
            open_theirs: 0,
            incoming: VecDeque::new(),
            signals: VecDeque::new(),
            schedule: Schedule::default(),
            pulse: Pulse::new(side, timing, now),
            decoder: Decoder::default(),
            events: VecDeque::new(),
            end: None,
            goodbye: None,
            late: 0,
            received: 0,
        }
    }

    // --- towards the transport ---

    /// Takes received bytes, all of them.
    pub fn handle_input(&mut self, bytes: &[u8], now: Instant) {
        self.pulse.handle_heard(now);
        self.received += 1;
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut input = bytes;
        while self.end.is_none() {
            let handled = match decoder.poll_frame(&mut input) {
                Ok(Some(frame)) => self.handle_frame(frame, now),
                Ok(None) => break,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = handled {
                self.farewell(CloseCode::ProtocolError, &error.to_string());
                self.handle_end(End::Protocol(error));
            }
        }
        self.decoder = decoder;
    }

    /// Appends frames to `out` until it holds `budget` bytes, at most one frame more, or nothing is due.
    pub fn poll_output(&mut self, out: &mut BytesMut, budget: usize, now: Instant) {
        if self.end.is_some() {
            if let Some((code, reason)) = self.goodbye.take() {
                Frame::Close { code: code.number(), reason: reason.as_bytes() }.encode(out);
            }
            return;
        }
        while out.len() < budget
            && let Some(frame) = self.pulse.poll_frame(now)
        {
            frame.encode(out);
        }
        while out.len() < budget
            && let Some(id) = self.signals.pop_front()
        {
            self.send_due(id, out);
        }
        while out.len() < budget
            && let Some((id, line)) = self.schedule.pop()
        {
            self.send_data(id, line, out);
        }
    }

    /// Whether [`Mux::poll_output`] has something to append.
    pub fn has_output(&self) -> bool {
        match self.end {
            Some(_) => self.goodbye.is_some(),
            None => self.pulse.is_due() || !self.signals.is_empty() || !self.schedule.is_empty(),
        }
    }

    /// To be called when [`Mux::poll_timeout`] has passed, after what was received until then was handed in.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.end.is_none() && self.pulse.handle_timeout(now) {
            self.handle_end(End::TimedOut);
        }
    }

    /// When to call [`Mux::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.end.is_none().then(|| self.pulse.poll_timeout()).flatten()
    }

    /// The transport has ended or must be given up.
    pub fn handle_lost(&mut self) {
        self.goodbye = None;
        self.handle_end(End::Lost);
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
        event
    }

    // --- towards the application ---

    /// Opens a stream.
    pub fn open(&mut self) -> Result<StreamId, OpenError> {
        if self.end.is_some() {
            return Err(OpenError::Ended);
        }
        let id = self.next_ours.ok_or(OpenError::Ended)?;
        if self.open_ours >= self.side.streams_max() {
            return Err(OpenError::Full);
        }
        self.next_ours = id.checked_add(2);
        self.open_ours += 1;
        self.streams.insert(id, Stream::new(true, StreamId(id) == CONTROL));
        self.refresh(id);
        Ok(StreamId(id))
    }

    /// The next stream that the peer has opened.
    pub fn accept(&mut self) -> Option<StreamId> {
        let id = self.incoming.pop_front()?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_accepted = true;
            stream.obey_stop();
        }
        self.refresh(id);
        Some(StreamId(id))
    }

    /// Queues a chunk whole, or not at all.
    pub fn write(&mut self, id: StreamId, bytes: &Bytes) -> Write {
        let has_ended = self.end.is_some();
        let Some(stream) = self.streams.get_mut(&id.0) else { return Write::Ended };
        if let Some(code) = stream.send.stopped() {
            return Write::Stopped(code);
        }
        if !stream.send.is_open() {
            return Write::Ended;
        }
        if has_ended {
            return Write::Lost;
        }
        if !stream.send.write(bytes.clone()) {
            return Write::Full;
        }
        self.refresh(id.0);
        Write::Taken
    }

    /// Ends our half after what was written. False when it has ended already.
    pub fn finish(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(&id.0).filter(|stream| stream.send.is_open()) else {
            return false;
        };
        stream.send.finish();
        self.refresh(id.0);
        true
    }

    /// Abandons our half and what of it was not sent. No effect once it has ended.
    pub fn reset(&mut self, id: StreamId, code: CloseCode) {
        if let Some(stream) = self.streams.get_mut(&id.0) {
            stream.reset(code.number());
        }
        self.refresh(id.0);
    }

    /// What became of our half.
    pub fn outcome(&self, id: StreamId) -> Outcome {
        match self.streams.get(&id.0).map(|stream| &stream.send) {
            Some(send) if send.stopped().is_some() => send.stopped().map_or(Outcome::Told, Outcome::Stopped),
            Some(send) if !send.is_ended() && self.end.is_some() => Outcome::Lost,
            Some(send) if !send.is_ended() => Outcome::Pending,
            Some(_) | None => Outcome::Told,
        }
    }

    /// Lets our half go before bulk, or not.
    pub fn set_urgent(&mut self, id: StreamId, is_urgent: bool) {
        if let Some(stream) = self.streams.get_mut(&id.0) {
            stream.send.is_urgent = is_urgent;
        }
    }

    /// Reads at most `max` bytes. What arrived before the connection ended can be read after it; then `None`.
    pub fn read(&mut self, id: StreamId, max: usize) -> Option<Read> {
        let Some(stream) = self.streams.get_mut(&id.0) else { return Some(Read::Stopped) };
        let read = stream.recv.read(max);
        match read {
            Read::Empty if self.end.is_some() => None,
            Read::Bytes(_) => {
                self.refresh(id.0);
                Some(read)
            }
            Read::Empty | Read::Finished | Read::Reset(_) | Read::Stopped => Some(read),
        }
    }

    /// Reads no more of the peer's half and tells it so. No effect once it has ended.
    pub fn stop(&mut self, id: StreamId, code: CloseCode) {
        if let Some(stream) = self.streams.get_mut(&id.0) {
            stream.stop(code.number());
        }
        self.refresh(id.0);
    }

    /// The application lets go of our half; reset with `code` if it has not ended it.
    pub fn release_send(&mut self, id: StreamId, code: CloseCode) {
        if let Some(stream) = self.streams.get_mut(&id.0) {
            if stream.send.is_open() {
                stream.reset(code.number());
            }
            stream.send.is_released = true;
        }
        self.refresh(id.0);
    }

    /// The application lets go of the peer's half; stopped with `code` if it has not ended.
    pub fn release_recv(&mut self, id: StreamId, code: CloseCode) {
        if let Some(stream) = self.streams.get_mut(&id.0) {
            stream.stop(code.number());
            stream.recv.is_released = true;
        }
        self.refresh(id.0);
    }

    /// Ends the connection; what was not sent is dropped. `reason` is for a log.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        if self.end.is_none() {
            self.farewell(code, reason);
            self.handle_end(End::Local(code));
        }
    }

    /// Asks the peer for a sign of life now.
    pub fn probe(&mut self, now: Instant) {
        self.pulse.ask(now);
    }

    /// How the connection ended, once it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The smoothed round trip, once measured. Includes what waits before our pings in both kernels.
    pub fn rtt(&self) -> Option<Duration> {
        self.pulse.rtt()
    }

    /// Frames for streams that were over when they came.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// How often bytes were received.
    pub fn received(&self) -> u64 {
        self.received
    }

    // --- within ---

    fn handle_frame(&mut self, frame: Frame<'_>, now: Instant) -> Result<(), ProtocolError> {
        match frame {
            Frame::Open { stream } => self.handle_open(stream)?,
            Frame::Data { stream, bytes } => {
                let is_news = self.their_half(stream)?.recv.handle_data(bytes);
                if is_news.map_err(|error| error.of(stream))? {
                    self.events.push_back(Event::Readable(StreamId(stream)));
                }
            }
            Frame::Fin { stream } => {
                self.their_half(stream)?.recv.handle_fin().map_err(|error| error.of(stream))?;
                self.handle_their_end(stream);
            }
            Frame::Reset { stream, code } => {
                self.their_half(stream)?.recv.handle_reset(code).map_err(|error| error.of(stream))?;
                self.handle_their_end(stream);
            }
            Frame::Credit { stream, bytes } => self.handle_credit(stream, bytes)?,
            Frame::Stop { stream, code } => self.handle_stop(stream, code)?,
            Frame::Close { code, reason } => {
                let reason = String::from_utf8_lossy(reason).into_owned();
                self.handle_end(End::Peer { code, reason });
            }
            Frame::Ping { token } => self.pulse.handle_ping(token, now),
            Frame::Pong { token } => {
                if !self.pulse.handle_pong(token, now) {
                    return Err(ProtocolError::UnsolicitedPong);
                }
            }
        }
        Ok(())
    }

    fn handle_open(&mut self, id: u32) -> Result<(), ProtocolError> {
        if self.next_theirs != Some(id) {
            return Err(ProtocolError::NotNext { stream: id });
        }
        let max = self.side.other().streams_max();
        if self.open_theirs >= max {
            return Err(ProtocolError::TooManyStreams { max });
        }
        self.next_theirs = id.checked_add(2);
        self.open_theirs += 1;
        self.streams.insert(id, Stream::new(false, StreamId(id) == CONTROL));
        self.incoming.push_back(id);
        self.events.push_back(Event::Incoming);
        Ok(())
    }

    /// A stream of which the peer has sent something; `None` when it is over.
    fn known(&mut self, id: u32) -> Result<Option<&mut Stream>, ProtocolError> {
        let next = if id % 2 == self.side.first_stream() { self.next_ours } else { self.next_theirs };
        if next.is_some_and(|next| id >= next) {
            return Err(ProtocolError::UnknownStream { stream: id });
        }
        match self.streams.get_mut(&id) {
            // Ours, but the peer cannot know of it yet.
            Some(stream) if stream.due.open => Err(ProtocolError::UnknownStream { stream: id }),
            stream => Ok(stream),
        }
    }

    /// The same for frames that cannot come after the stream's end.
    fn their_half(&mut self, id: u32) -> Result<&mut Stream, ProtocolError> {
        self.known(id)?.ok_or(ProtocolError::AfterEnd { stream: id })
    }

    fn handle_their_end(&mut self, id: u32) {
        self.events.push_back(Event::Readable(StreamId(id)));
        self.refresh(id);
    }

    fn handle_credit(&mut self, id: u32, bytes: u32) -> Result<(), ProtocolError> {
        let Some(stream) = self.known(id)? else {
            self.late += 1;
            return Ok(());
        };
        if !stream.send.handle_credit(bytes) {
            return Err(ProtocolError::CreditOverflow { stream: id });
        }
        self.refresh(id);
        Ok(())
    }

    fn handle_stop(&mut self, id: u32, code: u32) -> Result<(), ProtocolError> {
        let Some(stream) = self.known(id)? else {
            self.late += 1;
            return Ok(());
        };
        stream.send.handle_stop(code);
        stream.obey_stop();
        self.events.push_back(Event::Writable(StreamId(id)));
        self.refresh(id);
        Ok(())
    }

    fn send_due(&mut self, id: u32, out: &mut BytesMut) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_signalling = false;
            stream.encode_due(id, out);
            if stream.send.is_ended() {
                self.events.push_back(Event::Writable(StreamId(id)));
            }
        }
        self.refresh(id);
    }

    fn send_data(&mut self, id: u32, line: Line, out: &mut BytesMut) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.is_scheduled = false;
        // Much was added to the little it had to say when it got in line.
        if stream.send.is_ready() && (line == Line::Bulk || stream.send.is_quick()) {
            let sent = stream.send.encode(id, out);
            self.schedule.handle_sent(line, sent + HEADER);
            if stream.send.is_ended() || stream.send.poll_room() {
                self.events.push_back(Event::Writable(StreamId(id)));
            }
        }
        self.refresh(id);
    }

    /// Puts a stream that changed in the lines where it belongs, and forgets it when nobody needs it any more.
    fn refresh(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.due.credit = stream.recv.is_credit_due();
        let due = &stream.due;
        let is_due = due.open || due.credit || due.reset.is_some() || due.stop.is_some();
        if is_due && !std::mem::replace(&mut stream.is_signalling, true) {
            self.signals.push_back(id);
        }
        if stream.send.is_ready() && !std::mem::replace(&mut stream.is_scheduled, true) {
            self.schedule.push(id, line_of(stream));
        }
        if stream.is_counted && stream.is_over() {
            stream.is_counted = false;
            self.handle_over(id);
        }
        self.forget(id);
    }

    fn handle_over(&mut self, id: u32) {
        if id % 2 == self.side.first_stream() {
            self.open_ours = self.open_ours.saturating_sub(1);
            self.events.push_back(Event::Room);
        } else {
            self.open_theirs = self.open_theirs.saturating_sub(1);
        }
    }

    fn forget(&mut self, id: u32) {
        let is_done = self
            .streams
            .get(&id)
            .is_some_and(|stream| stream.is_released() && (!stream.is_counted || self.end.is_some()));
        if is_done && let Some(stream) = self.streams.remove(&id) {
            if stream.is_signalling {
                self.signals.retain(|waiting| *waiting != id);
            }
            if stream.is_scheduled {
                self.schedule.remove(id);
            }
        }
    }

    fn farewell(&mut self, code: CloseCode, reason: &str) {
        let end = reason.floor_char_boundary(REASON_MAX);
        self.goodbye = Some((code, reason.get(..end).unwrap_or_default().to_owned()));
    }

    fn handle_end(&mut self, end: End) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        self.signals.clear();
        self.schedule.clear();
        for stream in self.streams.values_mut() {
            stream.send.clear();
            (stream.is_signalling, stream.is_scheduled) = (true, true);
        }
        self.streams.retain(|_, stream| !stream.is_released());
        self.events.push_back(Event::Ended);
    }
}

fn line_of(stream: &Stream) -> Line {
    if stream.send.is_urgent {
        Line::Urgent
    } else if stream.send.is_quick() {
        Line::Quick
    } else {
        Line::Bulk
    }
}
