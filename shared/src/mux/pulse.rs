//! Whether the peer lives, and how far away it is.
//!
//! The dialling side pings every [`Timing::ping_every`], which keeps NATs and proxies open; the listening side measures when it answers, so that
//! its ping travels with the pong, and asks by itself only after a longer silence. Whatever arrives is a sign of life.
//!
//! Invariant: nobody is declared dead without having been asked, and given [`GRACE`] to answer: a process that was stopped for an hour asks first.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::wire::Frame;
use super::{Side, Timing};

/// How long an answer may take before silence counts: several round trips of any path worth using.
const GRACE: Duration = Duration::from_secs(2);
/// How often the listening side measures: a path changes no faster, and 10,000 idle tunnels cost it 700 frames a second.
const MEASURE_EVERY: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Pulse {
    side: Side,
    timing: Timing,
    /// When anything arrived last.
    heard: Instant,
    /// When the newest ping was asked for.
    asked: Option<Instant>,
    ping_due: bool,
    /// The ping under way: its token, and when it was sent.
    outstanding: Option<(u64, Instant)>,
    next_token: u64,
    /// Only the newest ping is answered: a flood of them queues nothing (THREATS MA-05).
    pong_due: Option<u64>,
    rtt: Option<Duration>,
}

impl Pulse {
    pub(super) fn new(side: Side, timing: Timing, now: Instant) -> Self {
        Self {
            side,
            timing,
            heard: now,
            asked: None,
            ping_due: false,
            outstanding: None,
            next_token: 0,
            pong_due: None,
            rtt: None,
        }
    }

    /// Smoothed as RFC 6298 does.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(super) fn handle_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    pub(super) fn handle_ping(&mut self, token: u64, now: Instant) {
        self.pong_due = Some(token);
        let measured = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < MEASURE_EVERY);
        if self.side == Side::Listener && !measured {
            self.ask(now);
        }
    }

    /// False for an answer to nothing.
    pub(super) fn handle_pong(&mut self, token: u64, now: Instant) -> bool {
        let Some((_, sent)) = self.outstanding.take_if(|(expected, _)| *expected == token) else {
            return false;
        };
        let sample = now.saturating_duration_since(sent);
        self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        true
    }

    /// Asks at once: the machine woke, or the network changed.
    pub(super) fn ask(&mut self, now: Instant) {
        if !self.is_asking() {
            self.asked = Some(now);
            self.ping_due = true;
        }
    }

    fn is_asking(&self) -> bool {
        self.ping_due || self.outstanding.is_some()
    }

    /// Whether the peer is dead.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.dead_at().is_some_and(|dead| now >= dead) {
            return true;
        }
        if self.ping_at().is_some_and(|at| now >= at) {
            self.ask(now);
        }
        false
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.dead_at().or_else(|| self.ping_at())
    }

    /// None before the peer was asked. A ping that cannot even be sent counts as asked.
    fn dead_at(&self) -> Option<Instant> {
        let asked = self.asked.filter(|_| self.is_asking())?;
        Some((self.heard + self.timing.dead_after).max(asked + GRACE))
    }

    fn ping_at(&self) -> Option<Instant> {
        if self.is_asking() {
            return None;
        }
        Some(match (self.side, self.asked) {
            (Side::Dialler, Some(asked)) => asked + self.timing.ping_every,
            (Side::Dialler, None) => self.heard,
            // The dialler's own pings keep this from ever coming as long as it lives.
            (Side::Listener, _) => self.heard + self.timing.ping_every * 2,
        })
    }

    /// The frame to send now.
    pub(super) fn poll_frame(&mut self, now: Instant) -> Option<Frame<'static>> {
        if let Some(token) = self.pong_due.take() {
            return Some(Frame::Pong { token });
        }
        if std::mem::take(&mut self.ping_due) {
            self.next_token = self.next_token.wrapping_add(1);
            self.outstanding = Some((self.next_token, now));
            return Some(Frame::Ping { token: self.next_token });
        }
        None
    }

    pub(super) fn is_due(&self) -> bool {
        self.pong_due.is_some() || self.ping_due
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { ping_every: Duration::from_secs(3), dead_after: Duration::from_secs(8) };

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_dialler_measures_at_once_and_every_three_seconds() {
        let start = Instant::now();
        let mut pulse = Pulse::new(Side::Dialler, TIMING, start);
        assert_eq!(pulse.poll_timeout(), Some(start));
        assert!(!pulse.handle_timeout(start));
        assert_eq!(pulse.poll_frame(start), Some(Frame::Ping { token: 1 }));
        assert_eq!(pulse.poll_frame(start), None);
        pulse.handle_heard(start + Duration::from_millis(40));
        assert!(pulse.handle_pong(1, start + Duration::from_millis(40)));
        assert_eq!(pulse.rtt(), Some(Duration::from_millis(40)));
        assert_eq!(pulse.poll_timeout(), Some(start + secs(3)));
    }

    #[test]
    fn a_listener_measures_as_it_answers_and_asks_only_after_silence() {
        let start = Instant::now();
        let mut pulse = Pulse::new(Side::Listener, TIMING, start);
        assert_eq!(pulse.poll_timeout(), Some(start + secs(6)));
        pulse.handle_ping(7, start);
        assert_eq!(pulse.poll_frame(start), Some(Frame::Pong { token: 7 }));
        assert_eq!(pulse.poll_frame(start), Some(Frame::Ping { token: 1 }));
        assert!(pulse.handle_pong(1, start + Duration::from_millis(5)));
        pulse.handle_ping(8, start + secs(3));
        assert_eq!(pulse.poll_frame(start + secs(3)), Some(Frame::Pong { token: 8 }));
        assert_eq!(pulse.poll_frame(start + secs(3)), None, "measured a moment ago");
    }

    #[test]
    fn silence_is_death_only_after_asking() {
        let start = Instant::now();
        for side in [Side::Dialler, Side::Listener] {
            let mut pulse = Pulse::new(side, TIMING, start);
            let woke = start + secs(3_600);
            assert!(!pulse.handle_timeout(woke), "a process that slept asks first");
            assert!(matches!(pulse.poll_frame(woke), Some(Frame::Ping { .. })));
            assert_eq!(pulse.poll_timeout(), Some(woke + GRACE));
            assert!(pulse.handle_timeout(woke + GRACE));
            pulse.handle_heard(woke + secs(1));
            assert!(!pulse.handle_timeout(woke + GRACE), "any byte is a sign of life");
            assert!(pulse.handle_timeout(woke + secs(9)));
        }
    }

    #[test]
    fn ma_05_a_flood_of_pings_queues_one_answer_and_an_answer_to_nothing_is_noticed() {
        let start = Instant::now();
        let mut pulse = Pulse::new(Side::Listener, TIMING, start);
        (0..1_000).for_each(|token| pulse.handle_ping(token, start));
        assert_eq!(pulse.poll_frame(start), Some(Frame::Pong { token: 999 }));
        assert!(matches!(pulse.poll_frame(start), Some(Frame::Ping { .. })));
        assert_eq!(pulse.poll_frame(start), None);
        assert!(!pulse.handle_pong(77, start));
    }
}
