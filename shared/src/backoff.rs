//! Reconnect delays: exponential with full jitter, forgotten only after stable uptime.
//!
//! Full jitter (a uniform draw between zero and the cap) spreads a storm of agents better than equal jitter
//! (AWS Architecture Blog, "Exponential Backoff And Jitter").
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

/// Draws delays for one thing that keeps being tried.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    stable: Duration,
    failures: u32,
    up_since: Option<Instant>,
}

impl Backoff {
    /// Delays grow from `base` to `cap`; `stable` of uptime makes the next failure the first again.
    pub fn new(base: Duration, cap: Duration, stable: Duration) -> Self {
        Self { base, cap, stable, failures: 0, up_since: None }
    }

    /// The thing works since `now`.
    pub fn succeeded(&mut self, now: Instant) {
        self.up_since = Some(now);
    }

    /// The thing failed at `now`: how long to wait. `random` is a uniform draw from 0..=`u32::MAX`.
    ///
    /// The first failure after stable uptime is retried at once.
    pub fn failed(&mut self, now: Instant, random: u32) -> Duration {
        if self.up_since.take().is_some_and(|up| now.saturating_duration_since(up) >= self.stable) {
            self.failures = 0;
            return Duration::ZERO;
        }
        let ceiling =
            self.base.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Forgets all failures: the network changed, the machine woke, or a person asked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has a clock")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_is_never_above_the_cap_nor_above_its_ceiling(draws in prop::collection::vec(any::<u32>(), 1..80)) {
            let (base, cap) = (Duration::from_millis(250), Duration::from_secs(30));
            let mut backoff = Backoff::new(base, cap, Duration::from_secs(10));
            let start = Instant::now();
            for (index, draw) in draws.iter().enumerate() {
                let delay = backoff.failed(start, *draw);
                prop_assert!(delay <= cap);
                prop_assert!(delay <= base.saturating_mul(1u32.checked_shl(index as u32).unwrap_or(u32::MAX)));
            }
        }

        #[test]
        fn only_stable_uptime_forgets(failures in 1u32..20, uptime_ms in 0u64..20_000) {
            let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30), Duration::from_secs(10));
            let start = Instant::now();
            for _ in 0..failures { backoff.failed(start, u32::MAX); }
            backoff.succeeded(start);
            let delay = backoff.failed(start + Duration::from_millis(uptime_ms), u32::MAX);
            prop_assert_eq!(delay.is_zero(), uptime_ms >= 10_000);
        }
    }
}
