//! One stream: its two halves, and what the peer is still to be told of it.
#![deny(clippy::disallowed_methods)]

use bytes::BytesMut;

use super::recv::{Pool, RecvHalf};
use super::send::SendHalf;
use super::wire::Frame;

/// Short frames that are due. Each is due once however often it was caused, so the peer can make nothing pile up here.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) open: bool,
    pub(super) reset: Option<u32>,
    pub(super) stop: Option<u32>,
    pub(super) credit: bool,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
    pub(super) due: Due,
    /// Stands in the line of streams with short frames due.
    pub(super) is_signalling: bool,
    /// Stands in the line of streams with data to send.
    pub(super) is_scheduled: bool,
    /// The application has it. Before that our half is left open, so that the peer counts it as open, too.
    pub(super) is_accepted: bool,
    /// Counts against its opener's limit.
    pub(super) is_counted: bool,
}

impl Stream {
    /// A stream just opened, by us or by the peer.
    pub(super) fn new(is_ours: bool, is_control: bool) -> Self {
        Self {
            send: SendHalf::new(is_control),
            recv: RecvHalf::new(!is_control),
            due: Due { open: is_ours, ..Due::default() },
            is_signalling: false,
            is_scheduled: false,
            is_accepted: is_ours,
            is_counted: true,
        }
    }

    /// Both ends have told each other the end of their half.
    pub(super) fn is_over(&self) -> bool {
        self.send.is_ended() && self.recv.is_ended()
    }

    /// The application holds neither half.
    pub(super) fn is_released(&self) -> bool {
        self.send.is_released && self.recv.is_released
    }

    /// Abandons our half, once.
    pub(super) fn reset(&mut self, code: u32) {
        if self.send.reset() {
            self.due.reset = Some(code);
        }
    }

    /// Abandons our half because the peer reads no more of it.
    pub(super) fn obey_stop(&mut self) {
        if let Some(code) = self.send.stopped().filter(|_| self.is_accepted) {
            self.reset(code);
        }
    }

    /// Reads no more of the peer's half.
    pub(super) fn stop(&mut self, code: u32) {
        if self.recv.stop() {
            self.due.stop = Some(code);
        }
    }

    /// Appends the short frames that are due; credit is granted from the pool that so many streams share.
    pub(super) fn encode_due(&mut self, stream: u32, out: &mut BytesMut, pool: &mut Pool, streams: usize) {
        let Due { open, reset, stop, credit } = std::mem::take(&mut self.due);
        if open {
            Frame::Open { stream }.encode(out);
        }
        if let Some(code) = reset {
            Frame::Reset { stream, code }.encode(out);
            self.send.handle_reset_sent();
        }
        if let Some(code) = stop.filter(|_| !self.recv.is_ended()) {
            Frame::Stop { stream, code }.encode(out);
        }
        let bytes = if credit { self.recv.grant(pool, streams) } else { 0 };
        if bytes > 0 {
            Frame::Credit { stream, bytes }.encode(out);
        }
    }
}
