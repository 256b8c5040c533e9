//! When to ping the broker, and when its silence means that the path is dead.
//!
//! A tunnel with viewers pings every second: after a broker's restart the next packet of ours is what fetches its stateless reset. An idle
//! tunnel pings every [`TUNNEL_KEEPALIVE`]; ten thousand of them are then 3,300 small packets a second at the broker.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use rexec_shared::limits::{TUNNEL_DEAD, TUNNEL_KEEPALIVE};

/// Between pings while viewers are attached.
const BUSY_PING: Duration = Duration::from_secs(1);
/// How long the oldest unanswered ping may wait while viewers are attached: more than a busy machine stalls for, and as long as anybody should
/// look at a frozen screen.
const BUSY_DEAD: Duration = Duration::from_secs(5);
/// How long a woken machine waits for an answer on its old path.
const WAKE_DEAD: Duration = Duration::from_secs(2);
/// Being called so much later than wanted means that this process stood still: an answer may lie in its socket.
const STOOD_STILL: Duration = Duration::from_secs(1);

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
    /// When the oldest unanswered ping was sent, as far as answers tell.
    waiting_since: Option<Instant>,
    /// A nearer end of patience, after a wake-up.
    dead_at: Option<Instant>,
}

impl Heartbeat {
    /// Pings at once.
    pub fn new(now: Instant) -> Self {
        Self { next_ping: now, number: 0, answered: 0, waiting_since: None, dead_at: None }
    }

    /// What is due; a `Ping` counts as sent.
    pub fn poll(&mut self, now: Instant, has_viewers: bool) -> Due {
        let dead = self.patience_ends(has_viewers);
        if let Some(late) = dead.and_then(|dead| now.checked_duration_since(dead)) {
            if late <= STOOD_STILL {
                return Due::Dead;
            }
            self.handle_wake(now);
        }
        let interval = if has_viewers { BUSY_PING } else { TUNNEL_KEEPALIVE };
        self.next_ping = self.next_ping.min(now + interval);
        if now < self.next_ping {
            let dead = self.patience_ends(has_viewers);
            return Due::Wait(dead.map_or(self.next_ping, |dead| dead.min(self.next_ping)));
        }
        self.next_ping = now + interval;
        self.number += 1;
        self.waiting_since.get_or_insert(now);
        Due::Ping(self.number)
    }

    /// The broker answered ping `number`; an answer to an older one shows as well that the path lives, but not that the newest got through.
    pub fn handle_pong(&mut self, number: u64, now: Instant) {
        if number <= self.answered || number > self.number {
            return;
        }
        self.answered = number;
        self.dead_at = None;
        self.waiting_since = (number < self.number).then_some(now);
    }

    /// The machine woke or the network changed: find out quickly. Several in a row grant no more time than the first.
    pub fn handle_wake(&mut self, now: Instant) {
        self.next_ping = now;
        self.waiting_since = None;
        self.dead_at = Some(self.dead_at.filter(|dead| *dead > now).unwrap_or(now + WAKE_DEAD));
    }

    /// When the path is to be called dead, if a ping is unanswered.
    fn patience_ends(&self, has_viewers: bool) -> Option<Instant> {
        let patience = if has_viewers { BUSY_DEAD } else { TUNNEL_DEAD };
        self.dead_at.into_iter().chain(self.waiting_since.map(|since| since + patience)).min()
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
        assert_eq!(now - start, BUSY_DEAD);
    }

    #[test]
    fn a_process_that_stood_still_asks_again_before_it_despairs() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        assert_eq!(heartbeat.poll(start, true), Due::Ping(1));
        let woke = start + Duration::from_secs(600);
        assert_eq!(heartbeat.poll(woke, true), Due::Ping(2));
        assert_eq!(heartbeat.poll(woke + WAKE_DEAD, true), Due::Dead);
    }

    #[test]
    fn changes_in_quick_succession_do_not_put_off_the_end() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        assert_eq!(heartbeat.poll(start, false), Due::Ping(1));
        let mut now = start;
        while now < start + WAKE_DEAD {
            heartbeat.handle_wake(now);
            assert!(matches!(heartbeat.poll(now, false), Due::Ping(_)));
            now += WAKE_DEAD / 8;
        }
        assert_eq!(heartbeat.poll(start + WAKE_DEAD, false), Due::Dead);
    }

    #[test]
    fn answers_keep_a_path_alive_even_when_they_come_late() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            assert_eq!(heartbeat.poll(now, true), Due::Ping(second + 1));
            // Four seconds after the ping it answers.
            heartbeat.handle_pong(second.saturating_sub(3), now);
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
