//! Which broker is dialled first. Pure.
//!
//! Each machine has an order of its own, drawn by lot from its id and the brokers' addresses: machines spread over the brokers, and an uplink
//! that was started anew finds the broker it had before. One that said it goes away or has no room comes last for a while.
#![deny(clippy::disallowed_methods)]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use rexec_shared::close::CloseCode;
use uuid::Uuid;

use super::dial::End;

/// How long a broker that goes away is left for others: longer than its streams may have.
const AVOID_FOR: Duration = Duration::from_secs(60);

/// The order of one machine.
#[derive(Debug)]
pub(super) struct Choice {
    machine: Uuid,
    avoided: Option<(String, Instant)>,
}

impl Choice {
    pub(super) fn new(machine: Uuid) -> Self {
        Self { machine, avoided: None }
    }

    /// The brokers in the order in which they are dialled.
    pub(super) fn order(&self, brokers: &[String], now: Instant) -> Vec<String> {
        let avoided = self.avoided.as_ref().filter(|(_, until)| *until > now).map(|(broker, _)| broker);
        let mut order = brokers.to_vec();
        order.sort_by_key(|broker| (avoided == Some(broker), self.lot(broker)));
        order.dedup();
        order
    }

    /// A tunnel or a greeting ended at this broker.
    pub(super) fn handle_end(&mut self, broker: &str, end: End, now: Instant) {
        if let End::Closed(Some(CloseCode::Draining | CloseCode::Overloaded)) = end {
            self.avoided = Some((broker.to_owned(), now + AVOID_FOR));
        }
    }

    fn lot(&self, broker: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.machine, broker).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn brokers() -> Vec<String> {
        ["a:1", "b:1", "c:1"].map(str::to_owned).into()
    }

    #[test]
    fn machines_spread_over_the_brokers_and_each_keeps_its_own() {
        let (now, mut firsts) = (Instant::now(), BTreeMap::new());
        for n in 0..300u128 {
            let choice = || Choice::new(Uuid::from_u128(n));
            let order = choice().order(&brokers(), now);
            let mut turned = brokers();
            turned.reverse();
            assert_eq!(choice().order(&turned, now), order, "however control lists them");
            *firsts.entry(order[0].clone()).or_insert(0) += 1;
        }
        assert!(firsts.len() == 3 && firsts.values().all(|count| *count > 60), "{firsts:?}");
    }

    #[test]
    fn a_broker_that_goes_away_comes_last_for_a_while() {
        let (now, mut choice) = (Instant::now(), Choice::new(Uuid::from_u128(1)));
        let first = choice.order(&brokers(), now)[0].clone();
        choice.handle_end(&first, End::Lost, now);
        assert_eq!(choice.order(&brokers(), now)[0], first, "a path that died says nothing of the broker");
        choice.handle_end(&first, End::Closed(Some(CloseCode::Draining)), now);
        assert_eq!(choice.order(&brokers(), now).last(), Some(&first));
        assert_eq!(
            choice.order(std::slice::from_ref(&first), now),
            std::slice::from_ref(&first),
            "better than none"
        );
        assert_eq!(choice.order(&brokers(), now + AVOID_FOR)[0], first);
    }
}
