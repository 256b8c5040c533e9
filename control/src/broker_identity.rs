//! The embedded broker's certificates, made anew long before they end: a process may run for longer than they live.

use std::time::{Duration, SystemTime};

use rexec_broker::StartError;
use rexec_shared::pki::{Authority, PkiError};
use uuid::Uuid;

use crate::app::App;
use crate::keys::{Keys, KeysError};
use crate::settings::Settings;
use crate::web_identity::WebIdentities;

/// Why browsers' certificates stay as they are.
#[derive(Debug, thiserror::Error)]
enum WebError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Broker(#[from] StartError),
}

/// Age at which it is made anew: a third of its 90 days, so that two tries in three may fail.
const RENEW_AT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often the wall clock is looked at: timers stand still while a laptop sleeps.
const LOOK: Duration = Duration::from_secs(3600);

/// What browsers are shown from the start: what was kept, if it is still young.
pub(crate) fn web_identities(
    settings: &Settings,
    authority: &Authority,
    installation: Uuid,
) -> Result<WebIdentities, KeysError> {
    let now = SystemTime::now();
    let kept = match Keys::web_identities(settings) {
        Some(kept) if !kept.is_due(now) => return Ok(kept),
        Some(kept) => kept.turn(authority, installation, now)?,
        None => WebIdentities::new(authority, installation, now)?,
    };
    Keys::keep_web_identities(settings, &kept)?;
    Ok(kept)
}

/// Keeps the certificates young until the process ends. The one that agents are shown was made just now; `web` is what browsers are shown.
pub(crate) async fn keep_young(app: App, mut web: WebIdentities) {
    let ending = app.parts().ending.clone();
    let mut made = SystemTime::now();
    loop {
        tokio::select! {
            () = ending.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = SystemTime::now();
        if web.is_due(now)
            && let Err(error) = renew_web(&app, &mut web, now)
        {
            tracing::error!(%error, "browsers' certificate cannot be renewed; it is tried again");
        }
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
    let Some(broker) = &parts.broker else { return Ok(()) };
    broker.renew(&parts.keys.authority.broker(parts.installation, now)?)
}

/// Kept first, then shown, then told: what is told is never what is not kept.
fn renew_web(app: &App, web: &mut WebIdentities, now: SystemTime) -> Result<(), WebError> {
    let parts = app.parts();
    let turned = web.turn(&parts.keys.authority, parts.installation, now)?;
    let hashes = turned.hashes()?;
    Keys::keep_web_identities(&parts.settings, &turned)?;
    if let Some(broker) = &parts.broker {
        broker.renew_web(turned.current())?;
    }
    *web = turned;
    parts.web_hashes.send_replace(hashes);
    Ok(())
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
