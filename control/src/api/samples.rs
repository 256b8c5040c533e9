//! `GET /api/samples`: what machines used in the last quarter of an hour.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _, QuerySelect as _};
use serde::Deserialize;
use uuid::Uuid;

use crate::app::App;
use crate::auth::signed_in::SignedIn;
use crate::entity::machine;
use crate::error::{ApiError, Problem};
use crate::extract::Choices;
use crate::limits::SAMPLES_ASKED_MAX;
use crate::samples::Samples;

/// Which machines.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    machines: String,
}

/// What machines used in the last quarter of an hour; of those that said nothing in it, nothing.
#[utoipa::path(
    get,
    path = "/api/samples",
    tag = "machines",
    params(("machines" = String, Query, description = "ids, separated by commas; 64 at most")),
    responses((status = 200, body = [Samples]), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_samples(
    State(app): State<App>,
    caller: SignedIn,
    Choices(which): Choices<Which>,
) -> Result<Json<Vec<Samples>>, ApiError> {
    let bad = || ApiError::invalid("machines", format!("up to {SAMPLES_ASKED_MAX} ids, separated by commas"));
    let ids: Option<BTreeSet<Uuid>> = which.machines.split(',').map(|id| id.parse().ok()).collect();
    let ids = ids.filter(|ids| ids.len() <= SAMPLES_ASKED_MAX).ok_or_else(bad)?;
    let own: Vec<Uuid> = caller
        .scope()
        .rows::<machine::Entity>()
        .filter(machine::Column::Id.is_in(ids))
        .filter(machine::Column::RemovedAt.is_null())
        .select_only()
        .column(machine::Column::Id)
        .into_tuple()
        .all(app.db())
        .await?;
    let now = app.now();
    Ok(Json(own.into_iter().filter_map(|id| app.parts().samples.of(id, now)).collect()))
}
