//! Pacing: how much each viewer may be sent, and whether the PTY may be read.
//!
//! Every viewer has a window of bytes that it has been sent and has not acknowledged: output as parsed, snapshots as received. It is as large as the
//! viewer's path has use for, at most [`OUTPUT_WINDOW`](crate::limits::OUTPUT_WINDOW) ([`delivery`]). The PTY is read as long as
//! the holder of the writer lease (or, without one that counts, the fastest viewer) keeps up; a viewer that owes an acknowledgement for [`VIEWER_SILENT`]
//! stops counting, and with none counting the PTY runs free: a sleeping laptop never stops a build.
#![deny(clippy::disallowed_methods)]

mod delivery;

use std::collections::BTreeMap;
use std::time::Instant;

use thiserror::Error;
use uuid::Uuid;

use self::delivery::Delivery;
use crate::limits::VIEWER_SILENT;

/// An acknowledgement of something that was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("bytes up to {got} acknowledged, sent only up to {sent}")]
pub struct AckError {
    /// What came.
    pub got: u64,
    /// What was sent.
    pub sent: u64,
}

/// Bytes of one kind on their way. Invariant: `acknowledged ≤ sent`.
#[derive(Debug, Clone, Copy)]
struct Flight {
    acknowledged: u64,
    sent: u64,
}

impl Flight {
    fn at(offset: u64) -> Self {
        Self { acknowledged: offset, sent: offset }
    }

    fn len(&self) -> u64 {
        self.sent - self.acknowledged
    }

    /// Returns whether it moved; an old acknowledgement changes nothing.
    fn handle_ack(&mut self, offset: u64) -> Result<bool, AckError> {
        if offset > self.sent {
            return Err(AckError { got: offset, sent: self.sent });
        }
        let moved = offset > self.acknowledged;
        self.acknowledged = self.acknowledged.max(offset);
        Ok(moved)
    }
}

#[derive(Debug)]
struct Window {
    output: Flight,
    /// Snapshot data, counted over the life of the stream.
    picture: Flight,
    /// Since when it owes an acknowledgement without giving one. Invariant: some, exactly when something is in flight.
    owing: Option<Instant>,
    delivery: Delivery,
}

impl Window {
    fn in_flight(&self) -> u64 {
        self.output.len() + self.picture.len()
    }

    /// Before something is sent.
    fn owe(&mut self, now: Instant) {
        if self.in_flight() == 0 {
            self.owing = Some(now);
        }
    }

    /// After an acknowledgement that moved something.
    fn hear(&mut self, now: Instant) {
        self.owing = (self.in_flight() > 0).then_some(now);
    }
}

/// The windows of one session's viewers.
#[derive(Debug, Default)]
pub struct Pacer {
    viewers: BTreeMap<Uuid, Window>,
}

impl Pacer {
    /// A viewer begins a stream at `offset`; nothing is in flight to it.
    pub fn handle_attached(&mut self, viewer: Uuid, offset: u64) {
        let window = Window {
            output: Flight::at(offset),
            picture: Flight::at(0),
            owing: None,
            delivery: Delivery::default(),
        };
        self.viewers.insert(viewer, window);
    }

    /// A snapshot brings an attached viewer to `offset`. Nothing should be in flight to it ([`Self::is_idle`]): what was would be forgotten, not
    /// gone from the buffers on the way.
    pub fn handle_moved(&mut self, viewer: Uuid, offset: u64, now: Instant) {
        if let Some(window) = self.viewers.get_mut(&viewer) {
            window.output = Flight::at(offset);
            window.delivery.handle_moved();
            window.hear(now);
        }
    }

    /// A viewer left.
    pub fn handle_left(&mut self, viewer: Uuid) {
        self.viewers.remove(&viewer);
    }

    /// Whether the viewer has acknowledged all it was sent.
    pub fn is_idle(&self, viewer: Uuid) -> bool {
        self.viewers.get(&viewer).is_some_and(|window| window.in_flight() == 0)
    }

    /// Bytes that may be sent to the viewer now, of output and snapshot together.
    pub fn budget(&self, viewer: Uuid) -> u64 {
        self.viewers
            .get(&viewer)
            .map_or(0, |window| window.delivery.window().saturating_sub(window.in_flight()))
    }

    /// Since when the viewer owes an acknowledgement without giving one.
    pub fn owing_since(&self, viewer: Uuid) -> Option<Instant> {
        self.viewers.get(&viewer).and_then(|window| window.owing)
    }

    /// Next byte of output to send to the viewer.
    pub fn next_offset(&self, viewer: Uuid) -> Option<u64> {
        self.viewers.get(&viewer).map(|window| window.output.sent)
    }

    /// `len` bytes of output were handed to the viewer's stream.
    pub fn handle_sent(&mut self, viewer: Uuid, len: u64, now: Instant) {
        if let Some(window) = self.viewers.get_mut(&viewer).filter(|_| len > 0) {
            window.owe(now);
            window.output.sent += len;
            window.delivery.handle_sent(window.output.sent, window.output.acknowledged, now);
        }
    }

    /// `len` bytes of a snapshot were handed to the viewer's stream.
    pub fn handle_picture_sent(&mut self, viewer: Uuid, len: u64, now: Instant) {
        if let Some(window) = self.viewers.get_mut(&viewer).filter(|_| len > 0) {
            window.owe(now);
            window.picture.sent += len;
        }
    }

    /// The viewer's terminal has parsed everything before `offset`.
    pub fn handle_ack(&mut self, viewer: Uuid, offset: u64, now: Instant) -> Result<(), AckError> {
        self.acknowledge(viewer, now, |window| {
            let moved = window.output.handle_ack(offset)?;
            window.delivery.handle_ack(window.output.acknowledged, now);
            Ok(moved)
        })
    }

    /// The viewer has received the first `bytes` bytes of snapshot data of its stream.
    pub fn handle_picture_ack(&mut self, viewer: Uuid, bytes: u64, now: Instant) -> Result<(), AckError> {
        self.acknowledge(viewer, now, |window| window.picture.handle_ack(bytes))
    }

    /// The viewer, which acknowledges no snapshots, has been written all of what it was sent.
    pub fn handle_picture_written(&mut self, viewer: Uuid, now: Instant) {
        // What was sent is never too much to acknowledge.
        let _ = self.acknowledge(viewer, now, |window| window.picture.handle_ack(window.picture.sent));
    }

    fn acknowledge(
        &mut self,
        viewer: Uuid,
        now: Instant,
        ack: impl FnOnce(&mut Window) -> Result<bool, AckError>,
    ) -> Result<(), AckError> {
        let Some(window) = self.viewers.get_mut(&viewer) else { return Ok(()) };
        if ack(window)? {
            window.hear(now);
        }
        Ok(())
    }

    /// Whether the PTY may be read when the log stands at `head` and `holder` has the lease.
    pub fn should_read(&self, head: u64, holder: Option<Uuid>, now: Instant) -> bool {
        self.gate(holder, now).is_none_or(|until| head < until)
    }

    /// When [`Self::should_read`] may change by time alone.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.viewers.values().filter_map(|window| window.owing).min().map(|since| since + VIEWER_SILENT)
    }

    /// The offset up to which the PTY may be read; none is no limit.
    fn gate(&self, holder: Option<Uuid>, now: Instant) -> Option<u64> {
        let counts = |window: &&Window| {
            window.owing.is_none_or(|since| now.saturating_duration_since(since) < VIEWER_SILENT)
        };
        let until = |window: &Window| window.output.acknowledged + window.delivery.window();
        let held = holder.and_then(|holder| self.viewers.get(&holder)).filter(counts);
        held.map(until).or_else(|| self.viewers.values().filter(counts).map(until).max())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has a clock")]
mod tests {
    use super::delivery::WINDOW_FIRST as FIRST;
    use super::*;
    use crate::limits::OUTPUT_WINDOW;
    use std::time::Duration;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    #[test]
    fn the_pty_waits_for_the_lease_holder_and_for_nobody_slower() {
        let now = Instant::now();
        let mut pacer = Pacer::default();
        assert!(pacer.should_read(u64::MAX, None, now), "without viewers it runs free");
        pacer.handle_attached(A, 0);
        pacer.handle_attached(B, 0);
        pacer.handle_sent(A, FIRST, now);
        pacer.handle_sent(B, FIRST, now);
        assert_eq!(pacer.budget(A), 0);
        assert!(!pacer.should_read(FIRST, Some(A), now));
        pacer.handle_ack(A, 10, now).unwrap();
        assert!(pacer.should_read(FIRST, Some(A), now));
        assert!(pacer.should_read(FIRST, None, now), "the fastest counts when nobody holds the lease");
        assert!(!pacer.should_read(FIRST, Some(B), now));
    }

    #[test]
    fn a_viewer_silent_for_two_seconds_stops_holding_the_pty_back() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        pacer.handle_attached(A, 0);
        pacer.handle_sent(A, FIRST, start);
        assert!(!pacer.should_read(FIRST, Some(A), start));
        assert_eq!(pacer.poll_timeout(), Some(start + VIEWER_SILENT));
        assert!(pacer.should_read(FIRST, Some(A), start + VIEWER_SILENT));
        let later = start + Duration::from_secs(5);
        pacer.handle_ack(A, 1, later).unwrap();
        assert!(!pacer.should_read(FIRST + 1, Some(A), later), "it counts again once it speaks");
    }

    #[test]
    fn ma_05_an_acknowledgement_of_unsent_output_is_an_error() {
        let now = Instant::now();
        let mut pacer = Pacer::default();
        pacer.handle_attached(A, 100);
        assert_eq!(pacer.handle_ack(A, 101, now), Err(AckError { got: 101, sent: 100 }));
        assert_eq!(pacer.handle_ack(A, 50, now), Ok(()), "an old acknowledgement changes nothing");
        assert_eq!(pacer.budget(A), FIRST);
    }

    #[test]
    fn a_caught_up_viewer_that_was_idle_for_long_still_holds_the_pty() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        pacer.handle_attached(A, 0);
        pacer.handle_moved(A, 1_000, start);
        pacer.handle_picture_sent(A, 500, start);
        pacer.handle_picture_ack(A, 500, start).unwrap();
        pacer.handle_sent(A, 0, start);
        let later = start + Duration::from_secs(3);
        pacer.handle_sent(A, FIRST, later);
        assert!(!pacer.should_read(1_000 + FIRST, Some(A), later), "it owes since now, not since then");
        pacer.handle_ack(A, 1_000 + FIRST, later).unwrap();
        let much_later = later + Duration::from_secs(3);
        // Acknowledged at once: the path is as fast as can be, and has the whole window.
        pacer.handle_sent(A, OUTPUT_WINDOW, much_later);
        assert!(!pacer.should_read(1_000 + FIRST + OUTPUT_WINDOW, Some(A), much_later));
    }

    #[test]
    fn a_snapshot_and_the_output_after_it_share_one_window() {
        let now = Instant::now();
        let mut pacer = Pacer::default();
        pacer.handle_attached(A, 0);
        pacer.handle_picture_sent(A, FIRST - 10, now);
        assert_eq!(pacer.budget(A), 10);
        pacer.handle_sent(A, 10, now);
        assert_eq!(pacer.budget(A), 0);
        assert!(pacer.handle_picture_ack(A, FIRST, now).is_err());
        pacer.handle_picture_ack(A, 100, now).unwrap();
        assert_eq!(pacer.budget(A), 100);
        pacer.handle_picture_written(A, now);
        assert_eq!(pacer.budget(A), FIRST - 10);
    }

    #[test]
    fn a_viewer_that_takes_no_picture_does_not_hold_the_pty_for_ever() {
        let now = Instant::now();
        let mut pacer = Pacer::default();
        pacer.handle_attached(A, 0);
        pacer.handle_picture_sent(A, 100, now);
        assert!(!pacer.should_read(FIRST, Some(A), now));
        assert!(pacer.should_read(FIRST, Some(A), now + VIEWER_SILENT));
    }
}
