//! How long a keystroke takes to come back: what a person next to a fault notices of it.

use std::time::{Duration, Instant};

use anyhow::Result;
use uuid::Uuid;

use crate::api::Api;
use crate::viewer::{ViewerClient, terminal};

const SOON: Duration = Duration::from_secs(20);
/// Between two keystrokes: a fast typist's is ten times as long.
const PAUSE: Duration = Duration::from_millis(5);

/// A session whose program sends back what is typed, and nothing else.
#[derive(Debug)]
pub struct Echo {
    viewer: ViewerClient,
}

/// Quantiles of round trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Median.
    pub p50: Duration,
    /// One in a hundred is slower.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

impl Echo {
    /// Opens the session.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn start(api: &Api, machine: Uuid) -> Result<Self> {
        let cat = ["/bin/bash", "-c", "stty raw -echo; echo READY; exec cat"].map(str::to_owned);
        let mut viewer = ViewerClient::open(api, machine, terminal(Some(cat.into()))).await?;
        viewer.wait_for("READY\n", SOON).await?;
        Ok(Self { viewer })
    }

    /// Types one key after the other, each when the one before has come back; the round trips.
    ///
    /// # Errors
    /// When one does not come back.
    pub async fn types(&mut self, keys: usize) -> Result<Vec<Duration>> {
        let mut trips = Vec::with_capacity(keys);
        for _ in 0..keys {
            let began = Instant::now();
            self.viewer.take_output();
            self.viewer.type_bytes(b"x")?;
            self.viewer.until("an echo", SOON, |viewer| !viewer.output().is_empty()).await?;
            trips.push(began.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        Ok(trips)
    }
}

impl Times {
    /// Of none: zero.
    pub fn of(mut trips: Vec<Duration>) -> Self {
        trips.sort_unstable();
        let rank = |part: usize| trips.get((trips.len() * part).div_ceil(100).saturating_sub(1)).copied();
        let at = |part| rank(part).unwrap_or_default();
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_trip_that_was_made() {
        let ms = Duration::from_millis;
        let times = Times::of((1..=200).rev().map(ms).collect());
        assert_eq!(times, Times { p50: ms(100), p99: ms(198), max: ms(200) });
        assert_eq!(Times::of(Vec::new()).max, Duration::ZERO);
    }
}
