//! The peer's half of a stream: what has arrived and the application has not read.
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{CREDIT_FIRST, CREDIT_POOL, STREAM_CREDIT};

/// The part of its window that the application has read when the peer is granted as much again: it never runs dry while its stream is read,
/// and 16 KiB frames are credited four at a time.
const GRANT_PART: usize = 4;
/// Small pieces that pile up unread share blocks of this size, so that one-byte frames cost a byte and not an allocation each.
const BLOCK: usize = 4 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The peer has finished; what is buffered is the rest.
    Finished,
    /// The peer has abandoned it.
    Reset(u32),
    /// We read no more; the peer's end is still to come, and what comes before it is discarded.
    Stopped,
    /// We read no more and nothing more comes.
    Gone,
}

/// What a read finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Bytes, in order.
    Bytes(Bytes),
    /// Nothing yet.
    Empty,
    /// Everything the peer wrote was read.
    Finished,
    /// The peer abandoned it with this code.
    Reset(u32),
    /// We stopped reading it earlier.
    Stopped,
}

/// Why a frame for this half is against the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecvError {
    /// More data than was granted.
    OverCredit,
    /// Something after the half's end.
    AfterEnd,
}

/// Credit beyond [`CREDIT_FIRST`] that may still be granted, over all streams.
///
/// Invariant: with what the streams have of it, it is [`CREDIT_POOL`].
#[derive(Debug)]
pub(super) struct Pool(pub(super) usize);

impl Default for Pool {
    fn default() -> Self {
        Self(CREDIT_POOL)
    }
}

/// Invariant: `buffered + taken + granted = window` while `Open`, and `CREDIT_FIRST ≤ window ≤ STREAM_CREDIT`.
#[derive(Debug)]
pub(super) struct RecvHalf {
    state: State,
    chunks: VecDeque<BytesMut>,
    buffered: usize,
    /// What may be on its way and unread. Beyond [`CREDIT_FIRST`] it is the pool's, which gets it back when the half is over.
    window: usize,
    /// The window was never sized.
    is_fresh: bool,
    /// Bytes the peer may still send.
    granted: usize,
    /// Bytes read and not yet granted again.
    taken: usize,
    /// The application has let go of it.
    pub(super) is_released: bool,
}

impl RecvHalf {
    /// A bulky one is granted a whole window before anything has come.
    pub(super) fn new(is_bulky: bool) -> Self {
        Self {
            state: State::Open,
            chunks: VecDeque::new(),
            buffered: 0,
            window: CREDIT_FIRST,
            is_fresh: is_bulky,
            granted: CREDIT_FIRST,
            taken: 0,
            is_released: false,
        }
    }

    /// Whether the peer has told its end.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Finished | State::Reset(_) | State::Gone)
    }

    /// Takes data; true when a reader that found nothing should look again.
    pub(super) fn handle_data(&mut self, bytes: &[u8]) -> Result<bool, RecvError> {
        if self.is_ended() {
            return Err(RecvError::AfterEnd);
        }
        self.granted = self.granted.checked_sub(bytes.len()).ok_or(RecvError::OverCredit)?;
        if self.state == State::Stopped {
            return Ok(false);
        }
        let was_empty = self.buffered == 0;
        self.buffered += bytes.len();
        self.store(bytes);
        Ok(was_empty)
    }

    fn store(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let behind = !self.chunks.is_empty();
        if let Some(last) = self.chunks.back_mut() {
            let (fitting, after) = rest.split_at(rest.len().min(last.capacity() - last.len()));
            last.extend_from_slice(fitting);
            rest = after;
        }
        if !rest.is_empty() {
            // What is read at once is exact; a reader that lags gets blocks.
            let mut chunk = BytesMut::with_capacity(if behind { rest.len().max(BLOCK) } else { rest.len() });
            chunk.extend_from_slice(rest);
            self.chunks.push_back(chunk);
        }
    }

    /// The peer's half ends here.
    pub(super) fn handle_fin(&mut self) -> Result<(), RecvError> {
        self.state = match self.state {
            State::Open => State::Finished,
            State::Stopped => State::Gone,
            State::Finished | State::Reset(_) | State::Gone => return Err(RecvError::AfterEnd),
        };
        Ok(())
    }

    /// The peer abandons its half; what was not read is gone, as with QUIC.
    pub(super) fn handle_reset(&mut self, code: u32) -> Result<(), RecvError> {
        self.state = match self.state {
            State::Open => State::Reset(code),
            State::Stopped => State::Gone,
            State::Finished | State::Reset(_) | State::Gone => return Err(RecvError::AfterEnd),
        };
        self.clear();
        Ok(())
    }

    /// The application reads no more; true when the peer is to be told.
    pub(super) fn stop(&mut self) -> bool {
        self.clear();
        let (next, tell) = match self.state {
            State::Open => (State::Stopped, true),
            State::Stopped => (State::Stopped, false),
            State::Finished | State::Reset(_) | State::Gone => (State::Gone, false),
        };
        self.state = next;
        tell
    }

    fn clear(&mut self) {
        self.chunks = VecDeque::new();
        self.buffered = 0;
    }

    /// The next bytes, at most `max`.
    pub(super) fn read(&mut self, max: usize) -> Read {
        if let Some(bytes) = self.take(max) {
            self.buffered -= bytes.len();
            self.taken += bytes.len();
            return Read::Bytes(bytes);
        }
        match self.state {
            State::Open => Read::Empty,
            State::Finished => Read::Finished,
            State::Reset(code) => Read::Reset(code),
            State::Stopped | State::Gone => Read::Stopped,
        }
    }

    fn take(&mut self, max: usize) -> Option<Bytes> {
        let front = self.chunks.front_mut()?;
        if front.len() > max {
            return Some(front.split_to(max).freeze());
        }
        let chunk = self.chunks.pop_front()?;
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
        Some(chunk.freeze())
    }

    /// Whether a `CREDIT` is worth sending.
    pub(super) fn is_credit_due(&self) -> bool {
        self.state == State::Open && (self.is_fresh || self.taken >= self.window / GRANT_PART)
    }

    /// The credit to send now, bytes, where so many streams share the pool; zero when none is due any more.
    ///
    /// The window grows to the stream's share at once. It shrinks as it is read: what was granted stays granted.
    pub(super) fn grant(&mut self, pool: &mut Pool, streams: usize) -> u32 {
        if !self.is_credit_due() {
            return 0;
        }
        self.is_fresh = false;
        let share = CREDIT_FIRST + (CREDIT_POOL / streams.max(1)).min(STREAM_CREDIT - CREDIT_FIRST);
        let (least, most) = (self.window - self.taken.min(self.window), self.window + pool.0);
        let window = share.clamp(least.max(CREDIT_FIRST), most);
        pool.0 = most - window;
        // Never negative: the window shrinks by no more than was taken.
        let credit = window + self.taken - self.window;
        (self.window, self.taken) = (window, 0);
        self.granted += credit;
        // At most STREAM_CREDIT, by the invariant.
        credit as u32
    }

    /// Gives the pool back what a half has no more use for: nothing can be buffered any more.
    pub(super) fn leave(&mut self, pool: &mut Pool) {
        if self.state != State::Open && self.buffered == 0 {
            pool.0 += std::mem::replace(&mut self.window, CREDIT_FIRST) - CREDIT_FIRST;
        }
    }

    /// What the stream has of the pool.
    #[cfg(test)]
    pub(super) fn pooled(&self) -> usize {
        self.window - CREDIT_FIRST
    }

    /// Bytes held for the application.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.chunks.iter().map(BytesMut::capacity).sum()
    }
}
