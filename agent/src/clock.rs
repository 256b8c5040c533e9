//! How far this machine's clock is from control's, seen through one request.
#![deny(clippy::disallowed_methods)]

use std::fmt;
use std::time::Duration;

use rexec_shared::limits::CLOCK_SKEW;

/// This machine's clock against control's: positive milliseconds are ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew(i64);

impl Skew {
    /// From control's clock in an answer, and our own before the request and after the answer; all in Unix milliseconds.
    ///
    /// Control read its clock somewhere in between, so what lies in between is no difference at all.
    pub fn measure(theirs: u64, before: u64, after: u64) -> Self {
        let [theirs, before, after] =
            [theirs, before, after].map(|time| i64::try_from(time).unwrap_or(i64::MAX));
        Self(if theirs < before {
            before.saturating_sub(theirs)
        } else {
            after.saturating_sub(theirs).min(0)
        })
    }

    /// Milliseconds; positive ones are ahead.
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Whether tickets would be refused for it.
    pub fn is_harmful(self) -> bool {
        self.is_over(CLOCK_SKEW)
    }

    /// Whether it is half-way to harm: a clock that runs by itself will get there.
    pub fn is_notable(self) -> bool {
        self.is_over(CLOCK_SKEW / 2)
    }

    fn is_over(self, limit: Duration) -> bool {
        u128::from(self.0.unsigned_abs()) > limit.as_millis()
    }

    /// What to tell a person, when it is harmful.
    pub fn complaint(self) -> Option<String> {
        self.is_harmful().then(|| {
            format!("this machine's clock is {self} the server's, and tickets are good for a minute: set it, for instance by `timedatectl set-ntp true`")
        })
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.unsigned_abs() / 1000;
        let side = if self.0 < 0 { "behind" } else { "ahead of" };
        match seconds {
            0..120 => write!(f, "{seconds} s {side}"),
            120..7200 => write!(f, "{} min {side}", seconds / 60),
            7200..172_800 => write!(f, "{} h {side}", seconds / 3600),
            _ => write!(f, "{} days {side}", seconds / 86_400),
        }
    }
}

/// This machine's clock, Unix milliseconds.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock for those who compare it")]
pub fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_skew() {
        assert_eq!(Skew::measure(150_000, 100_000, 300_000), Skew(0));
    }

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much_and_to_which_side() {
        let behind = Skew::measure(10_000_000, 900_000, 1_000_000);
        assert!(behind.is_harmful());
        assert_eq!(behind.to_string(), "2 h behind");
        let ahead = Skew::measure(100_000, 190_000, 191_000);
        assert_eq!(ahead.to_string(), "90 s ahead of");
        assert!(!Skew::measure(100_000, 160_000, 161_000).is_harmful());
        assert_eq!(Skew::measure(u64::MAX, 0, 1).to_string(), "106751991167 days behind");
    }
}
