//! `GET /api/installation`: what anybody may know.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::signed_in::SignedIn;
use crate::entity::installation;
use crate::error::{ApiError, Problem};
use crate::setup;
use sea_orm::EntityTrait as _;

/// The installation.
#[derive(Debug, Serialize, ToSchema)]
pub struct Installation {
    /// Its name.
    pub name: String,
    /// Version of this control.
    pub version: String,
    /// Whether it has no owner yet.
    pub setup_needed: bool,
    /// Whether the caller is signed in.
    pub signed_in: bool,
    /// Where people and agents find it.
    pub public_url: String,
    /// Its clock, Unix milliseconds: a machine's must not be a minute from it.
    pub time: u64,
}

/// What anybody may know of this installation.
#[utoipa::path(
    get,
    path = "/api/installation",
    tag = "installation",
    responses((status = 200, body = Installation), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(())
)]
pub(super) async fn get_installation(
    State(app): State<App>,
    caller: Result<SignedIn, ApiError>,
) -> Result<Json<Installation>, ApiError> {
    let row = installation::Entity::find().one(app.db()).await?;
    Ok(Json(Installation {
        name: row.map(|row| row.name).unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        setup_needed: setup::is_needed(app.db()).await?,
        signed_in: caller.is_ok(),
        public_url: app.public_origin(),
        time: app.now().unix_ms(),
    }))
}
