//! `GET /api/sandbox-options`: whether sandboxes can be made here, of what, and how large.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use sea_orm::PaginatorTrait as _;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::signed_in::SignedIn;
use crate::entity::SandboxNetwork;
use crate::error::{ApiError, Problem};
use crate::limits::{SANDBOX_CPUS_MILLI_MIN, SANDBOX_MEMORY_MB_MIN};
use crate::sandboxes::images::{ImageRule, shown};
use crate::sandboxes::presets::{BARE, Preset};
use crate::sandboxes::rows::{self, POOL};
use crate::sandboxes::settings::{NoEngine, SandboxSettings};
use crate::sandboxes::unreachable_control;

/// What can be chosen for a sandbox.
#[derive(Debug, Serialize, ToSchema)]
pub struct SandboxOptions {
    /// Whether sandboxes can be made.
    pub enabled: bool,
    /// Why not, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What they may be of.
    pub images: Vec<ImageOption>,
    /// Sizes that fit.
    pub sizes: Vec<SizeOption>,
    /// What they may reach.
    pub networks: Vec<SandboxNetwork>,
    /// What can be set up in them at first.
    pub presets: Vec<PresetOption>,
    /// How many and how large.
    pub limits: SandboxLimits,
    /// Where they are made.
    pub pools: Vec<PoolOption>,
}

/// An image.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImageOption {
    /// What to ask for.
    pub reference: String,
    /// What to show.
    pub name: String,
    /// For an icon: `ubuntu`.
    pub family: String,
    /// `24.04`.
    pub version: String,
    /// Whether the engine has it already.
    pub present: bool,
}

/// A size.
#[derive(Debug, Serialize, ToSchema)]
pub struct SizeOption {
    /// Its id.
    pub id: &'static str,
    /// What to show.
    pub name: &'static str,
    /// Thousandths of a processor.
    pub cpus_milli: u32,
    /// Memory, MiB.
    pub memory_mb: u32,
    /// Processes and threads.
    pub pids: u32,
}

/// Something set up at first.
#[derive(Debug, Serialize, ToSchema)]
pub struct PresetOption {
    /// Its id.
    pub id: String,
    /// What to show.
    pub name: String,
}

/// How many sandboxes and how large.
#[derive(Debug, Serialize, ToSchema)]
pub struct SandboxLimits {
    /// Sandboxes of the organisation at most.
    pub sandboxes_max: u32,
    /// Sandboxes it has.
    pub in_use: u64,
    /// Thousandths of a processor of one.
    pub cpus_milli_max: u32,
    /// MiB of one.
    pub memory_mb_max: u32,
    /// Longest life, seconds; none: no limit.
    pub lifetime_s_max: Option<u64>,
    /// Latest stop of an idle one, seconds; none: no limit.
    pub idle_stop_s_max: Option<u64>,
}

/// Where sandboxes are made.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolOption {
    /// Its id.
    pub id: &'static str,
    /// Where it is.
    pub region: &'static str,
    /// Whether its engine answers.
    pub healthy: bool,
}

/// Sizes offered, as far as they fit.
const SIZES: [SizeOption; 4] = [
    SizeOption { id: "tiny", name: "Tiny", cpus_milli: 500, memory_mb: 512, pids: 256 },
    SizeOption { id: "small", name: "Small", cpus_milli: 1_000, memory_mb: 1_024, pids: 256 },
    SizeOption { id: "medium", name: "Medium", cpus_milli: 2_000, memory_mb: 4_096, pids: 512 },
    SizeOption { id: "large", name: "Large", cpus_milli: 4_000, memory_mb: 8_192, pids: 1_024 },
];

/// How large one sandbox may be: the operator's word, and never more than the engine has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ceilings {
    cpus_milli: u32,
    memory_mb: u32,
}

impl Ceilings {
    pub(super) fn of(app: &App) -> Self {
        let settings = &app.settings().sandboxes;
        let (mut cpus_milli, mut memory_mb) = (settings.cpus_milli_max, settings.memory_mb_max);
        if let Some(Ok(health)) = app.parts().sandboxes.health() {
            cpus_milli = cpus_milli.min(health.cpus.saturating_mul(1_000));
            memory_mb = memory_mb.min(u32::try_from(health.memory_mb).unwrap_or(u32::MAX));
        }
        Self { cpus_milli, memory_mb }
    }

    pub(super) fn cpus(self, wished: u32) -> Result<i32, ApiError> {
        let range = SANDBOX_CPUS_MILLI_MIN..=self.cpus_milli;
        in_range("cpus_milli", wished, range, "thousandths of a processor")
    }

    pub(super) fn memory(self, wished: u32) -> Result<i32, ApiError> {
        in_range("memory_mb", wished, SANDBOX_MEMORY_MB_MIN..=self.memory_mb, "MiB of memory")
    }
}

fn in_range(
    field: &str,
    wished: u32,
    range: std::ops::RangeInclusive<u32>,
    unit: &str,
) -> Result<i32, ApiError> {
    let within = range.contains(&wished).then(|| i32::try_from(wished).ok()).flatten();
    within.ok_or_else(|| {
        ApiError::invalid(
            field,
            format!("a sandbox has from {} to {} {unit} here", range.start(), range.end()),
        )
    })
}

/// What can be chosen for a sandbox.
#[utoipa::path(
    get,
    path = "/api/sandbox-options",
    tag = "sandboxes",
    responses((status = 200, body = SandboxOptions), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn get_sandbox_options(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Json<SandboxOptions>, ApiError> {
    let (settings, ceilings) = (&app.settings().sandboxes, Ceilings::of(&app));
    let reason = off_because(&app);
    let fits =
        |size: &SizeOption| size.cpus_milli <= ceilings.cpus_milli && size.memory_mb <= ceilings.memory_mb;
    let has_engine = app.parts().sandboxes.engine().is_ok();
    let healthy = app.parts().sandboxes.health().is_some_and(|health| health.is_ok());
    let pools = has_engine.then_some(PoolOption { id: POOL, region: POOL, healthy });
    Ok(Json(SandboxOptions {
        enabled: reason.is_none(),
        reason,
        images: images(&app).await,
        sizes: SIZES.into_iter().filter(fits).collect(),
        networks: networks(&app),
        presets: presets(settings),
        limits: SandboxLimits {
            sandboxes_max: settings.count_max,
            in_use: rows::counted(caller.scope()).count(app.db()).await?,
            cpus_milli_max: ceilings.cpus_milli,
            memory_mb_max: ceilings.memory_mb,
            lifetime_s_max: settings.life_max.map(|life| life.as_secs()),
            idle_stop_s_max: settings.idle_stop_max.map(|idle| idle.as_secs()),
        },
        pools: pools.into_iter().collect(),
    }))
}

/// Nothing at all, and what the operator and we have scripts for.
fn presets(settings: &SandboxSettings) -> Vec<PresetOption> {
    let bare = PresetOption { id: BARE.to_owned(), name: "Bare".to_owned() };
    let option = |preset: &Preset| PresetOption { id: preset.id.clone(), name: preset.name.clone() };
    std::iter::once(bare).chain(settings.presets.iter().map(option)).collect()
}

/// A restricted network is one with a proxy.
fn networks(app: &App) -> Vec<SandboxNetwork> {
    let mut networks = vec![SandboxNetwork::Open, SandboxNetwork::None];
    if app.parts().sandboxes.has_proxy() {
        networks.push(SandboxNetwork::Restricted);
    }
    networks
}

async fn images(app: &App) -> Vec<ImageOption> {
    let exact = app.settings().sandboxes.images.iter().filter_map(|rule| match rule {
        ImageRule::Exact(reference) => Some(reference.clone()),
        ImageRule::Prefix(_) => None,
    });
    let references: Vec<String> = exact.collect();
    let present = present(app, &references).await;
    let option = |reference: String| {
        let shown = shown(&reference);
        let present = present.get(&reference).copied().unwrap_or(false);
        ImageOption { reference, name: shown.name, family: shown.family, version: shown.version, present }
    };
    references.into_iter().map(option).collect()
}

/// Which of them the engine has; none of them while it is away.
async fn present(app: &App, references: &[String]) -> BTreeMap<String, bool> {
    let sandboxes = &app.parts().sandboxes;
    let (Ok(engine), Some(Ok(_))) = (sandboxes.engine(), sandboxes.health()) else { return BTreeMap::new() };
    let asked = references.iter().map(|reference| async move {
        (reference.clone(), engine.has_image(reference).await.unwrap_or(false))
    });
    futures_util::future::join_all(asked).await.into_iter().collect()
}

/// Why no sandbox can be made.
fn off_because(app: &App) -> Option<String> {
    let sandboxes = &app.parts().sandboxes;
    match sandboxes.engine() {
        Err(NoEngine::SwitchedOff) => Some("sandboxes are switched off: set REXEC_SANDBOX_ENGINE to Docker's socket".to_owned()),
        Err(NoEngine::NotFound) => Some("there is no container engine at /var/run/docker.sock: install Docker, or set REXEC_SANDBOX_ENGINE to the socket of Docker or Podman".to_owned()),
        Ok(_) => match (unreachable_control(app), sandboxes.health()) {
            (Some(reason), _) => Some(reason.to_owned()),
            (None, Some(Err(said))) => Some(format!("the container engine does not answer: {said}")),
            (None, Some(Ok(_)) | None) => None,
        },
    }
}

/// # Errors
/// When no sandbox can ever come up here. An engine that is away for a while only makes it wait.
pub(super) fn demand_enabled(app: &App) -> Result<(), ApiError> {
    let off = app.parts().sandboxes.engine().is_err() || unreachable_control(app).is_some();
    if !off {
        return Ok(());
    }
    let reason = off_because(app).unwrap_or_default();
    let (detail, hint) = reason.split_once(": ").unwrap_or((reason.as_str(), ""));
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "sandboxes_off", detail).hint(hint))
}
