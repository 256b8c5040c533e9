//! Whether an agent is still there: what the broker makes of its silence.
//!
//! Agents ping by themselves; one that is silent is asked, and one that leaves the question unanswered is lost. Anything that arrives counts,
//! on whichever stream. A machine whose broker stood still meanwhile (suspended, or starved) gives its agents another chance.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use crate::limits::{ANSWER_BUSY, ANSWER_IDLE, LOOK_AGAIN, SILENCE_BUSY, SILENCE_IDLE};

/// Being called so much later than wanted means that it was us who stood still.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask the agent; counts as asked.
    Ask,
    /// The agent is gone.
    Lost,
    /// Look again by this time.
    Wait(Instant),
}

/// A tunnel's path as it is now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signs {
    /// What has [arrived](rexec_tunnel::Path::received) in all.
    pub(crate) received: u64,
    /// The round trip.
    pub(crate) rtt: Duration,
    /// Whether viewers are attached.
    pub(crate) busy: bool,
}

/// One agent's signs of life.
///
/// An arrival is noticed when it is looked for. The agent's pings bring that about by themselves, its acknowledgements, which come a little
/// later, do not: so there is one more look soon after each arrival, and silence is counted from at most that much too late.
#[derive(Debug)]
pub(crate) struct Liveness {
    heard: Instant,
    /// What had arrived when that was noticed.
    received: u64,
    /// When to look for what came along with the last arrival.
    look: Option<Instant>,
    asked: Option<Instant>,
}

impl Liveness {
    /// An agent that was heard just now.
    pub(crate) fn new(now: Instant, received: u64) -> Self {
        Self { heard: now, received, look: None, asked: None }
    }

    /// What is due.
    pub(crate) fn poll(&mut self, now: Instant, signs: Signs) -> Due {
        if signs.received != self.received {
            let look = Some(now + LOOK_AGAIN + 2 * signs.rtt);
            *self = Self { look, ..Self::new(now, signs.received) };
        }
        let (silence, answer) =
            if signs.busy { (SILENCE_BUSY, ANSWER_BUSY) } else { (SILENCE_IDLE, ANSWER_IDLE) };
        let Some(asked) = self.asked else {
            let until = self.heard + silence;
            self.look = self.look.filter(|look| now < *look);
            return if now >= until {
                self.ask(now)
            } else {
                Due::Wait(self.look.unwrap_or(until).min(until))
            };
        };
        match now.checked_duration_since(asked + answer) {
            None => Due::Wait(asked + answer),
            Some(late) if late > STOOD_STILL => self.ask(now),
            Some(_) => Due::Lost,
        }
    }

    fn ask(&mut self, now: Instant) -> Due {
        self.asked = Some(now);
        Due::Ask
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may ask for the time")]
mod tests {
    use super::*;

    fn signs(received: u64, busy: bool) -> Signs {
        Signs { received, rtt: Duration::from_millis(1), busy }
    }

    /// Polls as a task does, and says what came and when.
    fn until_lost(busy: bool) -> Vec<(Duration, Due)> {
        let start = Instant::now();
        let (mut liveness, mut now, mut seen) = (Liveness::new(start, 1), start, Vec::new());
        loop {
            let due = liveness.poll(now, signs(1, busy));
            match due {
                Due::Wait(until) => now = until,
                Due::Ask => seen.push((now - start, due)),
                Due::Lost => {
                    seen.push((now - start, due));
                    return seen;
                }
            }
        }
    }

    #[test]
    fn a_silent_agent_is_asked_once_and_then_lost() {
        let idle = [(SILENCE_IDLE, Due::Ask), (SILENCE_IDLE + ANSWER_IDLE, Due::Lost)];
        assert_eq!(until_lost(false), idle);
        let busy = [(SILENCE_BUSY, Due::Ask), (SILENCE_BUSY + ANSWER_BUSY, Due::Lost)];
        assert_eq!(until_lost(true), busy);
    }

    #[test]
    fn a_dead_path_is_found_within_five_seconds_of_the_last_arrival_whatever_brought_that_about() {
        for busy in [false, true] {
            // The agent's ping, which wakes us, and the acknowledgement of our answer, which does not.
            for after_ms in [0, 1, 26, 50, 99] {
                let start = Instant::now();
                let acknowledged = start + Duration::from_millis(after_ms);
                let (mut liveness, mut now) = (Liveness::new(start, 0), start);
                loop {
                    let received = 1 + u64::from(now >= acknowledged);
                    match liveness.poll(now, signs(received, busy)) {
                        Due::Wait(until) => now = until,
                        Due::Ask => {}
                        Due::Lost => break,
                    }
                }
                let found = now - acknowledged;
                assert!(found <= Duration::from_secs(5), "busy {busy}, {after_ms} ms: {found:?}");
            }
        }
    }

    #[test]
    fn an_agent_that_pings_as_agents_do_is_not_asked_and_costs_three_looks_a_ping() {
        let start = Instant::now();
        let (mut liveness, mut now, mut looks) = (Liveness::new(start, 0), start, 0);
        let arrived = |now: Instant| {
            let ms = (now - start).as_millis() as u64;
            // A ping every 3 s, and an acknowledgement 26 ms later.
            1 + ms / 3_000 + ms.saturating_sub(26) / 3_000 + u64::from(ms >= 26)
        };
        while now - start < Duration::from_secs(300) {
            looks += 1;
            match liveness.poll(now, signs(arrived(now), false)) {
                Due::Wait(until) => {
                    let next_ping = start + Duration::from_secs(3 * ((now - start).as_secs() / 3 + 1));
                    now = until.min(next_ping);
                }
                due @ (Due::Ask | Due::Lost) => panic!("{due:?} after {:?}", now - start),
            }
        }
        assert!(looks <= 303, "{looks}");
    }

    #[test]
    fn whatever_arrives_is_a_sign_of_life() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, 0);
        let mut now = start;
        for received in 0..100 {
            assert!(matches!(liveness.poll(now, signs(received, true)), Due::Wait(_)));
            now += SILENCE_BUSY - Duration::from_millis(1);
        }
        assert_eq!(liveness.poll(now + SILENCE_BUSY, signs(99, true)), Due::Ask);
        let answered = liveness.poll(now + SILENCE_BUSY + ANSWER_BUSY, signs(100, true));
        assert!(matches!(answered, Due::Wait(_)), "an answer at the last moment: {answered:?}");
    }

    #[test]
    fn agents_are_not_lost_because_the_broker_stood_still() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, 0);
        let slept = start + Duration::from_secs(3_600);
        assert_eq!(liveness.poll(start + SILENCE_IDLE, signs(0, false)), Due::Ask);
        assert_eq!(liveness.poll(slept, signs(0, false)), Due::Ask, "asked again");
        assert_eq!(liveness.poll(slept + ANSWER_IDLE, signs(0, false)), Due::Lost);
    }
}
