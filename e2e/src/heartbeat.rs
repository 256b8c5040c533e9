//! Is the path of a viewer alive? The rules of the web app's viewer, with its limits (`web/src/lib/protocol/heartbeat.ts`, `limits.ts`):
//! it pings, anything received is life, and one that is told that its network changed pings at once and is less patient.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

/// Between two pings.
const PING_EVERY: Duration = Duration::from_secs(1);
/// From attaching to the first.
const PING_FIRST: Duration = Duration::from_millis(300);
/// A ping unanswered for this long, with nothing else received, means the path is dead.
const DEAD_AFTER: Duration = Duration::from_millis(3_900);
/// The same when the path is doubted and no round trip is known.
const DOUBT_AFTER: Duration = Duration::from_millis(2_500);
/// Round trips that a doubted path may take to answer.
const DOUBT_ROUND_TRIPS: u32 = 8;
/// What it is given at least.
const DOUBT_AT_LEAST: Duration = Duration::from_secs(1);
/// What comes this soon after it was doubted was on its way before, and says nothing; only the answer to a ping does.
const DOUBT_STALE: Duration = Duration::from_millis(250);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Send a ping with this number; counts as sent.
    Ping(u64),
    /// Nothing came: unless something is there to be read, the path is dead.
    Dead,
    /// Nothing until then.
    Wait(Instant),
}

/// One viewer's, over all its streams.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// Pings are numbered by the microseconds since.
    epoch: Instant,
    /// None while no stream is attached.
    next_ping: Option<Instant>,
    /// Until when something must have come; none when nothing was asked since something came.
    doubt: Option<Instant>,
    /// When the path was last doubted because of something else than silence.
    doubted: Option<Instant>,
    round_trip: Option<Duration>,
}

impl Heartbeat {
    pub(crate) fn new(now: Instant) -> Self {
        Self { epoch: now, next_ping: None, doubt: None, doubted: None, round_trip: None }
    }

    /// A stream is attached.
    pub(crate) fn start(&mut self, now: Instant) {
        self.stop();
        self.next_ping = Some(now + PING_FIRST);
    }

    /// The stream is gone.
    pub(crate) fn stop(&mut self) {
        *self = Self::new(self.epoch);
    }

    /// The network changed.
    pub(crate) fn probe(&mut self, now: Instant) {
        if self.next_ping.is_some() {
            (self.next_ping, self.doubted) = (Some(now), Some(now));
            let until = now + self.patience();
            self.doubt = Some(self.doubt.map_or(until, |doubt| doubt.min(until)));
        }
    }

    fn patience(&self) -> Duration {
        let trips = self.round_trip.map_or(DOUBT_AFTER, |trip| trip * DOUBT_ROUND_TRIPS);
        trips.clamp(DOUBT_AT_LEAST, DOUBT_AFTER)
    }

    /// Something came.
    pub(crate) fn received(&mut self, now: Instant) {
        if self.doubted.is_none_or(|doubted| now >= doubted + DOUBT_STALE) {
            self.doubt = None;
        }
    }

    /// The ping of this number was answered.
    pub(crate) fn pong(&mut self, number: u64, now: Instant) {
        let sent = self.epoch + Duration::from_micros(number);
        // Numbers are whole microseconds.
        if self.doubted.is_none_or(|doubted| sent + Duration::from_micros(1) >= doubted) {
            self.doubt = None;
        }
        self.round_trip = Some(now.saturating_duration_since(sent));
    }

    /// What is due; far away when no stream is attached.
    pub(crate) fn poll(&mut self, now: Instant) -> Beat {
        let Some(next) = self.next_ping else { return Beat::Wait(now + DEAD_AFTER) };
        if self.doubt.is_some_and(|doubt| doubt <= now) {
            return Beat::Dead;
        }
        if next > now {
            return Beat::Wait(self.doubt.map_or(next, |doubt| doubt.min(next)));
        }
        self.next_ping = Some(now + PING_EVERY);
        self.doubt.get_or_insert(now + DEAD_AFTER);
        let since = now.saturating_duration_since(self.epoch).as_micros();
        Beat::Ping(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may ask for the time")]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_silent_path_is_found_dead_and_anything_received_is_life() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(start);
        heart.start(start);
        assert_eq!(heart.poll(start), Beat::Wait(start + PING_FIRST));
        let asked = start + PING_FIRST;
        assert_eq!(heart.poll(asked), Beat::Ping(300_000));
        assert_eq!(heart.poll(asked + DEAD_AFTER), Beat::Dead);
        heart.received(asked + DEAD_AFTER);
        assert!(matches!(heart.poll(asked + DEAD_AFTER), Beat::Ping(_)));
        heart.stop();
        assert!(matches!(heart.poll(asked + 9 * DEAD_AFTER), Beat::Wait(_)));
    }

    #[test]
    fn what_was_on_its_way_when_the_path_was_doubted_is_no_life_and_an_answer_is() {
        let start = Instant::now();
        let mut heart = Heartbeat::new(start);
        heart.start(start);
        heart.probe(start + 2 * MS);
        heart.received(start + 3 * MS);
        assert!(matches!(heart.poll(start + 2 * MS), Beat::Ping(2_000)));
        heart.pong(1_000, start + 3 * MS);
        assert_eq!(heart.poll(start + DOUBT_AFTER + 2 * MS), Beat::Dead);
        heart.pong(2_000, start + 3 * MS);
        assert_ne!(heart.poll(start + DOUBT_AFTER + 2 * MS), Beat::Dead);
    }

    #[test]
    fn a_doubted_path_is_given_as_long_as_its_round_trips_take() {
        let start = Instant::now();
        let within = |trip: Option<Duration>| {
            let mut heart = Heartbeat::new(start);
            heart.start(start);
            if let Some(trip) = trip {
                heart.pong(0, start + trip);
            }
            heart.probe(start);
            assert_eq!(heart.poll(start), Beat::Ping(0));
            let limit = [DOUBT_AT_LEAST, 1_600 * MS, DOUBT_AFTER];
            limit.into_iter().find(|limit| heart.poll(start + *limit) == Beat::Dead)
        };
        assert_eq!(within(None), Some(DOUBT_AFTER));
        assert_eq!(within(Some(MS)), Some(DOUBT_AT_LEAST));
        assert_eq!(within(Some(200 * MS)), Some(1_600 * MS));
        assert_eq!(within(Some(600 * MS)), Some(DOUBT_AFTER));
    }
}
