//! How much may usefully be in flight to one viewer: what its path delivers in about one and a half round trips, and no more.
//!
//! Bytes beyond that only wait in queues on the way, and whatever is typed meanwhile waits behind them: on a path that carries 0.6 MB/s, 256 KiB are
//! half a second between `^C` and the prompt. The estimate is BBR's (delivery rate over a round trip, smallest round trip), made of the acknowledgements
//! that pacing has anyway.
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::OUTPUT_WINDOW;

/// Least window, bytes: a dozen packets, so that a path's rate can be seen at all.
const WINDOW_MIN: u64 = 16 * 1024;
/// Window before anything is known, bytes.
pub(super) const WINDOW_FIRST: u64 = 64 * 1024;
/// Least time's worth of output kept in flight beyond one round trip: a viewer that parses in steps does not run dry. Else it is half a round trip:
/// with a whole one more waits before the prompt after `^C`, with a quarter bulk output halved (docs/TRANSPORT.md).
const SLACK_MIN: Duration = Duration::from_millis(10);
/// Most that a viewer's own steps add to it. A browser acknowledges what its terminal has parsed, between two frames: without this the window shrinks to
/// what fits into a round trip of the path, and bulk output to a window a frame.
const STEP_MAX: Duration = Duration::from_millis(100);
/// A smallest round trip is believed for between one and two of these: paths change.
const ROUND_TRIP_AGE: Duration = Duration::from_secs(10);
/// Rates remembered; the best of them counts, so that one slow moment does not shrink the window.
const RATES: usize = 8;
/// Sendings remembered until they are acknowledged. Between two of them nothing is measured.
const MARKS: usize = 64;

/// A moment of sending.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Offset after it.
    sent: u64,
    /// What had been acknowledged then.
    acknowledged: u64,
    at: Instant,
    /// Whether the window was full after it: only then does the rate say what the path can carry.
    full: bool,
}

/// What is known of the path to one viewer.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    marks: VecDeque<Mark>,
    /// Bytes a second.
    rates: VecDeque<f64>,
    /// Smallest round trips of the current age and the one before.
    round_trips: [Option<Duration>; 2],
    age_ends: Option<Instant>,
    last_ack: Option<Instant>,
    /// How long nothing was heard while the window was full, smoothed.
    silence: Duration,
}

impl Delivery {
    /// Bytes that may be in flight.
    pub(super) fn window(&self) -> u64 {
        let Some((rate, round_trip)) = self.best_rate().zip(self.round_trip()) else { return WINDOW_FIRST };
        let step = self.silence.saturating_sub(round_trip).min(STEP_MAX);
        let worth = rate * (round_trip + (round_trip / 2).max(SLACK_MIN) + step).as_secs_f64();
        // A float as large as that saturates.
        (worth as u64).clamp(WINDOW_MIN, OUTPUT_WINDOW)
    }

    /// Something was sent: the stream stands at `sent`, and is acknowledged up to `acknowledged`.
    pub(super) fn handle_sent(&mut self, sent: u64, acknowledged: u64, now: Instant) {
        if self.marks.len() < MARKS {
            let full = sent.saturating_sub(acknowledged) >= self.window();
            self.marks.push_back(Mark { sent, acknowledged, at: now, full });
        }
    }

    /// Everything before `acknowledged` has arrived.
    pub(super) fn handle_ack(&mut self, acknowledged: u64, now: Instant) {
        let mut newest = None;
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.sent <= acknowledged) {
            newest = Some(mark);
        }
        let Some(mark) = newest else { return };
        let took = now.saturating_duration_since(mark.at).max(Duration::from_micros(1));
        self.learn_round_trip(took, now);
        let since = self.last_ack.replace(now).map_or(mark.at, |last| last.max(mark.at));
        if mark.full {
            let silence = now.saturating_duration_since(since);
            self.silence = (self.silence * 3 + silence) / 4;
        }
        let rate = acknowledged.saturating_sub(mark.acknowledged) as f64 / took.as_secs_f64();
        if mark.full || self.best_rate().is_some_and(|best| rate > best) {
            if self.rates.len() == RATES {
                self.rates.pop_front();
            }
            self.rates.push_back(rate);
        }
    }

    /// The stream stands elsewhere; what is known of the path stays.
    pub(super) fn handle_moved(&mut self) {
        self.marks.clear();
    }

    fn learn_round_trip(&mut self, took: Duration, now: Instant) {
        if self.age_ends.is_none_or(|end| now >= end) {
            self.age_ends = Some(now + ROUND_TRIP_AGE);
            self.round_trips = [None, self.round_trips[0]];
        }
        let smallest = &mut self.round_trips[0];
        *smallest = Some(smallest.map_or(took, |smallest| smallest.min(took)));
    }

    fn round_trip(&self) -> Option<Duration> {
        self.round_trips.iter().flatten().min().copied()
    }

    fn best_rate(&self) -> Option<f64> {
        self.rates.iter().copied().max_by(f64::total_cmp)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has a clock")]
mod tests {
    use super::*;

    /// Sends as much as the window lets over a path with this rate and round trip for a while; returns the window at the end.
    fn flood(
        delivery: &mut Delivery,
        rate: f64,
        round_trip: Duration,
        from: (u64, Instant),
    ) -> (u64, Instant) {
        let (mut sent, mut now) = from;
        let mut acknowledged = sent;
        let mut free = now;
        let mut acks: VecDeque<(Instant, u64)> = VecDeque::new();
        let end = now + Duration::from_secs(5);
        while now < end {
            while sent - acknowledged < delivery.window() {
                let len = (delivery.window() - (sent - acknowledged)).min(8 * 1024);
                sent += len;
                delivery.handle_sent(sent, acknowledged, now);
                free = free.max(now) + Duration::from_secs_f64(len as f64 / rate);
                acks.push_back((free + round_trip, sent));
            }
            let Some((at, offset)) = acks.pop_front() else { break };
            (now, acknowledged) = (at, offset);
            delivery.handle_ack(acknowledged, now);
        }
        (sent, now)
    }

    #[test]
    fn a_slow_path_has_one_and_a_half_round_trips_in_flight_and_a_fast_one_the_whole_window() {
        let start = Instant::now();
        let mut slow = Delivery::default();
        flood(&mut slow, 600e3, Duration::from_millis(30), (0, start));
        let worth = (600e3 * 0.045) as u64;
        assert!((worth * 9 / 10..worth * 2).contains(&slow.window()), "{}", slow.window());
        let mut fast = Delivery::default();
        flood(&mut fast, 1e9, Duration::from_millis(30), (0, start));
        assert_eq!(fast.window(), OUTPUT_WINDOW);
    }

    #[test]
    fn a_viewer_that_acknowledges_once_a_frame_is_not_starved() {
        let (frame, round_trip) = (Duration::from_millis(60), Duration::from_millis(1));
        let (mut delivery, start) = (Delivery::default(), Instant::now());
        // What is known of the path was learnt while nothing was printed.
        for key in 1..50 {
            delivery.handle_sent(key, key - 1, start);
            delivery.handle_ack(key, start + round_trip);
        }
        let (mut sent, mut now) = (49, start);
        for _ in 0..40 {
            let acknowledged = sent;
            while sent - acknowledged < delivery.window() {
                sent += (delivery.window() - (sent - acknowledged)).min(8 * 1024);
                delivery.handle_sent(sent, acknowledged, now);
            }
            now += frame;
            delivery.handle_ack(sent, now);
        }
        assert_eq!(delivery.window(), OUTPUT_WINDOW);
    }

    #[test]
    fn a_path_that_became_longer_gets_its_window_back() {
        let mut delivery = Delivery::default();
        let mut at = flood(&mut delivery, 20e6, Duration::from_millis(1), (0, Instant::now()));
        for _ in 0..6 {
            at = flood(&mut delivery, 20e6, Duration::from_millis(100), at);
        }
        assert_eq!(delivery.window(), OUTPUT_WINDOW);
    }

    #[test]
    fn a_few_keystrokes_say_nothing_about_the_rate() {
        let (mut delivery, now) = (Delivery::default(), Instant::now());
        for key in 1..50 {
            delivery.handle_sent(key, key - 1, now);
            delivery.handle_ack(key, now + Duration::from_millis(30));
        }
        assert_eq!(delivery.window(), WINDOW_FIRST);
        assert_eq!(delivery.round_trip(), Some(Duration::from_millis(30)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut delivery, now) = (Delivery::default(), Instant::now());
        (1..10_000).for_each(|byte| delivery.handle_sent(byte, 0, now));
        assert_eq!(delivery.marks.len(), MARKS);
        delivery.handle_ack(10_000, now);
        assert!(delivery.marks.is_empty());
    }
}
