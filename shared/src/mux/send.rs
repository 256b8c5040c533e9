//! Our half of a stream: what the application has written and the peer has not yet been sent.
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::wire::{DATA_MAX, Frame, put_data_header};
use super::{CREDIT_FIRST, SMALL_MAX, STREAM_CREDIT};

/// Bytes written and not yet sent at which a stream takes no more, bytes. The chunk that crosses it is taken whole, so that a write is all
/// or nothing; a writer then waits for the path and not for its neighbours.
pub const SEND_QUEUE: usize = 64 * 1024;
/// The same in chunks: each costs memory of its own however small.
const SEND_CHUNKS: usize = 256;
/// Chunks a drained queue keeps room for.
const KEPT_CHUNKS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The application has finished; `FIN` follows the last byte.
    Finishing,
    /// `FIN` or `RESET` was sent: the peer expects nothing more.
    Ended,
    /// Abandoned, `RESET` not yet sent.
    Resetting,
}

/// Invariants: `pending` is the sum of `queue`; nothing is queued in `Ended` and `Resetting`; `credit ≤ STREAM_CREDIT`.
#[derive(Debug)]
pub(super) struct SendHalf {
    state: State,
    queue: VecDeque<Bytes>,
    pending: usize,
    credit: usize,
    /// The peer reads no more.
    stopped: Option<u32>,
    /// A write was refused since there was room.
    is_wanted: bool,
    /// Goes before bulk whatever it has to say.
    pub(super) is_urgent: bool,
    /// The application has let go of it.
    pub(super) is_released: bool,
}

impl SendHalf {
    pub(super) fn new(is_urgent: bool) -> Self {
        Self {
            state: State::Open,
            queue: VecDeque::new(),
            pending: 0,
            credit: CREDIT_FIRST,
            stopped: None,
            is_wanted: false,
            is_urgent,
            is_released: false,
        }
    }

    /// Whether the application may still write, finish or reset.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the peer has been told the end.
    pub(super) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The code with which the peer stopped it.
    pub(super) fn stopped(&self) -> Option<u32> {
        self.stopped
    }

    /// Takes a chunk whole; false when there is no room.
    pub(super) fn write(&mut self, bytes: Bytes) -> bool {
        if self.is_full() {
            self.is_wanted = true;
            return false;
        }
        if !bytes.is_empty() {
            self.pending += bytes.len();
            self.queue.push_back(bytes);
        }
        true
    }

    fn is_full(&self) -> bool {
        self.pending >= SEND_QUEUE || self.queue.len() >= SEND_CHUNKS
    }

    /// No more will be written.
    pub(super) fn finish(&mut self) {
        if self.state == State::Open {
            self.state = State::Finishing;
        }
    }

    /// Abandons what is not sent; true when `RESET` is now due.
    pub(super) fn reset(&mut self) -> bool {
        if !matches!(self.state, State::Open | State::Finishing) {
            return false;
        }
        self.clear();
        self.state = State::Resetting;
        true
    }

    /// `RESET` was sent.
    pub(super) fn handle_reset_sent(&mut self) {
        self.state = State::Ended;
    }

    /// The peer reads no more.
    pub(super) fn handle_stop(&mut self, code: u32) {
        if !self.is_ended() {
            self.stopped.get_or_insert(code);
            self.clear();
        }
    }

    /// The peer allows `bytes` more; false when that is more than it can have taken.
    pub(super) fn handle_credit(&mut self, bytes: u32) -> bool {
        let credit = self.credit.saturating_add(bytes as usize);
        self.credit = credit.min(STREAM_CREDIT);
        credit <= STREAM_CREDIT
    }

    /// Forgets what is not sent: nobody will hear it.
    pub(super) fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.pending = 0;
    }

    /// Whether there is something that may be sent now.
    pub(super) fn is_ready(&self) -> bool {
        match self.state {
            State::Open => self.pending > 0 && self.credit > 0,
            State::Finishing => self.pending == 0 || self.credit > 0,
            State::Ended | State::Resetting => false,
        }
    }

    /// Whether it goes before bulk: a keystroke or its echo, or the control stream.
    pub(super) fn is_quick(&self) -> bool {
        self.is_urgent || self.pending <= SMALL_MAX
    }

    /// Appends one `DATA` frame and, after the last byte, `FIN`. Returns the bytes of data.
    pub(super) fn encode(&mut self, stream: u32, out: &mut BytesMut) -> usize {
        let len = self.pending.min(self.credit).min(DATA_MAX);
        if len > 0 {
            put_data_header(out, stream, len);
            self.take(len, out);
            self.credit -= len;
        }
        if self.pending == 0 && self.state == State::Finishing {
            Frame::Fin { stream }.encode(out);
            self.state = State::Ended;
        }
        len
    }

    fn take(&mut self, len: usize, out: &mut BytesMut) {
        let mut rest = len;
        while let Some(chunk) = self.queue.front_mut().filter(|_| rest > 0) {
            let part = rest.min(chunk.len());
            out.extend_from_slice(chunk.get(..part).unwrap_or_default());
            chunk.advance(part);
            rest -= part;
            if chunk.is_empty() {
                self.queue.pop_front();
            }
        }
        self.pending -= len;
        if self.queue.is_empty() && self.queue.capacity() > KEPT_CHUNKS {
            self.queue = VecDeque::new();
        }
    }

    /// Whether a writer that was refused should try again; true once.
    pub(super) fn poll_room(&mut self) -> bool {
        self.is_wanted && !self.is_full() && std::mem::take(&mut self.is_wanted)
    }
}
