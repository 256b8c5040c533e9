//! Pacing: how much output each viewer may be sent, and whether the PTY may be read.
//!
//! Every viewer has a window of output that it has been sent and has not acknowledged as parsed. The PTY is read as long as the holder of the writer lease
//! (or, without one that counts, the fastest viewer) keeps up; a viewer that owes an acknowledgement for [`VIEWER_SILENT`] stops counting, and with none
//! counting the PTY runs free: a sleeping laptop never stops a build.
#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Instant;

use thiserror::Error;
use uuid::Uuid;

use crate::limits::{OUTPUT_WINDOW, VIEWER_SILENT};

/// An acknowledgement of output that was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("output up to {got} acknowledged, sent only up to {sent}")]
pub struct AckError {
    /// What came.
    pub got: u64,
    /// What was sent.
    pub sent: u64,
}

#[derive(Debug)]
struct Window {
    /// Invariant: `acknowledged ≤ sent ≤ acknowledged + OUTPUT_WINDOW`.
    acknowledged: u64,
    sent: u64,
    /// Since when it owes an acknowledgement without giving one.
    owing: Option<Instant>,
}

/// The windows of one session's viewers.
#[derive(Debug, Default)]
pub struct Pacer {
    viewers: BTreeMap<Uuid, Window>,
}

impl Pacer {
    /// A viewer continues at `offset`: it attached, or a snapshot brought it there.
    pub fn handle_attached(&mut self, viewer: Uuid, offset: u64) {
        self.viewers.insert(viewer, Window { acknowledged: offset, sent: offset, owing: None });
    }

    /// A viewer left.
    pub fn handle_left(&mut self, viewer: Uuid) {
        self.viewers.remove(&viewer);
    }

    /// Bytes that may be sent to the viewer now.
    pub fn budget(&self, viewer: Uuid) -> u64 {
        self.viewers
            .get(&viewer)
            .map_or(0, |window| OUTPUT_WINDOW - (window.sent - window.acknowledged).min(OUTPUT_WINDOW))
    }

    /// Next byte to send to the viewer.
    pub fn next_offset(&self, viewer: Uuid) -> Option<u64> {
        self.viewers.get(&viewer).map(|window| window.sent)
    }

    /// `len` bytes were handed to the viewer's stream.
    pub fn handle_sent(&mut self, viewer: Uuid, len: u64, now: Instant) {
        if let Some(window) = self.viewers.get_mut(&viewer) {
            window.sent += len;
            window.owing.get_or_insert(now);
        }
    }

    /// The viewer's terminal has parsed everything before `offset`.
    pub fn handle_ack(&mut self, viewer: Uuid, offset: u64, now: Instant) -> Result<(), AckError> {
        let Some(window) = self.viewers.get_mut(&viewer) else { return Ok(()) };
        if offset > window.sent {
            return Err(AckError { got: offset, sent: window.sent });
        }
        if offset > window.acknowledged {
            window.acknowledged = offset;
            window.owing = (offset < window.sent).then_some(now);
        }
        Ok(())
    }

    /// Whether the PTY may be read when the log stands at `head` and `holder` has the lease.
    pub fn should_read(&self, head: u64, holder: Option<Uuid>, now: Instant) -> bool {
        self.gate(holder, now).is_none_or(|acknowledged| head.saturating_sub(acknowledged) < OUTPUT_WINDOW)
    }

    /// When [`Self::should_read`] may change by time alone.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.viewers.values().filter_map(|window| window.owing).min().map(|since| since + VIEWER_SILENT)
    }

    fn gate(&self, holder: Option<Uuid>, now: Instant) -> Option<u64> {
        let counts = |window: &&Window| {
            window.owing.is_none_or(|since| now.saturating_duration_since(since) < VIEWER_SILENT)
        };
        let held = holder.and_then(|holder| self.viewers.get(&holder)).filter(counts);
        held.map(|window| window.acknowledged)
            .or_else(|| self.viewers.values().filter(counts).map(|window| window.acknowledged).max())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has a clock")]
mod tests {
    use super::*;
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
        pacer.handle_sent(A, OUTPUT_WINDOW, now);
        pacer.handle_sent(B, OUTPUT_WINDOW, now);
        assert_eq!(pacer.budget(A), 0);
        assert!(!pacer.should_read(OUTPUT_WINDOW, Some(A), now));
        pacer.handle_ack(A, 10, now).unwrap();
        assert!(pacer.should_read(OUTPUT_WINDOW, Some(A), now));
        assert!(
            pacer.should_read(OUTPUT_WINDOW, None, now),
            "the fastest counts when nobody holds the lease"
        );
        assert!(!pacer.should_read(OUTPUT_WINDOW, Some(B), now));
    }

    #[test]
    fn a_viewer_silent_for_two_seconds_stops_holding_the_pty_back() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        pacer.handle_attached(A, 0);
        pacer.handle_sent(A, OUTPUT_WINDOW, start);
        assert!(!pacer.should_read(OUTPUT_WINDOW, Some(A), start));
        assert_eq!(pacer.poll_timeout(), Some(start + VIEWER_SILENT));
        assert!(pacer.should_read(OUTPUT_WINDOW, Some(A), start + VIEWER_SILENT));
        let later = start + Duration::from_secs(5);
        pacer.handle_ack(A, 1, later).unwrap();
        assert!(!pacer.should_read(OUTPUT_WINDOW + 1, Some(A), later), "it counts again once it speaks");
    }

    #[test]
    fn ma_05_an_acknowledgement_of_unsent_output_is_an_error() {
        let now = Instant::now();
        let mut pacer = Pacer::default();
        pacer.handle_attached(A, 100);
        assert_eq!(pacer.handle_ack(A, 101, now), Err(AckError { got: 101, sent: 100 }));
        assert_eq!(pacer.handle_ack(A, 50, now), Ok(()), "an old acknowledgement changes nothing");
        assert_eq!(pacer.budget(A), OUTPUT_WINDOW);
    }
}
