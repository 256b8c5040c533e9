//! How often something may be tried: the generic cell rate algorithm (ITU-T I.371), per key, in bounded memory.
#![deny(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A budget of attempts: `burst` at once, then one more every `every`.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Attempts at once.
    pub burst: u32,
    /// Time in which one attempt comes back.
    pub every: Duration,
}

impl Rate {
    fn depth(self) -> Duration {
        self.every.saturating_mul(self.burst)
    }
}

/// Budgets of many keys. A key costs memory only while its budget is not full; when too many are not, none is admitted any
/// more until some are: a breaker, not a leak.
#[derive(Debug)]
pub struct Budgets<K> {
    rate: Rate,
    keys_max: usize,
    /// When each key's budget will be full again.
    full_at: HashMap<K, Instant>,
}

impl<K: Hash + Eq> Budgets<K> {
    /// Budgets of `rate` for up to `keys_max` keys at once.
    pub fn new(rate: Rate, keys_max: usize) -> Self {
        Self { rate, keys_max, full_at: HashMap::new() }
    }

    /// How long `key` must wait for its next attempt; zero if it need not. Spends nothing.
    pub fn wait(&self, key: &K, now: Instant) -> Duration {
        let full_at = self.full_at.get(key).map_or(now, |at| (*at).max(now));
        let after = full_at + self.rate.every;
        after.saturating_duration_since(now).saturating_sub(self.rate.depth())
    }

    /// Spends one attempt of `key`.
    ///
    /// # Errors
    /// With the time to wait, when there is none; nothing is spent then.
    pub fn spend(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        let wait = self.wait(&key, now);
        if !wait.is_zero() {
            return Err(wait);
        }
        if self.full_at.len() >= self.keys_max && !self.full_at.contains_key(&key) {
            self.full_at.retain(|_, at| *at > now);
            if self.full_at.len() >= self.keys_max {
                return Err(self.rate.every);
            }
        }
        let full_at = self.full_at.entry(key).or_insert(now);
        *full_at = (*full_at).max(now) + self.rate.every;
        Ok(())
    }

    /// Gives one attempt back to `key`: it was a good one.
    pub fn give_back(&mut self, key: &K) {
        if let Some(full_at) = self.full_at.get_mut(key)
            && let Some(earlier) = full_at.checked_sub(self.rate.every)
        {
            *full_at = earlier;
        }
    }

    /// Gives `key` its whole budget back.
    pub fn forgive(&mut self, key: &K) {
        self.full_at.remove(key);
    }
}

/// Budgets that many requests draw on at once.
#[derive(Debug)]
pub struct SharedBudgets<K>(Mutex<Budgets<K>>);

impl<K: Hash + Eq> SharedBudgets<K> {
    /// As [`Budgets::new`].
    pub fn new(rate: Rate, keys_max: usize) -> Self {
        Self(Mutex::new(Budgets::new(rate, keys_max)))
    }

    /// Whether `key` may try now; spends nothing.
    ///
    /// # Errors
    /// With the time to wait.
    pub fn check(&self, key: &K) -> Result<(), Duration> {
        #[expect(clippy::disallowed_methods, reason = "the thin outside of the budgets")]
        let now = Instant::now();
        let wait = self.0.lock().unwrap_or_else(PoisonError::into_inner).wait(key, now);
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// As [`Budgets::spend`], now.
    ///
    /// # Errors
    /// As [`Budgets::spend`].
    pub fn spend(&self, key: K) -> Result<(), Duration> {
        #[expect(clippy::disallowed_methods, reason = "the thin outside of the budgets")]
        let now = Instant::now();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spend(key, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, every: Duration::from_secs(10) };

    /// A moment far enough from the beginning of the clock.
    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
        Instant::now()
    }

    #[test]
    fn a_burst_is_admitted_and_then_one_every_interval() {
        let (mut budgets, now) = (Budgets::new(RATE, 10), start());
        for _ in 0..3 {
            assert_eq!(budgets.spend("a", now), Ok(()));
        }
        assert_eq!(budgets.spend("a", now), Err(Duration::from_secs(10)));
        assert_eq!(budgets.spend("b", now), Ok(()), "keys do not share");
        assert_eq!(budgets.spend("a", now + Duration::from_secs(10)), Ok(()));
        assert_eq!(budgets.spend("a", now + Duration::from_secs(19)), Err(Duration::from_secs(1)));
    }

    #[test]
    fn an_attempt_given_back_can_be_spent_again() {
        let (mut budgets, now) = (Budgets::new(RATE, 10), start());
        while budgets.spend("a", now).is_ok() {}
        budgets.give_back(&"a");
        assert_eq!(budgets.spend("a", now), Ok(()));
        assert!(budgets.spend("a", now).is_err());
    }

    #[test]
    fn a_forgiven_key_begins_anew() {
        let (mut budgets, now) = (Budgets::new(RATE, 10), start());
        while budgets.spend("a", now).is_ok() {}
        budgets.forgive(&"a");
        assert_eq!(budgets.wait(&"a", now), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let (mut budgets, now) = (Budgets::new(RATE, 2), start());
        assert_eq!(budgets.spend(1, now), Ok(()));
        assert_eq!(budgets.spend(2, now), Ok(()));
        assert!(budgets.spend(3, now).is_err());
        assert_eq!(budgets.spend(1, now), Ok(()), "a key already known goes on");
        assert_eq!(budgets.spend(3, now + Duration::from_secs(60)), Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn no_window_ever_holds_more_than_the_burst_and_what_came_back(gaps in proptest::collection::vec(0u64..20, 1..200)) {
            let (mut budgets, begin) = (Budgets::new(RATE, 10), start());
            let (mut now, mut admitted) = (begin, 0u64);
            for gap in gaps {
                now += Duration::from_secs(gap);
                admitted += u64::from(budgets.spend("a", now).is_ok());
            }
            let came_back = now.duration_since(begin).as_secs() / RATE.every.as_secs();
            proptest::prop_assert!(admitted <= u64::from(RATE.burst) + came_back);
        }
    }
}
