//! Exactly-once input: both ends count the bytes of one viewer's input stream.
//!
//! [`InputQueue`] is the viewer's end: it keeps what is not acknowledged and sends it again after a reconnect.
//! [`InputLedger`] is the host's end: it takes each byte once, whatever is sent twice.
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;

use bytes::Bytes;
use thiserror::Error;

use crate::limits::{DATA_FRAME_MAX, INPUT_WINDOW};

/// Input that the protocol forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// Bytes between the expected and the received are missing.
    #[error("input starts at {got}, expected at most {expected}")]
    Gap {
        /// What came.
        got: u64,
        /// What was expected.
        expected: u64,
    },
    /// More than the window is unacknowledged.
    #[error("more than {INPUT_WINDOW} bytes of input are unacknowledged")]
    Overrun,
    /// An acknowledgement for bytes never sent.
    #[error("input up to {got} acknowledged, sent only up to {sent}")]
    Unsent {
        /// What came.
        got: u64,
        /// What was sent.
        sent: u64,
    },
}

/// The host's account of one viewer's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputLedger {
    /// Next byte expected. Invariant: `written ≤ expected ≤ written + INPUT_WINDOW`.
    expected: u64,
    written: u64,
}

impl InputLedger {
    /// The ledger of a viewer never seen, whose first unacknowledged byte is `seq`.
    pub fn new(seq: u64) -> Self {
        Self { expected: seq, written: seq }
    }

    /// Takes a frame: the part of `bytes` that is new, to be written to the PTY.
    pub fn handle_input(&mut self, seq: u64, mut bytes: Bytes) -> Result<Bytes, LedgerError> {
        let seen =
            self.expected.checked_sub(seq).ok_or(LedgerError::Gap { got: seq, expected: self.expected })?;
        let new = bytes.split_off(usize::try_from(seen).unwrap_or(usize::MAX).min(bytes.len()));
        let expected = self.expected.checked_add(new.len() as u64).ok_or(LedgerError::Overrun)?;
        if expected - self.written > INPUT_WINDOW {
            return Err(LedgerError::Overrun);
        }
        self.expected = expected;
        Ok(new)
    }

    /// `len` bytes of what was taken are now in the PTY.
    pub fn handle_written(&mut self, len: usize) {
        self.written = (self.written + len as u64).min(self.expected);
    }

    /// What `InputAck.seq` and `Opened.input_seq` say: everything before it is in the PTY. A viewer that comes back sends again from here, so
    /// that both ends count the same bytes against the window; what was taken already is dropped.
    pub fn acknowledged(&self) -> u64 {
        self.written
    }

    /// Next byte that would be new: everything before it has been taken.
    pub fn expected(&self) -> u64 {
        self.expected
    }
}

/// The viewer's input: what is typed, what is sent, what is acknowledged.
#[derive(Debug)]
pub struct InputQueue {
    bytes: VecDeque<u8>,
    /// Sequence of the first byte kept. Invariant: `acknowledged ≤ sent ≤ highest_sent ≤ acknowledged + bytes.len()`.
    acknowledged: u64,
    /// Next byte to send on this stream.
    sent: u64,
    /// One past the last byte ever sent, on any stream: what the host may acknowledge.
    highest_sent: u64,
    max: usize,
}

impl InputQueue {
    /// An empty queue that holds at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { bytes: VecDeque::new(), acknowledged: 0, sent: 0, highest_sent: 0, max }
    }

    /// Queues typed bytes; returns how many were taken. Fewer than given means the queue is full: try again after an acknowledgement.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.max - self.bytes.len().min(self.max));
        self.bytes.extend(&bytes[..len]);
        len
    }

    /// The next `Input` frame to send, as long as the window allows one.
    pub fn poll_frame(&mut self) -> Option<(u64, Bytes)> {
        let skip = (self.sent - self.acknowledged) as usize;
        let room = (INPUT_WINDOW as usize).saturating_sub(skip);
        let len = (self.bytes.len() - skip).min(room).min(DATA_FRAME_MAX);
        if len == 0 {
            return None;
        }
        let frame: Vec<u8> = self.bytes.range(skip..skip + len).copied().collect();
        let seq = self.sent;
        self.sent += len as u64;
        self.highest_sent = self.highest_sent.max(self.sent);
        Some((seq, frame.into()))
    }

    /// The host has written everything before `seq`. It may be more than this stream carried: what an older stream brought is written meanwhile.
    pub fn handle_ack(&mut self, seq: u64) -> Result<(), LedgerError> {
        if seq > self.highest_sent {
            return Err(LedgerError::Unsent { got: seq, sent: self.highest_sent });
        }
        self.forget_before(seq);
        Ok(())
    }

    /// A new stream stands and the host has written everything before `seq`: everything from there is sent again.
    pub fn handle_opened(&mut self, seq: u64) -> Result<(), LedgerError> {
        self.handle_ack(seq)?;
        self.sent = self.acknowledged;
        Ok(())
    }

    /// First byte without acknowledgement: `Attach.input_seq`.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Bytes typed and not acknowledged.
    pub fn pending(&self) -> usize {
        self.bytes.len()
    }

    fn forget_before(&mut self, seq: u64) {
        let len = seq.saturating_sub(self.acknowledged).min(self.bytes.len() as u64);
        self.bytes.drain(..len as usize);
        self.acknowledged += len;
        self.sent = self.sent.max(self.acknowledged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ma_05_input_beyond_the_window_or_beyond_a_gap_is_refused() {
        let mut ledger = InputLedger::new(0);
        assert_eq!(
            ledger.handle_input(1, Bytes::from_static(b"x")),
            Err(LedgerError::Gap { got: 1, expected: 0 })
        );
        let window = Bytes::from(vec![0; INPUT_WINDOW as usize]);
        assert!(ledger.handle_input(0, window).is_ok());
        assert_eq!(ledger.handle_input(INPUT_WINDOW, Bytes::from_static(b"x")), Err(LedgerError::Overrun));
        let mut last = InputLedger::new(u64::MAX);
        assert_eq!(last.handle_input(u64::MAX, Bytes::from_static(b"x")), Err(LedgerError::Overrun));
    }

    #[test]
    fn what_an_older_stream_brought_may_be_acknowledged_on_a_newer_one_before_it_is_sent_again() {
        let mut queue = InputQueue::new(100);
        queue.push(b"0123456789");
        assert_eq!(queue.poll_frame(), Some((0, Bytes::from_static(b"0123456789"))));
        queue.handle_opened(3).unwrap();
        queue.handle_ack(7).unwrap();
        assert_eq!(queue.poll_frame(), Some((7, Bytes::from_static(b"789"))));
        queue.push(b"a");
        assert_eq!(queue.handle_ack(11), Err(LedgerError::Unsent { got: 11, sent: 10 }));
        assert_eq!(queue.handle_opened(11), Err(LedgerError::Unsent { got: 11, sent: 10 }));
    }

    proptest! {
        /// Frames and acknowledgements are lost with their stream; what the host writes is what was typed.
        #[test]
        fn every_byte_is_written_once_over_streams_that_die(
            typed in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..30),
            fates in prop::collection::vec((0u8..10, 0u8..10), 30..120),
        ) {
            let mut queue = InputQueue::new(1 << 20);
            let mut ledger = InputLedger::new(0);
            let (mut written, mut taken): (Vec<u8>, VecDeque<u8>) = (Vec::new(), VecDeque::new());
            let mut typing = typed.iter();
            for (frame_fate, ack_fate) in fates {
                if let Some(bytes) = typing.next() { queue.push(bytes); }
                match queue.poll_frame() {
                    Some((seq, bytes)) if frame_fate > 1 => taken.extend(ledger.handle_input(seq, bytes).unwrap()),
                    // The stream died with the frame; the next begins at what the host has written.
                    Some(_) => queue.handle_opened(ledger.acknowledged()).unwrap(),
                    None => {}
                }
                if frame_fate == 9 { queue.handle_opened(ledger.acknowledged()).unwrap(); }
                let step = taken.len().min(usize::from(ack_fate) * 40);
                written.extend(taken.drain(..step));
                ledger.handle_written(step);
                if ack_fate > 3 { queue.handle_ack(ledger.acknowledged()).unwrap(); }
                if ack_fate == 3 { queue.handle_opened(ledger.acknowledged()).unwrap(); }
            }
            for bytes in typing { queue.push(bytes); }
            while queue.pending() > 0 {
                while let Some((seq, bytes)) = queue.poll_frame() { taken.extend(ledger.handle_input(seq, bytes).unwrap()); }
                ledger.handle_written(taken.len());
                written.extend(taken.drain(..));
                queue.handle_ack(ledger.acknowledged()).unwrap();
            }
            prop_assert_eq!(written, typed.concat());
        }
    }
}
