//! Whether an agent is still there: what the broker makes of its silence.
//!
//! Agents ping by themselves; one that is silent is asked, and one that leaves the question unanswered is lost. Anything that arrives counts,
//! on whichever stream. A machine whose broker stood still meanwhile (suspended, or starved) gives its agents another chance.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use crate::limits::{ANSWER_BUSY, ANSWER_IDLE, SILENCE_BUSY, SILENCE_IDLE};

/// How often arrivals are counted at least: they are noticed when they are counted, and not before. An agent's own pings bring it about, but
/// its acknowledgements, which come a little later, do not.
const LOOK_IDLE: Duration = Duration::from_secs(3);
/// The same while viewers are attached.
const LOOK_BUSY: Duration = Duration::from_millis(500);
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

/// One agent's signs of life.
#[derive(Debug)]
pub(crate) struct Liveness {
    heard: Instant,
    /// What had arrived when that was noticed.
    received: u64,
    asked: Option<Instant>,
}

impl Liveness {
    /// An agent that was heard just now.
    pub(crate) fn new(now: Instant, received: u64) -> Self {
        Self { heard: now, received, asked: None }
    }

    /// What is due, with so much [received](rexec_tunnel::Path::received) in all, and viewers attached or not.
    pub(crate) fn poll(&mut self, now: Instant, received: u64, busy: bool) -> Due {
        if received != self.received {
            *self = Self::new(now, received);
        }
        let (silence, answer, look) = if busy {
            (SILENCE_BUSY, ANSWER_BUSY, LOOK_BUSY)
        } else {
            (SILENCE_IDLE, ANSWER_IDLE, LOOK_IDLE)
        };
        let Some(asked) = self.asked else {
            let until = self.heard + silence;
            return if now >= until { self.ask(now) } else { Due::Wait(until.min(now + look)) };
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

    /// Polls as a task does, and says what came and when.
    fn until_lost(busy: bool) -> Vec<(Duration, Due)> {
        let start = Instant::now();
        let (mut liveness, mut now, mut seen) = (Liveness::new(start, 1), start, Vec::new());
        loop {
            let due = liveness.poll(now, 1, busy);
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
    fn an_acknowledgement_that_comes_between_two_looks_puts_the_end_off_by_no_more_than_one() {
        let start = Instant::now();
        let (mut liveness, mut now) = (Liveness::new(start, 0), start);
        let acknowledged = start + Duration::from_millis(1);
        while let Due::Wait(_) | Due::Ask = {
            let due = liveness.poll(now, u64::from(now >= acknowledged), true);
            if let Due::Wait(until) = due {
                now = until;
            }
            due
        } {}
        assert!(now - acknowledged <= Duration::from_secs(5), "{:?}", now - acknowledged);
    }

    #[test]
    fn whatever_arrives_is_a_sign_of_life() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, 0);
        let mut now = start;
        for received in 0..100 {
            assert!(matches!(liveness.poll(now, received, true), Due::Wait(_)));
            now += SILENCE_BUSY - Duration::from_millis(1);
        }
        assert_eq!(liveness.poll(now + SILENCE_BUSY, 99, true), Due::Ask);
        let answered = liveness.poll(now + SILENCE_BUSY + ANSWER_BUSY, 100, true);
        assert!(matches!(answered, Due::Wait(_)), "an answer at the last moment: {answered:?}");
    }

    #[test]
    fn agents_are_not_lost_because_the_broker_stood_still() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, 0);
        let slept = start + Duration::from_secs(3_600);
        assert_eq!(liveness.poll(start + SILENCE_IDLE, 0, false), Due::Ask);
        assert_eq!(liveness.poll(slept, 0, false), Due::Ask, "asked again");
        assert_eq!(liveness.poll(slept + ANSWER_IDLE, 0, false), Due::Lost);
    }
}
