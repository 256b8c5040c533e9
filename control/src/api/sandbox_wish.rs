//! What is asked for when a sandbox is made: the wish, held against what is allowed here.

use std::time::Duration;

use rexec_shared::text::shown;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::sandbox_options::Ceilings;
use crate::app::App;
use crate::auth::signed_in::SignedIn;
use crate::entity::{SandboxNetwork, SnapshotState, snapshot};
use crate::error::ApiError;
use crate::limits::{
    SANDBOX_ALLOW_MAX, SANDBOX_IDLE_MIN_S, SANDBOX_LIFE_MIN_S, SANDBOX_PIDS, SANDBOX_PIDS_DEFAULT,
};
use crate::sandboxes::images;
use crate::sandboxes::presets::BARE;
use crate::sandboxes::proxy;
use crate::sandboxes::rows::New;
use crate::sandboxes::view::Allowed;
use crate::time::Timestamp;
use crate::words::{self, NAME_GRAMMAR};

/// What images of snapshots begin with: they are their organisations', whatever an operator allows.
const SNAPSHOTS: &str = "rexec-snapshot";

/// The sandbox wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SandboxWish {
    /// Chosen by the caller, so that a repeated request makes no second sandbox.
    id: Option<Uuid>,
    /// 1 to 63 of letters, digits, `.`, `_` and `-`, beginning with a letter or digit; made from the image when left out.
    name: Option<String>,
    /// One of the images allowed here; not with a snapshot.
    image: Option<String>,
    /// A snapshot, root and home, to make it of instead of an image.
    snapshot: Option<Uuid>,
    /// Thousandths of a processor.
    cpus_milli: u32,
    /// Memory, MiB.
    memory_mb: u32,
    /// Processes and threads; 256 when left out.
    pids: Option<u32>,
    /// What it may reach.
    network: SandboxNetwork,
    /// Where a restricted one may go.
    #[serde(default)]
    allow: Vec<Allowed>,
    /// What is set up in it at first.
    preset: Option<String>,
    /// A home that was kept, instead of a fresh one.
    volume: Option<Uuid>,
    /// It is deleted after so many seconds.
    lifetime_s: Option<u32>,
    /// Without a session for so many seconds it is stopped.
    idle_stop_s: Option<u32>,
}

pub(super) fn checked(
    app: &App,
    caller: &SignedIn,
    wish: SandboxWish,
    image: String,
    now: Timestamp,
) -> Result<New, ApiError> {
    let settings = &app.settings().sandboxes;
    if wish.name.as_ref().is_some_and(|name| !words::is_name(name)) {
        return Err(ApiError::invalid("name", format!("a name is {NAME_GRAMMAR}")));
    }
    let allow = allowed_targets(app, wish.network, wish.allow)?;
    let preset = wish.preset.filter(|preset| preset != BARE);
    if preset.as_ref().is_some_and(|wished| settings.presets.iter().all(|preset| preset.id != *wished)) {
        return Err(ApiError::invalid("preset", "there is no such preset here")
            .hint("choose one of /api/sandbox-options"));
    }
    let ceilings = Ceilings::of(app);
    Ok(New {
        id: wish.id.unwrap_or_else(Uuid::new_v4),
        name: wish.name,
        family: images::shown(&image).family,
        cpus_milli: ceilings.cpus(wish.cpus_milli)?,
        memory_mb: ceilings.memory(wish.memory_mb)?,
        pids: pids(wish.pids.unwrap_or(SANDBOX_PIDS_DEFAULT))?,
        image,
        network: wish.network,
        allow,
        preset,
        snapshot: wish.snapshot,
        volume: wish.volume,
        expires_at: life(app, wish.lifetime_s)?.map(|life| now.plus(life)),
        idle_stop_s: idle(app, wish.idle_stop_s)?,
        made_by: caller.person.id,
    })
}

/// Reference of the image it is of: one that is allowed, or the one its snapshot's sandbox was of.
pub(super) async fn image_of(app: &App, caller: &SignedIn, wish: &SandboxWish) -> Result<String, ApiError> {
    match (&wish.image, wish.snapshot) {
        (Some(image), None) => {
            let rules = &app.settings().sandboxes.images;
            let allowed = images::is_reference(image)
                && !image.starts_with(SNAPSHOTS)
                && rules.iter().any(|rule| rule.allows(image));
            allowed.then(|| image.clone()).ok_or_else(|| {
                ApiError::invalid("image", "sandboxes may not be of this image here").hint(
                    "choose one of /api/sandbox-options, or have the operator add it to REXEC_SANDBOX_IMAGES",
                )
            })
        }
        (None, Some(id)) => {
            let row = caller.scope().row::<snapshot::Entity>(id).one(app.db()).await?;
            let usable = row.filter(|row| matches!(row.state, SnapshotState::Ready | SnapshotState::Saving));
            let none = || ApiError::invalid("snapshot", "there is no such snapshot, or it cannot be used");
            usable.map(|row| row.image).ok_or_else(none)
        }
        (Some(_), Some(_)) => Err(ApiError::invalid("snapshot", "either an image or a snapshot")),
        (None, None) => Err(ApiError::invalid("image", "an image or a snapshot is needed")),
    }
}

/// The list of a restricted one.
fn allowed_targets(
    app: &App,
    network: SandboxNetwork,
    allow: Vec<Allowed>,
) -> Result<Vec<Allowed>, ApiError> {
    if network != SandboxNetwork::Restricted {
        let none = || ApiError::invalid("allow", "a list belongs to the network `restricted` alone");
        return if allow.is_empty() { Ok(allow) } else { Err(none()) };
    }
    if !app.parts().sandboxes.has_proxy() {
        return Err(ApiError::invalid("network", "the proxy that `restricted` needs does not listen")
            .hint("choose `none` or `open`; the operator finds out more from control's log, and sets REXEC_SANDBOX_PROXY_PORT"));
    }
    if !(1..=SANDBOX_ALLOW_MAX).contains(&allow.len()) {
        let detail = format!("a restricted sandbox has a list of 1 to {SANDBOX_ALLOW_MAX} targets");
        return Err(ApiError::invalid("allow", detail));
    }
    let said: Vec<String> =
        allow.iter().map(|entry| format!("{}:{}", shown(&entry.host, 80), entry.port)).collect();
    proxy::checked(allow).map_err(|(at, why)| {
        let said = said.get(at).map_or("", String::as_str);
        ApiError::invalid("allow", format!("entry {} (`{said}`): {why}", at + 1))
    })
}

pub(super) fn pids(wished: u32) -> Result<i32, ApiError> {
    let within = SANDBOX_PIDS.contains(&wished).then(|| i32::try_from(wished).ok()).flatten();
    within.ok_or_else(|| {
        let (least, most) = (SANDBOX_PIDS.start(), SANDBOX_PIDS.end());
        ApiError::invalid("pids", format!("a sandbox has from {least} to {most} processes"))
    })
}

/// How long it lives; 0 and nothing are as long as is allowed.
pub(super) fn life(app: &App, wished: Option<u32>) -> Result<Option<Duration>, ApiError> {
    let most = app.settings().sandboxes.life_max;
    within("lifetime_s", wished, SANDBOX_LIFE_MIN_S, most)
}

/// After how many idle seconds it is stopped; 0 and nothing are as late as is allowed.
pub(super) fn idle(app: &App, wished: Option<u32>) -> Result<Option<i32>, ApiError> {
    let most = app.settings().sandboxes.idle_stop_max;
    let idle = within("idle_stop_s", wished, SANDBOX_IDLE_MIN_S, most)?;
    Ok(idle.map(|idle| i32::try_from(idle.as_secs()).unwrap_or(i32::MAX)))
}

fn within(
    field: &str,
    wished: Option<u32>,
    least: u32,
    most: Option<Duration>,
) -> Result<Option<Duration>, ApiError> {
    let Some(wished) = wished.filter(|wished| *wished > 0) else { return Ok(most) };
    let span = Duration::from_secs(u64::from(wished));
    if wished < least {
        return Err(ApiError::invalid(field, format!("at least {least} seconds")));
    }
    match most {
        Some(most) if span > most => {
            Err(ApiError::invalid(field, format!("at most {} seconds here", most.as_secs())))
        }
        Some(_) | None => Ok(Some(span)),
    }
}
