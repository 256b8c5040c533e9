//! Many streams over one reliable byte stream: the tunnel where UDP is blocked (TLS over TCP), without a socket or a clock.
//!
//! A stream is two independent halves, as with QUIC: each side may `finish` or `reset` its own half and `stop` the other's, and the peer is told
//! each. Codes are those of [`crate::close`].
//!
//! ```text
//! opener                                   acceptor
//!   │ OPEN · DATA … DATA · FIN               │   never more data than the peer's credit
//!   │ ──────────────────────────────────────▶│
//!   │            CREDIT, as it is read       │   CREDIT_FIRST at first, then its share of CREDIT_POOL and what was read
//!   │ ◀──────────────────────────────────────│
//!   │            DATA … FIN  or  RESET(code) │
//!   │ ◀──────────────────────────────────────│
//!   │ STOP(code)                             │   answered by RESET with the same code
//!   │ ──────────────────────────────────────▶│
//! ```
//!
//! Layout and types of frames stand in `mux/wire.rs` and in `docs/PROTOCOL.md`. Here is what faces the transport; `mux/application.rs` is what faces the
//! application, `mux/incoming.rs` what frames of the peer's do. The caller gives received bytes to [`Mux::handle_input`], sends what
//! [`Mux::poll_output`] hands out, and drains [`Mux::poll_event`] after every call.
//!
//! # Invariants
//!
//! * The transport is always read: no stream's reader, however stuck, delays a frame of another stream. There is no window that streams share.
//! * Received and unread: at most [`STREAM_CREDIT`] per stream, and over all streams [`CREDIT_POOL`] and [`CREDIT_FIRST`] for each. Written and unsent: at most [`SEND_QUEUE`] and one chunk of the application's own per
//!   stream. Frames due: a fixed number per stream and per connection. A stream counts against its opener's limit until the application has accepted
//!   it and both halves have ended on the wire.
//! * Stream numbers are dense: the dialler's are 0, 2, 4 …, the listener's 1, 3, 5 …, each exactly once. So a frame for a stream that never was is told
//!   from one for a stream that is over. The latter is a legal race for `CREDIT` and `STOP` alone, and is counted.
//! * Short frames go before data, so a stream's `OPEN` is on the wire before its first byte. Data goes as `mux/schedule.rs` says.
//! * A protocol error ends everything with [`CloseCode::ProtocolError`]; nothing received after it is looked at.
#![deny(clippy::disallowed_methods)]

mod application;
mod incoming;
mod pulse;
mod recv;
mod schedule;
mod send;
mod stream;
mod terms;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::BytesMut;

use crate::close::CloseCode;
use pulse::Pulse;
use recv::Pool;
pub use recv::Read;
use schedule::{Line, Schedule};
pub use send::SEND_QUEUE;
use stream::Stream;
pub use terms::{CONTROL, End, Event, OpenError, Outcome, ProtocolError, Side, StreamId, Timing, Write};
pub use wire::{DATA_MAX, FRAME_MAX, HEADER, REASON_MAX, WireError};
use wire::{Decoder, Frame};

/// Bytes of one half-stream that may be on their way and unread. As much as a viewer's output window, so the tunnel is never what a session
/// waits for; 8 MB/s at 30 ms.
pub const STREAM_CREDIT: usize = 256 * 1024;
/// The credit that each half begins with, bytes: what every stream of a full connection may have unread, 0.5 MB/s at 30 ms for each of 1,024.
pub const CREDIT_FIRST: usize = 16 * 1024;
/// Credit beyond that, over all streams of a connection, bytes: 64 streams may have all that a stream can have. With what they begin with,
/// a peer of a full connection can pin 32 MiB and no more, whoever does not read.
pub const CREDIT_POOL: usize = 16 * 1024 * 1024;
/// A stream with at most this much to say goes before bulk, bytes: keystrokes, their echo, acknowledgements.
pub const SMALL_MAX: usize = 1024;
/// Streams the dialler may have open: its control stream.
pub const DIALLER_STREAMS: u32 = 1;

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
    pool: Pool,
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
            pool: Pool::default(),
            pulse: Pulse::new(side, timing, now),
            decoder: Decoder::default(),
            events: VecDeque::new(),
            end: None,
            goodbye: None,
            late: 0,
            received: 0,
        }
    }

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

    fn send_due(&mut self, id: u32, out: &mut BytesMut) {
        let streams = self.streams.len();
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_signalling = false;
            stream.encode_due(id, out, &mut self.pool, streams);
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
        stream.recv.leave(&mut self.pool);
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
