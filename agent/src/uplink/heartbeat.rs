//! When to ping the broker, and when its silence means that the path is dead.
//!
//! A tunnel with viewers pings every second: after a broker's restart the next packet of ours is what fetches its stateless reset. An idle
//! tunnel pings every [`TUNNEL_KEEPALIVE`]; ten thousand of them are then 3,300 small packets a second at the broker.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use rexec_shared::limits::{TUNNEL_DEAD, TUNNEL_KEEPALIVE};

/// Between pings while viewers are attached.
const BUSY_PING: Duration = Duration::from_secs(1);
/// How long a woken machine waits for an answer on its old path.
const WAKE_DEAD: Duration = Duration::from_secs(2);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Send a ping with this number.
    Ping(u64),
    /// The path is dead.
    Dead,
    /// Nothing before this time.
    Wait(Instant),
}

/// The heartbeat of one tunnel.
#[derive(Debug)]
pub struct Heartbeat {
    next_ping: Instant,
    /// Newest ping sent.
    number: u64,
    /// Newest ping answered.
    answered: u64,
    /// When the oldest unanswered ping has waited long enough.
    dead_at: Option<Instant>,
}

impl Heartbeat {
    /// Pings at once.
    pub fn new(now: Instant) -> Self {
        Self { next_ping: now, number: 0, answered: 0, dead_at: None }
    }

    /// What is due; a `Ping` counts as sent.
    pub fn poll(&mut self, now: Instant, has_viewers: bool) -> Due {
        if self.dead_at.is_some_and(|dead| now >= dead) {
            return Due::Dead;
        }
        let interval = if has_viewers { BUSY_PING } else { TUNNEL_KEEPALIVE };
        self.next_ping = self.next_ping.min(now + interval);
        if now < self.next_ping {
            return Due::Wait(self.dead_at.map_or(self.next_ping, |dead| dead.min(self.next_ping)));
        }
        self.next_ping = now + interval;
        self.number += 1;
        self.dead_at.get_or_insert(now + TUNNEL_DEAD);
        Due::Ping(self.number)
    }

    /// The broker answered ping `number`; an answer to an older one shows as well that the path lives, but not that the newest got through.
    pub fn handle_pong(&mut self, number: u64, now: Instant) {
        if number <= self.answered || number > self.number {
            return;
        }
        self.answered = number;
        self.dead_at = (number < self.number).then(|| now + TUNNEL_DEAD);
    }

    /// The machine woke or the network changed: find out quickly.
    pub fn handle_wake(&mut self, now: Instant) {
        self.next_ping = now;
        self.dead_at = Some(now + WAKE_DEAD);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
mod tests {
    use super::*;

    #[test]
    fn an_idle_tunnel_pings_slowly_and_one_with_viewers_every_second() {
        let now = Instant::now();
        let mut heartbeat = Heartbeat::new(now);
        assert_eq!(heartbeat.poll(now, false), Due::Ping(1));
        heartbeat.handle_pong(1, now);
        assert_eq!(heartbeat.poll(now, false), Due::Wait(now + TUNNEL_KEEPALIVE));
        assert_eq!(heartbeat.poll(now, true), Due::Wait(now + BUSY_PING));
        assert_eq!(heartbeat.poll(now + BUSY_PING, true), Due::Ping(2));
    }

    #[test]
    fn a_path_that_answers_nothing_is_dead_in_time_however_often_it_was_asked() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        let mut now = start;
        loop {
            match heartbeat.poll(now, true) {
                Due::Ping(_) => {}
                Due::Wait(until) => now = until,
                Due::Dead => break,
            }
        }
        assert_eq!(now - start, TUNNEL_DEAD);
    }

    #[test]
    fn answers_keep_a_path_alive_even_when_they_come_late() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            assert_eq!(heartbeat.poll(now, true), Due::Ping(second + 1));
            heartbeat.handle_pong(second.saturating_sub(4), now);
        }
    }

    #[test]
    fn a_woken_machine_finds_out_within_two_seconds() {
        let now = Instant::now();
        let mut heartbeat = Heartbeat::new(now);
        assert_eq!(heartbeat.poll(now, false), Due::Ping(1));
        heartbeat.handle_pong(1, now);
        heartbeat.handle_wake(now);
        assert_eq!(heartbeat.poll(now, false), Due::Ping(2));
        assert_eq!(heartbeat.poll(now + WAKE_DEAD, false), Due::Dead);
    }
}
