//! `/api/volumes`: homes of sandboxes, those included that no sandbox has any more.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, QueryFilter as _, QueryOrder as _};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::audit::{self, Deed};
use crate::auth::signed_in::{Right, SignedIn};
use crate::db;
use crate::entity::{sandbox, sandbox_volume};
use crate::error::{ApiError, Problem};
use crate::extract::Params;
use crate::sandboxes::rows;
use crate::time::Timestamp;

/// The home of a sandbox.
#[derive(Debug, Serialize, ToSchema)]
pub struct Volume {
    /// Its id.
    pub id: Uuid,
    /// Name of the sandbox it was made for.
    pub name: String,
    /// The pool whose engine has it.
    pub pool: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The sandbox whose home it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Uuid>,
}

/// The homes of the organisation's sandboxes, newest first.
#[utoipa::path(
    get,
    path = "/api/volumes",
    tag = "sandboxes",
    responses((status = 200, body = [Volume]), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_volumes(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Json<Vec<Volume>>, ApiError> {
    let scope = caller.scope();
    let users = scope.rows::<sandbox::Entity>().all(app.db()).await?;
    let users: HashMap<Uuid, Uuid> = users.into_iter().map(|row| (row.volume_id, row.id)).collect();
    let rows = scope
        .rows::<sandbox_volume::Entity>()
        .filter(sandbox_volume::Column::RemovedAt.is_null())
        .order_by_desc(sandbox_volume::Column::CreatedAt)
        .all(app.db())
        .await?;
    let volume = |row: sandbox_volume::Model| Volume {
        sandbox: users.get(&row.id).copied(),
        id: row.id,
        name: row.name,
        pool: row.pool,
        created_at: row.created_at,
    };
    Ok(Json(rows.into_iter().map(volume).collect()))
}

/// Deletes a home that no sandbox has, and all its files.
#[utoipa::path(
    delete,
    path = "/api/volumes/{id}",
    tag = "sandboxes",
    params(("id" = Uuid, Path, description = "the volume")),
    responses((status = 202), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn delete_volume(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<StatusCode, ApiError> {
    caller.demand(Right::ManageMachines)?;
    let scope = caller.scope();
    let tx = db::write(app.db()).await?;
    audit::lock(&tx, scope).await?;
    rows::find_volume(&tx, scope, id).await?;
    rows::demand_unused(&tx, scope, id).await?;
    scope
        .update::<sandbox_volume::Entity>()
        .col_expr(sandbox_volume::Column::RemovedAt, Expr::value(app.now()))
        .filter(sandbox_volume::Column::Id.eq(id))
        .exec(&tx)
        .await?;
    audit::append(&tx, scope, app.now(), &caller.actor(), Deed::new("volume.delete", id)).await?;
    tx.commit().await?;
    app.parts().sandboxes.wake();
    Ok(StatusCode::ACCEPTED)
}
