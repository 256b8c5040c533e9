//! What a fault cost: a row of the table, and the promises it is held to.

use std::fmt::Display;
use std::time::Duration;

use super::Fault;
use crate::traffic::Outcome;

/// Something that was promised, and what came of it.
#[derive(Debug, Clone)]
pub struct Promise {
    /// What it is about.
    pub what: String,
    /// What was promised.
    pub bar: String,
    /// What was seen.
    pub measured: String,
    /// Whether it was kept.
    pub is_kept: bool,
}

impl Promise {
    /// Something that is so or is not.
    pub fn of(what: &str, bar: impl Display, measured: impl Display, is_kept: bool) -> Self {
        Self { what: what.into(), bar: bar.to_string(), measured: measured.to_string(), is_kept }
    }

    /// Something that takes no longer than `bar`.
    pub fn within(what: &str, bar: Duration, measured: Duration) -> Self {
        Self::of(what, format!("≤ {}", told(bar)), told(measured), measured <= bar)
    }

    fn none(what: &str, count: u64) -> Self {
        Self::of(what, 0, count, count == 0)
    }
}

/// A duration as a person reads it.
pub fn told(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was broken.
    pub fault: Fault,
    /// What became of the bytes.
    pub outcome: Outcome,
    /// Time until typing worked again, from when what was broken was whole again.
    pub back: Duration,
    /// What else was promised of this fault.
    pub also: Vec<Promise>,
}

impl Row {
    /// Everything that was promised. Shells that died have ended the row long before.
    pub fn promises(&self) -> Vec<Promise> {
        let Outcome { tally, typing_equal, gaps, .. } = &self.outcome;
        let typed = if *typing_equal { "equal" } else { "DIFFERS" };
        let mut all = vec![
            Promise::none("output lost", tally.lost + u64::from(*gaps)),
            Promise::none("output doubled", tally.doubled),
            Promise::of("typed bytes, hashed", "equal", typed, *typing_equal),
            Promise::within("typing works again", self.fault.bar(), self.back),
        ];
        all.extend(self.also.iter().cloned());
        all
    }

    /// Whether all of it was kept.
    pub fn is_kept(&self) -> bool {
        self.promises().iter().all(|promise| promise.is_kept)
    }
}
