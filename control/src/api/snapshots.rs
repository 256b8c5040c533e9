//! `/api/snapshots`: sandboxes as they were at a moment, root and home, of which new ones can be made.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::audit::{self, Deed};
use crate::auth::signed_in::{Right, SignedIn};
use crate::db;
use crate::entity::{Desired, SnapshotState, snapshot};
use crate::error::{ApiError, Problem};
use crate::extract::{Body, Params};
use crate::sandboxes::rows::{self, Made, New};
use crate::sandboxes::snapshots::{self, Snapshot};
use crate::sandboxes::view::Sandbox;
use crate::sandboxes::{self, images};
use crate::words::{self, NAME_GRAMMAR};

use super::sandbox_options;
use super::sandbox_wish::life;

/// The snapshot wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SnapshotWish {
    /// Chosen by the caller, so that a repeated request makes no second snapshot.
    id: Option<Uuid>,
    /// 1 to 63 of letters, digits, `.`, `_` and `-`; the sandbox's when left out.
    name: Option<String>,
}

/// What to change of a snapshot; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SnapshotChange {
    /// Its name.
    name: Option<String>,
    /// Whether it is offered beside the images.
    template: Option<bool>,
}

fn checked(name: Option<String>) -> Result<Option<String>, ApiError> {
    match &name {
        Some(bad) if !words::is_name(bad) => {
            Err(ApiError::invalid("name", format!("a name is {NAME_GRAMMAR}")))
        }
        _ => Ok(name),
    }
}

/// The snapshots of the organisation, newest first.
#[utoipa::path(
    get,
    path = "/api/snapshots",
    tag = "sandboxes",
    responses((status = 200, body = [Snapshot]), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_snapshots(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Json<Vec<Snapshot>>, ApiError> {
    Ok(Json(snapshots::all_of(&app, caller.scope()).await?))
}

/// Makes a snapshot of a sandbox, which stands still for as long as that takes. Events tell when it is done.
#[utoipa::path(
    post,
    path = "/api/sandboxes/{id}/snapshots",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the sandbox")),
    request_body = SnapshotWish,
    responses((status = 202, body = Snapshot), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn create_snapshot(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
    Body(wish): Body<SnapshotWish>,
) -> Result<(StatusCode, Json<Snapshot>), ApiError> {
    caller.demand(Right::ManageMachines)?;
    sandbox_options::demand_enabled(&app)?;
    let name = checked(wish.name)?;
    let tx = db::write(app.db()).await?;
    let of = rows::find(&tx, caller.scope(), id).await?;
    if of.desired == Desired::Deleted || of.started_at.is_none() {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "never_ran",
            "there is nothing to be kept of this sandbox",
        )
        .hint("wait until it has come up once"));
    }
    let row = snapshots::ask(&tx, &of, wish.id.unwrap_or_else(Uuid::new_v4), name, app.now()).await?;
    let deed = Deed::new("snapshot.create", row.id).with(json!({ "sandbox": id, "name": row.name }));
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    snapshots::tell(&app, row.clone());
    app.parts().sandboxes.wake();
    Ok((StatusCode::ACCEPTED, Json(row.into())))
}

/// Renames a snapshot, or offers it as a template.
#[utoipa::path(
    patch,
    path = "/api/snapshots/{id}",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the snapshot")),
    request_body = SnapshotChange,
    responses((status = 200, body = Snapshot), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn change_snapshot(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
    Body(change): Body<SnapshotChange>,
) -> Result<Json<Snapshot>, ApiError> {
    caller.demand(Right::ManageMachines)?;
    let (scope, name) = (caller.scope(), checked(change.name)?);
    let tx = db::write(app.db()).await?;
    audit::lock(&tx, scope).await?;
    let row = find(&tx, &caller, id).await?;
    let (name, template) = (name.unwrap_or(row.name), change.template.unwrap_or(row.template));
    scope
        .update::<snapshot::Entity>()
        .col_expr(snapshot::Column::Name, Expr::value(name.clone()))
        .col_expr(snapshot::Column::Template, Expr::value(template))
        .filter(snapshot::Column::Id.eq(id))
        .exec(&tx)
        .await?;
    let deed = Deed::new("snapshot.update", id).with(json!({ "name": name, "template": template }));
    audit::append(&tx, scope, app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    let row = find(app.db(), &caller, id).await?;
    snapshots::tell(&app, row.clone());
    Ok(Json(row.into()))
}

/// Deletes a snapshot that no sandbox was made of.
#[utoipa::path(
    delete,
    path = "/api/snapshots/{id}",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the snapshot")),
    responses((status = 202), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn delete_snapshot(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<StatusCode, ApiError> {
    caller.demand(Right::ManageMachines)?;
    let scope = caller.scope();
    let tx = db::write(app.db()).await?;
    audit::lock(&tx, scope).await?;
    let row = find(&tx, &caller, id).await?;
    snapshots::demand_unused(&tx, scope, id).await?;
    scope
        .update::<snapshot::Entity>()
        .col_expr(snapshot::Column::State, Expr::value(SnapshotState::Deleting))
        .filter(snapshot::Column::Id.eq(id))
        .exec(&tx)
        .await?;
    let deed = Deed::new("snapshot.delete", id).with(json!({ "name": row.name }));
    audit::append(&tx, scope, app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    snapshots::tell(&app, snapshot::Model { state: SnapshotState::Deleting, ..row });
    app.parts().sandboxes.wake();
    Ok(StatusCode::ACCEPTED)
}

/// What to call the fork.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ForkWish {
    /// Chosen by the caller, so that a repeated request makes no second sandbox.
    id: Option<Uuid>,
    /// As a sandbox's; made from the image when left out.
    name: Option<String>,
}

/// Makes another sandbox that begins as this one is now: by a snapshot, which stays as long as the new one does.
#[utoipa::path(
    post,
    path = "/api/sandboxes/{id}/fork",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the sandbox")),
    request_body = ForkWish,
    responses((status = 202, body = Sandbox), (status = 200, description = "it was made before", body = Sandbox), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn fork_sandbox(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
    Body(wish): Body<ForkWish>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    caller.demand(Right::ManageMachines)?;
    sandbox_options::demand_enabled(&app)?;
    if wish.name.as_ref().is_some_and(|name| !words::is_name(name)) {
        return Err(ApiError::invalid("name", format!("a name is {NAME_GRAMMAR}")));
    }
    let (scope, now, new_id) = (caller.scope(), app.now(), wish.id.unwrap_or_else(Uuid::new_v4));
    let tx = db::write(app.db()).await?;
    let of = rows::find(&tx, scope, id).await?;
    if of.desired == Desired::Deleted || of.started_at.is_none() {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "never_ran",
            "there is nothing to be kept of this sandbox",
        )
        .hint("wait until it has come up once"));
    }
    // The snapshot has the fork's id: asking again finds both.
    let snapshot = snapshots::ask(&tx, &of, new_id, None, now).await?;
    let new = New {
        id: new_id,
        name: wish.name,
        family: images::shown(&of.image).family,
        image: of.image,
        cpus_milli: of.cpus_milli,
        memory_mb: of.memory_mb,
        pids: of.pids,
        network: of.network,
        allow: serde_json::from_value(of.allow).unwrap_or_default(),
        preset: of.preset,
        snapshot: Some(snapshot.id),
        volume: None,
        expires_at: life(&app, None)?.map(|life| now.plus(life)),
        idle_stop_s: of.idle_stop_s,
        made_by: caller.person.id,
    };
    let row = match rows::make(&tx, scope, new, app.settings().sandboxes.count_max, now).await? {
        Made::Known(row) => return Ok((StatusCode::OK, Json(sandboxes::one(&app, row).await?))),
        Made::Fresh(row) => row,
    };
    let deed = Deed::new("sandbox.fork", row.id).with(json!({ "of": id }));
    audit::append(&tx, scope, now, &caller.actor(), deed).await?;
    tx.commit().await?;
    app.metrics().sandbox_created();
    snapshots::tell(&app, snapshot);
    sandboxes::tell(&app, scope.organisation(), row.id).await?;
    app.parts().sandboxes.wake();
    Ok((StatusCode::ACCEPTED, Json(sandboxes::one(&app, row).await?)))
}

async fn find<C: sea_orm::ConnectionTrait>(
    db: &C,
    caller: &SignedIn,
    id: Uuid,
) -> Result<snapshot::Model, ApiError> {
    caller.scope().row::<snapshot::Entity>(id).one(db).await?.ok_or_else(|| ApiError::not_found("snapshot"))
}
