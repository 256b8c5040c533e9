//! What was said to control and not yet acknowledged. Pure.
//!
//! What tells a state (tunnels, presence) is told anew when a link begins, so only the events for the audit are kept for the next link. One
//! that was taken while its acknowledgement was lost is written twice: at least once is what an audit wants.
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;

use rexec_shared::broker_link::FromBroker;

/// Events on their way at once. More wait at the registry, which keeps of each machine only what still matters.
const WINDOW: usize = 512;

/// Events on their way, oldest first.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    last: u64,
    events: VecDeque<(u64, Option<FromBroker>)>,
}

impl InFlight {
    /// Whether one more may be said.
    pub(crate) fn has_room(&self) -> bool {
        self.events.len() < WINDOW
    }

    /// Whether everything said was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The number of an event that is about to be said.
    pub(crate) fn push(&mut self, event: &FromBroker) -> u64 {
        self.last += 1;
        let for_audit = matches!(event, FromBroker::Stream { .. } | FromBroker::DialRefused { .. });
        self.events.push_back((self.last, for_audit.then(|| event.clone())));
        self.last
    }

    /// Control has taken everything up to `seq`.
    pub(crate) fn handle_ack(&mut self, seq: u64) {
        while self.events.front().is_some_and(|(number, _)| *number <= seq) {
            self.events.pop_front();
        }
    }

    /// The link is gone; what must be said again on the next.
    pub(crate) fn handle_end(&mut self) -> Vec<FromBroker> {
        self.last = 0;
        self.events.drain(..).filter_map(|(_, event)| event).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn refused(n: u128) -> FromBroker {
        FromBroker::DialRefused {
            machine: Uuid::from_u128(n),
            org: Uuid::nil(),
            claimed: None,
            address: String::new(),
            code: rexec_shared::close::CloseCode::Revoked,
        }
    }

    fn down(n: u128) -> FromBroker {
        FromBroker::TunnelDown { machine: Uuid::from_u128(n), tunnel: 1, reason: String::new() }
    }

    #[test]
    fn what_the_audit_needs_is_said_again_and_states_are_not() {
        let mut flying = InFlight::default();
        for event in [refused(1), down(2), refused(3), down(4)] {
            flying.push(&event);
        }
        flying.handle_ack(1);
        assert_eq!(flying.handle_end(), [refused(3)]);
        assert!(flying.is_empty());
        assert_eq!(flying.push(&down(5)), 1, "each link counts from the beginning");
    }

    #[test]
    fn no_more_is_on_its_way_than_the_window() {
        let mut flying = InFlight::default();
        while flying.has_room() {
            flying.push(&down(1));
        }
        assert_eq!(flying.events.len(), WINDOW);
        flying.handle_ack(u64::MAX);
        assert!(flying.has_room() && flying.is_empty());
    }
}
