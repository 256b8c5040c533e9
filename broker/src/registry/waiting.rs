//! Viewers held for a machine whose tunnel is away: most often it is only reconnecting (DESIGN §2).
#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use rexec_shared::limits::HOLD_FOR_TUNNEL;
use uuid::Uuid;

use crate::limits::{HELD_PER_MACHINE, HELD_TOTAL};

/// What waits, in the order it came. Every wait is equally long, so the oldest ends first.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    queue: VecDeque<(Instant, Uuid, T)>,
    per_machine: BTreeMap<Uuid, usize>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), per_machine: BTreeMap::new() }
    }
}

impl<T> Waiting<T> {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Holds `waiter`; gives it back when there is no room.
    pub(super) fn hold(&mut self, machine: Uuid, waiter: T, now: Instant) -> Result<(), T> {
        let held = self.per_machine.get(&machine).copied().unwrap_or_default();
        if held >= HELD_PER_MACHINE || self.queue.len() >= HELD_TOTAL {
            return Err(waiter);
        }
        self.per_machine.insert(machine, held + 1);
        self.queue.push_back((now + HOLD_FOR_TUNNEL, machine, waiter));
        Ok(())
    }

    /// Those of one machine, in the order they came; they wait no longer.
    pub(super) fn take_machine(&mut self, machine: Uuid) -> Vec<T> {
        if !self.per_machine.contains_key(&machine) {
            return Vec::new();
        }
        self.take_if(|of, _| of == machine)
    }

    /// Those that `gone` says so of; they wait no longer.
    pub(super) fn take_if(&mut self, gone: impl Fn(Uuid, &T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for (deadline, machine, waiter) in std::mem::take(&mut self.queue) {
            if gone(machine, &waiter) {
                self.forget(machine);
                taken.push(waiter);
            } else {
                self.queue.push_back((deadline, machine, waiter));
            }
        }
        taken
    }

    /// One whose time is over.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<T> {
        self.queue.front().filter(|(deadline, ..)| *deadline <= now)?;
        let (_, machine, waiter) = self.queue.pop_front()?;
        self.forget(machine);
        Some(waiter)
    }

    /// When the next wait is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queue.front().map(|(deadline, ..)| *deadline)
    }

    fn forget(&mut self, machine: Uuid) {
        if let Some(count) = self.per_machine.get_mut(&machine) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_machine.remove(&machine);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may ask for the time")]
mod tests {
    use super::*;

    #[test]
    fn a_machine_holds_a_bounded_number_and_gives_them_back_in_order() {
        let (mut waiting, now, machine) = (Waiting::default(), Instant::now(), Uuid::from_u128(1));
        for n in 0..HELD_PER_MACHINE {
            waiting.hold(machine, n, now).unwrap();
        }
        assert_eq!(waiting.hold(machine, 99, now), Err(99));
        waiting.hold(Uuid::from_u128(2), 100, now).unwrap();
        assert_eq!(waiting.take_machine(machine), (0..HELD_PER_MACHINE).collect::<Vec<_>>());
        waiting.hold(machine, 99, now).unwrap();
        assert_eq!(waiting.len(), 2);
    }

    #[test]
    fn a_wait_ends_when_its_time_is_over_and_not_before() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.hold(Uuid::from_u128(1), "first", now).unwrap();
        assert_eq!(waiting.deadline(), Some(now + HOLD_FOR_TUNNEL));
        assert_eq!(waiting.take_expired(now), None);
        assert_eq!(waiting.take_expired(now + HOLD_FOR_TUNNEL), Some("first"));
        assert!(waiting.per_machine.is_empty());
    }

    #[test]
    fn those_held_in_all_are_bounded() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let held = (0..10_000u128).filter(|n| waiting.hold(Uuid::from_u128(*n), (), now).is_ok()).count();
        assert_eq!(held, HELD_TOTAL);
    }
}
