//! Notices that the machine slept: the wall clock ran on while timers stood still.

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

/// How often the clocks are compared.
const LOOK: Duration = Duration::from_secs(2);
/// Difference that is a sleep and not a busy machine or a clock being set right.
const SLEPT: Duration = Duration::from_secs(5);

/// Changes the watched number each time the machine has slept.
pub(super) async fn watch_for_sleep(woke: watch::Sender<u64>) {
    let mut before = (Instant::now(), SystemTime::now());
    loop {
        sleep(LOOK).await;
        let now = (Instant::now(), SystemTime::now());
        if slept(before, now) {
            tracing::info!("the machine slept; probing the path");
            woke.send_modify(|count| *count += 1);
        }
        before = now;
    }
}

/// Whether the wall clock ran away from the timers. A clock set forward looks the same, and costs one early ping.
fn slept(before: (Instant, SystemTime), now: (Instant, SystemTime)) -> bool {
    let monotonic = now.0.saturating_duration_since(before.0);
    now.1.duration_since(before.1).is_ok_and(|wall| wall > monotonic + SLEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_told_from_a_busy_machine_and_from_a_clock_set_back() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let after = |monotonic: u64, wall_s: u64| {
            (start + Duration::from_secs(monotonic), wall + Duration::from_secs(wall_s))
        };
        assert!(slept((start, wall), after(2, 3600)));
        assert!(!slept((start, wall), after(60, 61)));
        assert!(!slept((start, wall + Duration::from_secs(100)), after(2, 2)));
    }
}
