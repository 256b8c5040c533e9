//! When a tunnel over TCP looks for QUIC again: the choice is never sticky.
//!
//! The first look is half a minute after the tunnel came up, each further one after twice the pause, up to five minutes; a machine that woke or whose
//! network changed looks at once, and begins anew with short pauses.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use rexec_tunnel::Transport;

/// Pause before the first look: a network that was just joined may need a moment, and a viewer's resume is not to be had for nothing.
pub const PROBE_FIRST: Duration = Duration::from_secs(30);
/// The longest pause is this many times the first: five minutes.
const LONGEST: u32 = 10;
/// Looks that changes of the network bring about are no closer than this: a machine whose links come and go is not to dial all the time.
const LEAST: Duration = Duration::from_secs(2);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Try QUIC; counts as begun.
    Probe,
    /// Nothing before this time; `None` is never.
    Wait(Option<Instant>),
}

/// The looks of one uplink.
#[derive(Debug)]
pub struct Upgrade {
    first: Duration,
    pause: Duration,
    /// When to look next.
    next: Option<Instant>,
    looked: Option<Instant>,
}

impl Upgrade {
    /// None yet; `first` is [`PROBE_FIRST`] outside of tests.
    pub fn new(first: Duration) -> Self {
        Self { first, pause: first, next: None, looked: None }
    }

    /// A tunnel came up. `random` is a uniform draw from 0..=`u32::MAX`.
    pub fn handle_online(&mut self, transport: Transport, now: Instant, random: u32) {
        self.pause = self.first;
        self.next = match transport {
            Transport::Quic => None,
            Transport::Tcp => Some(now + jittered(self.pause, random)),
        };
    }

    /// What is due now.
    pub fn poll(&mut self, now: Instant) -> Due {
        match self.next {
            Some(next) if now >= next => {
                self.next = None;
                self.looked = Some(now);
                Due::Probe
            }
            next => Due::Wait(next),
        }
    }

    /// QUIC did not answer; `random` as above.
    pub fn handle_failed(&mut self, now: Instant, random: u32) {
        self.pause = (self.pause * 2).min(self.first * LONGEST);
        self.next = Some(now + jittered(self.pause, random));
    }

    /// The machine woke or the network changed: what was true of UDP may no longer be.
    pub fn handle_wake(&mut self, now: Instant) {
        if self.next.is_some() {
            self.pause = self.first;
            self.next = Some(self.looked.map_or(now, |looked| now.max(looked + LEAST)));
        }
    }
}

/// From three quarters of a pause to five quarters: agents that fell back together do not look together.
fn jittered(pause: Duration, random: u32) -> Duration {
    pause.mul_f64(0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
mod tests {
    use super::*;

    const MIDDLE: u32 = u32::MAX / 2;

    fn wait(upgrade: &mut Upgrade, now: Instant) -> Duration {
        let Due::Wait(Some(next)) = upgrade.poll(now) else { panic!("nothing to wait for") };
        Duration::from_secs((next - now).as_secs_f64().round() as u64)
    }

    #[test]
    fn quic_is_looked_for_after_half_a_minute_and_then_ever_more_rarely_up_to_five() {
        let mut now = Instant::now();
        let mut upgrade = Upgrade::new(PROBE_FIRST);
        upgrade.handle_online(Transport::Tcp, now, MIDDLE);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let pause = wait(&mut upgrade, now);
            pauses.push(pause.as_secs());
            now += pause + Duration::from_secs(1);
            assert_eq!(upgrade.poll(now), Due::Probe);
            assert_eq!(upgrade.poll(now), Due::Wait(None), "one at a time");
            upgrade.handle_failed(now, MIDDLE);
        }
        assert_eq!(pauses, [30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn a_tunnel_over_quic_looks_for_nothing() {
        let now = Instant::now();
        let mut upgrade = Upgrade::new(PROBE_FIRST);
        upgrade.handle_online(Transport::Tcp, now, 0);
        upgrade.handle_online(Transport::Quic, now, 0);
        upgrade.handle_wake(now);
        assert_eq!(upgrade.poll(now + Duration::from_secs(9_999)), Due::Wait(None));
    }

    #[test]
    fn a_change_of_the_network_is_a_reason_to_look_at_once_but_not_all_the_time() {
        let now = Instant::now();
        let mut upgrade = Upgrade::new(PROBE_FIRST);
        upgrade.handle_online(Transport::Tcp, now, MIDDLE);
        upgrade.handle_wake(now);
        assert_eq!(upgrade.poll(now), Due::Probe);
        upgrade.handle_failed(now, MIDDLE);
        upgrade.handle_wake(now);
        assert_eq!(upgrade.poll(now), Due::Wait(Some(now + LEAST)));
        assert_eq!(upgrade.poll(now + LEAST), Due::Probe);
        upgrade.handle_failed(now + LEAST, MIDDLE);
        assert_eq!(wait(&mut upgrade, now + LEAST).as_secs(), 60, "short pauses again");
    }

    #[test]
    fn pauses_are_spread() {
        assert_eq!(jittered(PROBE_FIRST, 0), PROBE_FIRST.mul_f64(0.75));
        assert_eq!(jittered(PROBE_FIRST, u32::MAX), PROBE_FIRST.mul_f64(1.25));
    }
}
