//! What control is still to be told.
//!
//! Control may be slow or away, tunnels may flap meanwhile: per machine only what still matters is kept, at most one event of each
//! kind, in the order `TunnelUp`, `Presence`, `TunnelDown`. So the outbox is bounded by the machines there are, and the newest presence is
//! never lost. Stream events are kept in order up to a limit; what is lost is counted.
#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, VecDeque};

use rexec_shared::broker_link::FromBroker;
use uuid::Uuid;

use crate::limits::STREAM_EVENTS_MAX;

/// What a machine's tunnel is to be told about, each at its newest.
#[derive(Debug, Default)]
struct Slot {
    up: Option<FromBroker>,
    presence: Option<FromBroker>,
    down: Option<FromBroker>,
}

impl Slot {
    fn take(&mut self) -> Option<FromBroker> {
        self.up.take().or_else(|| self.presence.take()).or_else(|| self.down.take())
    }

    fn is_empty(&self) -> bool {
        self.up.is_none() && self.presence.is_none() && self.down.is_none()
    }
}

/// The events waiting.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    slots: BTreeMap<Uuid, Slot>,
    /// Machines with something in their slot, each once, in the order they came.
    turn: VecDeque<Uuid>,
    others: VecDeque<FromBroker>,
    /// What comes before everything else.
    first: Option<FromBroker>,
    /// Whose turn it is, so that neither queue starves the other.
    others_next: bool,
    lost: usize,
}

impl Outbox {
    /// Adds an event; it replaces what it makes void.
    pub(super) fn push(&mut self, event: FromBroker) {
        match event {
            FromBroker::TunnelUp { machine, .. } => {
                *self.slot(machine) = Slot { up: Some(event), ..Slot::default() };
            }
            FromBroker::Presence { machine, .. } => self.slot(machine).presence = Some(event),
            FromBroker::TunnelDown { machine, .. } => {
                let slot = self.slot(machine);
                slot.presence = None;
                slot.down = Some(event);
            }
            FromBroker::Stream { .. } | FromBroker::DialRefused { .. } => self.push_other(event),
            FromBroker::Standing { .. } => self.first = Some(event),
            // They wait nowhere: see `Task::tell_samples`.
            FromBroker::Samples { .. } => {}
        }
    }

    /// Forgets what was still to be said of tunnels: `standing` makes it void, and is said first.
    pub(super) fn begin_anew(&mut self, standing: FromBroker) {
        self.slots.clear();
        self.turn.clear();
        self.push(standing);
    }

    /// The next event for control.
    pub(super) fn pop(&mut self) -> Option<FromBroker> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        self.others_next = !self.others_next;
        if self.others_next {
            self.others.pop_front().or_else(|| self.pop_slot())
        } else {
            self.pop_slot().or_else(|| self.others.pop_front())
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.turn.is_empty() && self.others.is_empty()
    }

    /// Events that found no room since this was last asked.
    pub(super) fn take_lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    fn pop_slot(&mut self) -> Option<FromBroker> {
        let machine = self.turn.pop_front()?;
        let slot = self.slots.get_mut(&machine)?;
        let event = slot.take();
        if slot.is_empty() {
            self.slots.remove(&machine);
        } else {
            self.turn.push_back(machine);
        }
        event
    }

    fn push_other(&mut self, event: FromBroker) {
        if self.others.len() < STREAM_EVENTS_MAX {
            self.others.push_back(event);
        } else {
            self.lost += 1;
        }
    }

    fn slot(&mut self, machine: Uuid) -> &mut Slot {
        let slot = self.slots.entry(machine).or_default();
        if slot.is_empty() {
            self.turn.push_back(machine);
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn up(machine: Uuid, tunnel: u64) -> FromBroker {
        FromBroker::TunnelUp {
            machine,
            org: Uuid::nil(),
            tunnel,
            address: String::new(),
            transport: "quic".into(),
            transport_reason: None,
            agent_version: String::new(),
            os: String::new(),
            arch: String::new(),
            hostname: String::new(),
            sessions: Vec::new(),
        }
    }

    fn down(machine: Uuid, tunnel: u64) -> FromBroker {
        FromBroker::TunnelDown { machine, tunnel, reason: String::new() }
    }

    fn presence(machine: Uuid, tunnel: u64, rtt_ms: f64) -> FromBroker {
        FromBroker::Presence { machine, tunnel, sessions: Vec::new(), rtt_ms: Some(rtt_ms) }
    }

    fn drained(outbox: &mut Outbox) -> Vec<FromBroker> {
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    #[test]
    fn the_newest_presence_is_kept_and_comes_after_its_tunnel() {
        let (mut outbox, machine) = (Outbox::default(), Uuid::from_u128(1));
        outbox.push(up(machine, 1));
        (0..100).for_each(|n| outbox.push(presence(machine, 1, f64::from(n))));
        assert_eq!(drained(&mut outbox), [up(machine, 1), presence(machine, 1, 99.0)]);
    }

    #[test]
    fn a_new_tunnel_makes_void_what_was_still_to_be_said_of_the_old_one() {
        let (mut outbox, machine) = (Outbox::default(), Uuid::from_u128(1));
        outbox.push(presence(machine, 1, 1.0));
        outbox.push(down(machine, 1));
        outbox.push(up(machine, 2));
        assert_eq!(drained(&mut outbox), [up(machine, 2)]);
    }

    #[test]
    fn what_stands_is_told_first_and_makes_void_what_was_still_to_be_said() {
        let (mut outbox, [a, b]) = (Outbox::default(), [1, 2].map(Uuid::from_u128));
        outbox.push(up(a, 1));
        outbox.push(down(b, 2));
        let standing = FromBroker::Standing { machines: vec![a] };
        outbox.begin_anew(standing.clone());
        outbox.push(up(a, 1));
        outbox.push(presence(a, 1, 1.0));
        assert_eq!(drained(&mut outbox), [standing, up(a, 1), presence(a, 1, 1.0)]);
        assert!(outbox.is_empty());
    }

    proptest! {
        /// Control, told late and little by little, ends with the same belief as if told everything at once.
        #[test]
        fn a_slow_control_ends_with_the_right_belief(steps in prop::collection::vec((0u128..3, any::<bool>(), any::<bool>()), 0..200)) {
            let (mut outbox, mut truth, mut belief) = (Outbox::default(), BTreeMap::new(), BTreeMap::new());
            let mut hear = |event: FromBroker| {
                if let FromBroker::TunnelUp { machine, tunnel, .. } = event {
                    belief.insert(machine, tunnel);
                } else if let FromBroker::TunnelDown { machine, tunnel, .. } = event
                    && belief.get(&machine) == Some(&tunnel)
                {
                    belief.remove(&machine);
                }
            };
            for (number, (machine, alive, read)) in (1..).zip(steps) {
                let machine = Uuid::from_u128(machine);
                if alive {
                    truth.insert(machine, number);
                    outbox.push(up(machine, number));
                } else if let Some(tunnel) = truth.remove(&machine) {
                    outbox.push(down(machine, tunnel));
                }
                if read {
                    outbox.pop().into_iter().for_each(&mut hear);
                }
            }
            drained(&mut outbox).into_iter().for_each(&mut hear);
            prop_assert!(outbox.is_empty() && outbox.slots.is_empty());
            prop_assert_eq!(belief, truth);
        }
    }
}
