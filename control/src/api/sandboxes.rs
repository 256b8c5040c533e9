//! `/api/sandboxes`: machines that are made here. Every change is a wish that is written down at once and fulfilled afterwards.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::machines;
use super::sandbox_options::{self, Ceilings};
use super::sandbox_wish::{SandboxWish, checked, idle, image_of, life, pids};
use crate::app::App;
use crate::audit::{self, Deed};
use crate::auth::signed_in::{Right, SignedIn};
use crate::db;
use crate::entity::{Desired, SandboxState, machine, sandbox};
use crate::error::{ApiError, Problem};
use crate::extract::{Body, Choices, Params};
use crate::sandboxes;
use crate::sandboxes::rows::{self, Made};
use crate::sandboxes::view::Sandbox;
use crate::time::Timestamp;

/// What to change of a sandbox; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SandboxChange {
    /// Its name.
    name: Option<String>,
    /// Thousandths of a processor.
    cpus_milli: Option<u32>,
    /// Memory, MiB.
    memory_mb: Option<u32>,
    /// Processes and threads.
    pids: Option<u32>,
    /// It is deleted so many seconds from now; 0: never by itself, where that is allowed.
    lifetime_s: Option<u32>,
    /// Without a session for so many seconds it is stopped; 0: never by itself, where that is allowed.
    idle_stop_s: Option<u32>,
}

/// What becomes of the home.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Home {
    /// It stays, and can be another sandbox's.
    Keep,
    /// It goes, too.
    Drop,
}

/// How a sandbox is deleted.
#[derive(Debug, Deserialize)]
pub(super) struct Deletion {
    volume: Option<Home>,
}

/// The sandboxes of the organisation, newest first.
#[utoipa::path(
    get,
    path = "/api/sandboxes",
    tag = "sandboxes",
    responses((status = 200, body = [Sandbox]), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_sandboxes(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Json<Vec<Sandbox>>, ApiError> {
    Ok(Json(sandboxes::all_of(&app, caller.scope()).await?))
}

/// One sandbox.
#[utoipa::path(
    get,
    path = "/api/sandboxes/{id}",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the sandbox")),
    responses((status = 200, body = Sandbox), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn get_sandbox(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<Json<Sandbox>, ApiError> {
    answer(&app, &caller, id).await
}

/// Makes a sandbox. It is a machine at once, and comes up by itself: events and this address tell how far it is.
#[utoipa::path(
    post,
    path = "/api/sandboxes",
    tag = "sandboxes",
    request_body = SandboxWish,
    responses((status = 202, body = Sandbox), (status = 200, description = "it was made before", body = Sandbox), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn create_sandbox(
    State(app): State<App>,
    caller: SignedIn,
    Body(wish): Body<SandboxWish>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    caller.demand(Right::ManageMachines)?;
    sandbox_options::demand_enabled(&app)?;
    let (scope, now) = (caller.scope(), app.now());
    let image = image_of(&app, &caller, &wish).await?;
    let new = checked(&app, &caller, wish, image, now)?;
    let count_max = app.settings().sandboxes.count_max;
    let tx = db::write(app.db()).await?;
    let row = match rows::make(&tx, scope, new, count_max, now).await? {
        Made::Known(row) => return Ok((StatusCode::OK, Json(sandboxes::one(&app, row).await?))),
        Made::Fresh(row) => row,
    };
    let deed = Deed::new("sandbox.create", row.id)
        .with(json!({ "image": row.image, "cpus_milli": row.cpus_milli, "memory_mb": row.memory_mb, "network": row.network }));
    audit::append(&tx, scope, now, &caller.actor(), deed).await?;
    tx.commit().await?;
    app.metrics().sandbox_created();
    sandboxes::tell(&app, scope.organisation(), row.id).await?;
    app.parts().sandboxes.wake();
    Ok((StatusCode::ACCEPTED, Json(sandboxes::one(&app, row).await?)))
}

/// Renames or resizes a sandbox, or changes how long it lives.
#[utoipa::path(
    patch,
    path = "/api/sandboxes/{id}",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the sandbox")),
    request_body = SandboxChange,
    responses((status = 200, body = Sandbox), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn change_sandbox(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
    Body(change): Body<SandboxChange>,
) -> Result<Json<Sandbox>, ApiError> {
    caller.demand(Right::ManageMachines)?;
    let (scope, now) = (caller.scope(), app.now());
    let tx = db::write(app.db()).await?;
    audit::lock(&tx, scope).await?;
    demand_wanted(&rows::find(&tx, scope, id).await?)?;
    if let Some(name) = &change.name {
        machines::check_name(&tx, scope, id, name).await?;
        let rename =
            scope.update::<machine::Entity>().col_expr(machine::Column::Name, Expr::value(name.as_str()));
        rename.filter(machine::Column::Id.eq(id)).exec(&tx).await?;
        let deed = Deed::new("sandbox.rename", id).with(json!({ "name": name }));
        audit::append(&tx, scope, now, &caller.actor(), deed).await?;
    }
    let values = changed_values(&app, &change, now)?;
    if !values.is_empty() {
        let mut update = scope.update::<sandbox::Entity>();
        for (column, value) in values {
            update = update.col_expr(column, value);
        }
        update.filter(sandbox::Column::Id.eq(id)).exec(&tx).await?;
        let said = json!({ "cpus_milli": change.cpus_milli, "memory_mb": change.memory_mb, "pids": change.pids,
            "lifetime_s": change.lifetime_s, "idle_stop_s": change.idle_stop_s });
        audit::append(&tx, scope, now, &caller.actor(), Deed::new("sandbox.resize", id).with(said)).await?;
    }
    tx.commit().await?;
    resize(&app, &rows::find(app.db(), scope, id).await?, &change).await;
    sandboxes::tell(&app, scope.organisation(), id).await?;
    answer(&app, &caller, id).await
}

fn changed_values(
    app: &App,
    change: &SandboxChange,
    now: Timestamp,
) -> Result<Vec<(sandbox::Column, Expr)>, ApiError> {
    let ceilings = Ceilings::of(app);
    let mut values = Vec::new();
    if let Some(wished) = change.cpus_milli {
        values.push((sandbox::Column::CpusMilli, Expr::value(ceilings.cpus(wished)?)));
    }
    if let Some(wished) = change.memory_mb {
        values.push((sandbox::Column::MemoryMb, Expr::value(ceilings.memory(wished)?)));
    }
    if let Some(wished) = change.pids {
        values.push((sandbox::Column::Pids, Expr::value(pids(wished)?)));
    }
    if change.lifetime_s.is_some() {
        let until = life(app, change.lifetime_s)?.map(|life| now.plus(life));
        values.push((sandbox::Column::ExpiresAt, Expr::value(until)));
    }
    if change.idle_stop_s.is_some() {
        values.push((sandbox::Column::IdleStopS, Expr::value(idle(app, change.idle_stop_s)?)));
    }
    Ok(values)
}

/// Resizes the container, too. Should the engine be away, the next start does it.
async fn resize(app: &App, row: &sandbox::Model, change: &SandboxChange) {
    let is_resize = change.cpus_milli.is_some() || change.memory_mb.is_some() || change.pids.is_some();
    if let Ok(engine) = app.parts().sandboxes.engine()
        && is_resize
        && let Err(error) = engine.update(row.id, sandboxes::limits_of(row)).await
    {
        tracing::warn!(sandbox = %row.id, %error, "a sandbox gets its new size at its next start only");
    }
}

/// # Errors
/// 404 for one that is to be deleted: nothing else can be wished for it any more.
fn demand_wanted(row: &sandbox::Model) -> Result<(), ApiError> {
    (row.desired != Desired::Deleted).then_some(()).ok_or_else(|| ApiError::not_found("sandbox"))
}

/// Starts a sandbox that is stopped or was given up.
#[utoipa::path(
    post,
    path = "/api/sandboxes/{id}/start",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the sandbox")),
    responses((status = 202, body = Sandbox), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn start_sandbox(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    wish(&app, &caller, id, "sandbox.start", |row| match (row.desired, row.state) {
        (Desired::Running, SandboxState::Failed) => Some((Desired::Running, SandboxState::Waiting)),
        (Desired::Running, _) => None,
        // A stop that was begun is ended first.
        (_, SandboxState::Stopping) => Some((Desired::Running, SandboxState::Stopping)),
        (_, _) => Some((Desired::Running, SandboxState::Waiting)),
    })
    .await
}

/// Stops a sandbox: its processes end, its files stay.
#[utoipa::path(
    post,
    path = "/api/sandboxes/{id}/stop",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the sandbox")),
    responses((status = 202, body = Sandbox), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn stop_sandbox(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    wish(&app, &caller, id, "sandbox.stop", |row| {
        (row.desired != Desired::Stopped).then_some((Desired::Stopped, SandboxState::Stopping))
    })
    .await
}

/// Stops a sandbox and starts it again.
#[utoipa::path(
    post,
    path = "/api/sandboxes/{id}/restart",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the sandbox")),
    responses((status = 202, body = Sandbox), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn restart_sandbox(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    wish(&app, &caller, id, "sandbox.restart", |_| Some((Desired::Running, SandboxState::Stopping))).await
}

/// Writes a wish down; `what` says which, if it is one.
async fn wish(
    app: &App,
    caller: &SignedIn,
    id: Uuid,
    action: &'static str,
    what: impl FnOnce(&sandbox::Model) -> Option<(Desired, SandboxState)>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    caller.demand(Right::ManageMachines)?;
    let scope = caller.scope();
    let tx = db::write(app.db()).await?;
    audit::lock(&tx, scope).await?;
    let row = rows::find(&tx, scope, id).await?;
    demand_wanted(&row)?;
    if let Some((desired, state)) = what(&row) {
        rows::wish(&tx, &row, desired, state).await?;
        audit::append(&tx, scope, app.now(), &caller.actor(), Deed::new(action, id)).await?;
    }
    tx.commit().await?;
    app.parts().sandboxes.wake();
    sandboxes::tell(app, scope.organisation(), id).await?;
    Ok((StatusCode::ACCEPTED, answer(app, caller, id).await?))
}

/// Deletes a sandbox. Its machine is cut off at once; its home stays unless `volume=drop`.
#[utoipa::path(
    delete,
    path = "/api/sandboxes/{id}",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the sandbox"), ("volume" = Option<Home>, Query, description = "what becomes of its home")),
    responses((status = 202, body = Sandbox), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn delete_sandbox(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
    Choices(deletion): Choices<Deletion>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    caller.demand(Right::ManageMachines)?;
    let row = rows::find(app.db(), caller.scope(), id).await?;
    let drop_volume = matches!(deletion.volume, Some(Home::Drop));
    if row.desired != Desired::Deleted || (drop_volume && !row.drop_volume) {
        let what = machines::Removal { sandbox_volume: drop_volume };
        machines::remove_with(&app, caller.scope(), id, &caller.actor(), what).await?;
    }
    let row = rows::find(app.db(), caller.scope(), id).await.unwrap_or(row);
    Ok((StatusCode::ACCEPTED, Json(sandboxes::one(&app, row).await?)))
}

async fn answer(app: &App, caller: &SignedIn, id: Uuid) -> Result<Json<Sandbox>, ApiError> {
    let row = rows::find(app.db(), caller.scope(), id).await?;
    Ok(Json(sandboxes::one(app, row).await?))
}
