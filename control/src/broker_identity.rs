//! The embedded broker's certificate, made anew long before it ends: a process may run for longer than the certificate lives.

use std::time::{Duration, SystemTime};

use rexec_broker::StartError;

use crate::app::App;

/// Age at which it is made anew: a third of its 90 days, so that two tries in three may fail.
const RENEW_AT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often the wall clock is looked at: timers stand still while a laptop sleeps.
const LOOK: Duration = Duration::from_secs(3600);

/// Keeps the certificate young until the process ends. The one that the broker was started with was made just now.
pub(crate) async fn keep_young(app: App) {
    let ending = app.parts().ending.clone();
    let mut made = SystemTime::now();
    loop {
        tokio::select! {
            () = ending.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = SystemTime::now();
        if is_due(made, now) {
            match renew(&app, now) {
                Ok(()) => made = now,
                Err(error) => {
                    tracing::error!(%error, "the broker's certificate cannot be renewed; it is tried again")
                }
            }
        }
    }
}

fn renew(app: &App, now: SystemTime) -> Result<(), StartError> {
    let parts = app.parts();
    parts.broker.renew(&parts.keys.authority.broker(parts.installation, now)?)
}

/// A clock that was set back makes it due as well: what was made in the future is good for nobody.
fn is_due(made: SystemTime, now: SystemTime) -> bool {
    now.duration_since(made).map_or(true, |age| age >= RENEW_AT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_anew_at_a_third_of_its_life_and_when_the_clock_was_set_back() {
        let made = SystemTime::now();
        assert!(!is_due(made, made + RENEW_AT - LOOK));
        assert!(is_due(made, made + RENEW_AT));
        assert!(is_due(made, made - LOOK));
    }
}
