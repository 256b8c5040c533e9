//! Handshakes under way: how many, and from where.
//!
//! A dial whose address is proven (by a retry token) and one whose address may be forged are counted apart: forged packets may fill
//! only half of a prefix's room, above which an address is asked to prove itself. So a flood of forged packets costs its pretended
//! sender one round trip, not its place (THREATS MA-11, NW-03).
#![deny(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::net::IpAddr;

use crate::limits::{HALF_OPEN_PER_PREFIX, HALF_OPEN_UNPROVEN, HANDSHAKES_MAX, HANDSHAKES_RETRY_ABOVE};
use crate::prefix;

/// What becomes of a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Its handshake may begin.
    Begin,
    /// It must prove its address first, at no cost to us.
    Retry,
    /// No answer: QUIC tries again by itself.
    Ignore,
}

/// Where a dial comes from: who is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    prefix: IpAddr,
    proven: bool,
}

impl Origin {
    /// One IPv4 address, or the /64 of an IPv6 address.
    pub(crate) fn new(address: IpAddr, proven: bool) -> Self {
        Self { prefix: prefix::of(address), proven }
    }
}

/// Counts the handshakes under way.
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    total: usize,
    origins: HashMap<Origin, usize>,
}

impl HalfOpen {
    /// Handshakes under way.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Decides, and counts the dial when its handshake may begin; [`HalfOpen::handle_end`] is owed then.
    pub(crate) fn handle_dial(&mut self, origin: Origin) -> Decision {
        let decision = self.decide(origin);
        if decision == Decision::Begin {
            self.total += 1;
            *self.origins.entry(origin).or_default() += 1;
        }
        decision
    }

    /// A handshake that had begun has ended, one way or the other.
    pub(crate) fn handle_end(&mut self, origin: Origin) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.origins.get_mut(&origin) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.origins.remove(&origin);
            }
        }
    }

    fn decide(&self, origin: Origin) -> Decision {
        let unproven = self.count(Origin { proven: false, ..origin });
        if !origin.proven {
            let crowded = self.total >= HANDSHAKES_RETRY_ABOVE || unproven >= HALF_OPEN_UNPROVEN;
            return if crowded { Decision::Retry } else { Decision::Begin };
        }
        let proven = self.count(origin);
        let full = self.total >= HANDSHAKES_MAX || proven >= HALF_OPEN_PER_PREFIX - HALF_OPEN_UNPROVEN;
        if full { Decision::Ignore } else { Decision::Begin }
    }

    fn count(&self, origin: Origin) -> usize {
        self.origins.get(&origin).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(last: u8, proven: bool) -> Origin {
        Origin::new(IpAddr::from([192, 0, 2, last]), proven)
    }

    fn fill(gate: &mut HalfOpen, origin: Origin) -> usize {
        (0..10_000).take_while(|_| gate.handle_dial(origin) == Decision::Begin).count()
    }

    #[test]
    fn ma_11_one_address_holds_at_most_32_handshakes() {
        let mut gate = HalfOpen::default();
        assert_eq!(fill(&mut gate, v4(1, false)) + fill(&mut gate, v4(1, true)), HALF_OPEN_PER_PREFIX);
        assert_eq!(gate.handle_dial(v4(2, false)), Decision::Begin, "a neighbour is not concerned");
    }

    #[test]
    fn ma_11_forged_packets_do_not_lock_out_who_proves_the_address() {
        let mut gate = HalfOpen::default();
        fill(&mut gate, v4(1, false));
        assert_eq!(gate.handle_dial(v4(1, false)), Decision::Retry);
        assert_eq!(gate.handle_dial(v4(1, true)), Decision::Begin);
    }

    #[test]
    fn nw_03_above_a_thousand_handshakes_every_address_must_prove_itself() {
        let mut gate = HalfOpen::default();
        let forged = |n: usize| Origin::new(IpAddr::from([10, 0, (n >> 8) as u8, n as u8]), false);
        assert!((0..HANDSHAKES_RETRY_ABOVE).all(|n| gate.handle_dial(forged(n)) == Decision::Begin));
        assert_eq!(gate.handle_dial(v4(1, false)), Decision::Retry);
        assert_eq!(gate.handle_dial(v4(1, true)), Decision::Begin);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let of = |text: &str| Origin::new(text.parse().unwrap(), false);
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), v4(1, false), "a mapped IPv4 address is that address");
    }

    proptest! {
        #[test]
        fn what_began_and_ended_leaves_nothing(dials in prop::collection::vec((any::<u8>(), any::<bool>()), 0..200)) {
            let mut gate = HalfOpen::default();
            let begun: Vec<Origin> = dials.into_iter().map(|(last, proven)| v4(last % 4, proven))
                .filter(|origin| gate.handle_dial(*origin) == Decision::Begin).collect();
            prop_assert_eq!(gate.total(), begun.len());
            begun.into_iter().for_each(|origin| gate.handle_end(origin));
            prop_assert_eq!(gate.total(), 0);
            prop_assert!(gate.origins.is_empty());
        }
    }
}
