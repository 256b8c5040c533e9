//! `/api/previews`: ports of machines that are open to browsers.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use sea_orm::{ColumnTrait as _, QueryFilter as _, QueryOrder as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::machines;
use crate::app::App;
use crate::audit::{self, Deed};
use crate::auth::signed_in::{Right, SignedIn};
use crate::db;
use crate::entity::preview::{Column, Entity, Model};
use crate::error::{ApiError, Problem};
use crate::events::Event;
use crate::extract::{Body, Params};
use crate::limits::{PREVIEW_SHARE_MAX, PREVIEW_SHARE_MIN};
use crate::previews::{self, Preview};
use crate::time::Timestamp;

/// `event: previews`: those of the organisation have changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewsChanged {}

/// The port to open.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PreviewWish {
    /// The machine.
    machine: Uuid,
    /// 1 to 65535.
    port: u16,
}

/// How long a link is good.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ShareWish {
    /// Minutes, 5 to 10080, which is a week.
    minutes: u32,
}

/// An address with a secret behind its `#`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entry {
    /// Leads into the preview; a path may follow as `&to=/path`.
    url: String,
    /// Until when.
    until: Timestamp,
}

/// The open ports of the organisation's machines.
#[utoipa::path(
    get,
    path = "/api/previews",
    tag = "previews",
    responses((status = 200, body = [Preview]), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_previews(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Json<Vec<Preview>>, ApiError> {
    if app.parts().previews.domain().is_err() {
        return Ok(Json(Vec::new()));
    }
    let rows = caller.scope().rows::<Entity>().order_by_asc(Column::CreatedAt).all(app.db()).await?;
    rows.into_iter().map(|row| previews::shown(&app, row)).collect::<Result<_, _>>().map(Json)
}

/// Opens a port to browsers of the organisation. One that is open stays as it is.
#[utoipa::path(
    post,
    path = "/api/previews",
    tag = "previews",
    request_body = PreviewWish,
    responses((status = 201, body = Preview), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn create_preview(
    State(app): State<App>,
    caller: SignedIn,
    Body(wish): Body<PreviewWish>,
) -> Result<(StatusCode, Json<Preview>), ApiError> {
    app.parts().previews.domain()?;
    if wish.port == 0 {
        return Err(ApiError::invalid("port", "a port is a number from 1 to 65535"));
    }
    let tx = db::write(app.db()).await?;
    let caller = caller.again(&tx, app.now()).await?;
    let machine = machines::find(&tx, caller.scope(), wish.machine).await?;
    caller.demand(Right::ManageMachines)?;
    let (row, is_new) = previews::open(&tx, &caller, machine.id, wish.port, app.now()).await?;
    if is_new {
        let deed = Deed::new("preview.open", machine.id).with(json!({ "port": wish.port }));
        audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    }
    tx.commit().await?;
    changed(&app, &caller);
    Ok((StatusCode::CREATED, Json(previews::shown(&app, row)?)))
}

/// Closes a port: its address answers nobody any more, and what is connected is cut.
#[utoipa::path(
    delete,
    path = "/api/previews/{id}",
    tag = "previews",
    params(("id" = Uuid, Path, description = "the preview")),
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn close_preview(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<StatusCode, ApiError> {
    let tx = db::write(app.db()).await?;
    let caller = caller.again(&tx, app.now()).await?;
    let row = find(&tx, &caller, id).await?;
    caller.demand(Right::ManageMachines)?;
    caller.scope().delete::<Entity>().filter(Column::Id.eq(id)).exec(&tx).await?;
    let deed = Deed::new("preview.close", row.machine_id).with(json!({ "port": row.port }));
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    app.parts().previews.cut(row.id);
    if let Some(share) = row.share_id {
        app.parts().previews.cut(share);
    }
    changed(&app, &caller);
    Ok(StatusCode::NO_CONTENT)
}

/// Lets the caller's browser in: an address that is good once, for a minute.
#[utoipa::path(
    post,
    path = "/api/previews/{id}/pass",
    tag = "previews",
    params(("id" = Uuid, Path, description = "the preview")),
    responses((status = 201, body = Entry), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn create_preview_pass(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    let row = find(app.db(), &caller, id).await?;
    caller.demand(Right::ManageMachines)?;
    let now = app.now();
    let secret = app.parts().previews.pass(app.vault(), row.id, caller.login.id, now);
    let secret = secret.map_err(ApiError::internal)?;
    let url =
        previews::entry_url(&previews::shown(&app, row)?, "pass", &secret).map_err(ApiError::internal)?;
    let until = now.plus(Duration::from_secs(60));
    Ok((StatusCode::CREATED, Json(Entry { url: url.expose().clone(), until })))
}

/// Makes a link that lets anybody in who has it, in place of the one there was.
#[utoipa::path(
    post,
    path = "/api/previews/{id}/share",
    tag = "previews",
    params(("id" = Uuid, Path, description = "the preview")),
    request_body = ShareWish,
    responses((status = 201, body = Entry), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn share_preview(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
    Body(wish): Body<ShareWish>,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    let life = Duration::from_secs(u64::from(wish.minutes) * 60);
    if !(PREVIEW_SHARE_MIN..=PREVIEW_SHARE_MAX).contains(&life) {
        return Err(ApiError::invalid("minutes", "a link is good for 5 minutes to a week (10080)"));
    }
    let tx = db::write(app.db()).await?;
    let caller = caller.again(&tx, app.now()).await?;
    let row = find(&tx, &caller, id).await?;
    caller.demand(Right::ManageMachines)?;
    let (before, until) = (row.share_id, app.now().plus(life));
    let (row, secret) = previews::share(&tx, app.vault(), &caller, row, until).await?;
    let detail = json!({ "port": row.port, "until": until });
    let deed = Deed::new("preview.share", row.machine_id).with(detail);
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    if let Some(before) = before {
        app.parts().previews.cut(before);
    }
    changed(&app, &caller);
    let url =
        previews::entry_url(&previews::shown(&app, row)?, "share", &secret).map_err(ApiError::internal)?;
    Ok((StatusCode::CREATED, Json(Entry { url: url.expose().clone(), until })))
}

/// Withdraws the link: whoever came by it is cut.
#[utoipa::path(
    delete,
    path = "/api/previews/{id}/share",
    tag = "previews",
    params(("id" = Uuid, Path, description = "the preview")),
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn unshare_preview(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<StatusCode, ApiError> {
    let tx = db::write(app.db()).await?;
    let caller = caller.again(&tx, app.now()).await?;
    let row = find(&tx, &caller, id).await?;
    caller.demand(Right::ManageMachines)?;
    let before = row.share_id;
    let row = previews::unshare(&tx, row).await?;
    let deed = Deed::new("preview.unshare", row.machine_id).with(json!({ "port": row.port }));
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    if let Some(before) = before {
        app.parts().previews.cut(before);
    }
    changed(&app, &caller);
    Ok(StatusCode::NO_CONTENT)
}

async fn find<C: sea_orm::ConnectionTrait>(db: &C, caller: &SignedIn, id: Uuid) -> Result<Model, ApiError> {
    caller.scope().row::<Entity>(id).one(db).await?.ok_or_else(|| ApiError::not_found("preview"))
}

fn changed(app: &App, caller: &SignedIn) {
    app.parts().hub.tell(caller.organisation.id, Event::Previews);
}
