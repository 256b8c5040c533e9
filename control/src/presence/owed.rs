//! What the broker told and the database did not take: kept until it does, the newest word of each machine alone. Pure.
#![deny(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rexec_shared::broker_link::FromBroker;
use uuid::Uuid;

/// Wait after the first failure; it doubles with each round that fails.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait between two rounds.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// How new a word is: the tunnel's number, and whether it is its end, which comes after everything else it says.
type Newness = (u64, bool);

/// Words owed to the database: one per machine at most, so their number is bounded by that of machines.
#[derive(Debug, Default)]
pub(super) struct Owed {
    words: HashMap<Uuid, (Newness, FromBroker)>,
    wait: Duration,
    due: Option<Instant>,
}

/// The machine a message speaks of and how new it is, where the database must come to know of it.
pub(super) fn newness(message: &FromBroker) -> Option<(Uuid, Newness)> {
    match message {
        FromBroker::TunnelUp { machine, tunnel, .. } => Some((*machine, (*tunnel, false))),
        FromBroker::TunnelDown { machine, tunnel, .. } => Some((*machine, (*tunnel, true))),
        FromBroker::Standing { .. }
        | FromBroker::Presence { .. }
        | FromBroker::Samples { .. }
        | FromBroker::Stream { .. }
        | FromBroker::DialRefused { .. } => None,
    }
}

impl Owed {
    /// `message` could not be written: it is tried again, unless something newer of its machine waits already.
    pub(super) fn handle_failure(&mut self, message: FromBroker, now: Instant) {
        let Some((machine, new)) = newness(&message) else { return };
        if self.words.get(&machine).is_none_or(|(known, _)| *known <= new) {
            self.words.insert(machine, (new, message));
        }
        if self.due.is_none() {
            self.wait = FIRST_WAIT;
            self.due = Some(now + self.wait);
        }
    }

    /// A word of `machine` was written: what is as old or older is owed no more.
    pub(super) fn handle_success(&mut self, machine: Uuid, new: Newness) {
        if self.words.get(&machine).is_some_and(|(known, _)| *known <= new) {
            self.words.remove(&machine);
        }
        if self.words.is_empty() {
            self.due = None;
        }
    }

    /// When the next round is due.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// What to try now; [`Owed::handle_success`] is told of what was written, the rest stays.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<FromBroker> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.wait = (2 * self.wait).clamp(FIRST_WAIT, LONGEST_WAIT);
        self.due = Some(now + self.wait);
        self.words.values().map(|(_, message)| message.clone()).collect()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has a clock")]
mod tests {
    use super::*;

    const BOX: Uuid = Uuid::from_u128(1);

    fn up(tunnel: u64) -> FromBroker {
        FromBroker::TunnelUp {
            machine: BOX,
            org: Uuid::nil(),
            tunnel,
            address: String::new(),
            transport: String::new(),
            transport_reason: None,
            agent_version: String::new(),
            os: String::new(),
            arch: String::new(),
            hostname: String::new(),
            sessions: Vec::new(),
        }
    }

    fn down(tunnel: u64) -> FromBroker {
        FromBroker::TunnelDown { machine: BOX, tunnel, reason: String::new() }
    }

    #[test]
    fn of_one_machine_the_newest_word_alone_is_owed() {
        let (mut owed, now) = (Owed::default(), Instant::now());
        for message in [up(1), down(1), up(2), down(1), up(1)] {
            owed.handle_failure(message, now);
        }
        assert_eq!(owed.handle_timeout(now + FIRST_WAIT), [up(2)]);
        owed.handle_failure(down(2), now);
        owed.handle_failure(up(2), now);
        assert_eq!(owed.handle_timeout(now + LONGEST_WAIT), [down(2)], "an end comes after its beginning");
        owed.handle_success(BOX, (1, true));
        assert!(owed.poll_timeout().is_some(), "what is older settles nothing");
        owed.handle_success(BOX, (3, false));
        assert_eq!((owed.poll_timeout(), owed.words.len()), (None, 0));
    }

    #[test]
    fn rounds_come_ever_later_within_a_bound() {
        let (mut owed, mut now) = (Owed::default(), Instant::now());
        owed.handle_failure(up(1), now);
        assert!(owed.handle_timeout(now).is_empty(), "not yet");
        let mut before = Duration::ZERO;
        for _ in 0..12 {
            let due = owed.poll_timeout().expect("owed");
            let wait = due - now;
            assert!(wait >= before && wait <= LONGEST_WAIT);
            (before, now) = (wait, due);
            assert_eq!(owed.handle_timeout(now).len(), 1);
        }
        assert_eq!(before, LONGEST_WAIT);
    }
}
