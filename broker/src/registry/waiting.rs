//! Viewers held for a machine whose tunnel is away: most often it is only reconnecting (DESIGN §2).
#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rexec_shared::limits::HOLD_FOR_TUNNEL;
use uuid::Uuid;

use crate::limits::{HELD_PER_MACHINE, HELD_TOTAL};

#[derive(Debug)]
struct Waiter<T> {
    deadline: Instant,
    machine: Uuid,
    what: T,
}

/// What waits, in the order it came. Every wait is equally long, so the oldest ends first.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    /// By a number that grows.
    waiters: BTreeMap<u64, Waiter<T>>,
    /// The numbers of each machine's, so that a tunnel that comes up looks at its own alone.
    machines: BTreeMap<Uuid, VecDeque<u64>>,
    last: u64,
    hold_for: Duration,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { waiters: BTreeMap::new(), machines: BTreeMap::new(), last: 0, hold_for: HOLD_FOR_TUNNEL }
    }
}

impl<T> Waiting<T> {
    /// How long those wait that come from here on. One that waits behind an older and longer wait ends with it.
    pub(super) fn set_hold(&mut self, hold_for: Duration) {
        self.hold_for = hold_for;
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Holds `waiter`; gives it back when there is no room. Those that `left` says so of make room first.
    pub(super) fn hold(
        &mut self,
        machine: Uuid,
        waiter: T,
        now: Instant,
        left: impl Fn(&T) -> bool,
    ) -> Result<(), T> {
        self.drop_left(machine, &left);
        if self.waiters.len() >= HELD_TOTAL {
            self.take_if(left);
        }
        if self.held(machine) >= HELD_PER_MACHINE || self.waiters.len() >= HELD_TOTAL {
            return Err(waiter);
        }
        self.last += 1;
        self.waiters.insert(self.last, Waiter { deadline: now + self.hold_for, machine, what: waiter });
        self.machines.entry(machine).or_default().push_back(self.last);
        Ok(())
    }

    /// Those of one machine, in the order they came; they wait no longer.
    pub(super) fn take_machine(&mut self, machine: Uuid) -> Vec<T> {
        let numbers = self.machines.remove(&machine).unwrap_or_default();
        numbers.iter().filter_map(|number| self.waiters.remove(number)).map(|waiter| waiter.what).collect()
    }

    /// Those that `gone` says so of; they wait no longer.
    pub(super) fn take_if(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        let taken: Vec<_> = self.waiters.extract_if(.., |_, waiter| gone(&waiter.what)).collect();
        for (number, waiter) in &taken {
            self.forget(waiter.machine, *number);
        }
        taken.into_iter().map(|(_, waiter)| waiter.what).collect()
    }

    /// One whose time is over.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<T> {
        let oldest = self.waiters.first_entry().filter(|oldest| oldest.get().deadline <= now)?;
        let (number, waiter) = oldest.remove_entry();
        self.forget(waiter.machine, number);
        Some(waiter.what)
    }

    /// When the next wait is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiters.first_key_value().map(|(_, waiter)| waiter.deadline)
    }

    fn held(&self, machine: Uuid) -> usize {
        self.machines.get(&machine).map_or(0, VecDeque::len)
    }

    fn drop_left(&mut self, machine: Uuid, left: impl Fn(&T) -> bool) {
        let Some(numbers) = self.machines.get_mut(&machine) else { return };
        numbers.retain(|number| {
            let gone = self.waiters.get(number).is_none_or(|waiter| left(&waiter.what));
            if gone {
                self.waiters.remove(number);
            }
            !gone
        });
    }

    fn forget(&mut self, machine: Uuid, number: u64) {
        if let Some(numbers) = self.machines.get_mut(&machine) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.machines.remove(&machine);
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
            waiting.hold(machine, n, now, |_| false).unwrap();
        }
        assert_eq!(waiting.hold(machine, 99, now, |_| false), Err(99));
        waiting.hold(Uuid::from_u128(2), 100, now, |_| false).unwrap();
        assert_eq!(waiting.take_machine(machine), (0..HELD_PER_MACHINE).collect::<Vec<_>>());
        waiting.hold(machine, 99, now, |_| false).unwrap();
        assert_eq!(waiting.len(), 2);
    }

    #[test]
    fn a_wait_ends_when_its_time_is_over_and_not_before() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.hold(Uuid::from_u128(1), "first", now, |_| false).unwrap();
        assert_eq!(waiting.deadline(), Some(now + HOLD_FOR_TUNNEL));
        assert_eq!(waiting.take_expired(now), None);
        assert_eq!(waiting.take_expired(now + HOLD_FOR_TUNNEL), Some("first"));
        assert!(waiting.machines.is_empty());
    }

    #[test]
    fn those_held_in_all_are_bounded() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let held = (0..10_000u128)
            .filter(|n| waiting.hold(Uuid::from_u128(*n), (), now, |()| false).is_ok())
            .count();
        assert_eq!(held, HELD_TOTAL);
    }

    #[test]
    fn those_that_left_make_room_for_who_comes() {
        let (mut waiting, now, machine) = (Waiting::default(), Instant::now(), Uuid::from_u128(1));
        for n in 0..HELD_PER_MACHINE {
            waiting.hold(machine, n, now, |_| false).unwrap();
        }
        waiting.hold(machine, 99, now, |n| *n < 10).unwrap();
        assert_eq!(waiting.len(), HELD_PER_MACHINE - 10 + 1);
        let expected: Vec<_> = (10..HELD_PER_MACHINE).chain([99]).collect();
        assert_eq!(waiting.take_machine(machine), expected);
        assert!(waiting.machines.is_empty() && waiting.waiters.is_empty());
    }
}
