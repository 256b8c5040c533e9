//! `/api/join-tokens`: permissions to enrol machines without a person beside them.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use sea_orm::{ColumnTrait as _, QueryFilter as _, QueryOrder as _};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::audit::{self, Deed};
use crate::auth::signed_in::{Right, SignedIn};
use crate::db;
use crate::enrolment::{self, NewJoinToken};
use crate::entity::join_token;
use crate::error::{ApiError, Problem};
use crate::extract::{Body, Params};
use crate::limits::{JOIN_TTL_DEFAULT_S, JOIN_TTL_MAX_S, JOIN_TTL_MIN_S, JOIN_USES_MAX, LABEL_MAX};
use crate::time::Timestamp;
use crate::words;

/// A join token, without the token.
#[derive(Debug, Serialize, ToSchema)]
pub struct JoinToken {
    /// Its id.
    pub id: Uuid,
    /// What its maker calls it.
    pub label: String,
    /// How many machines it still enrols.
    pub uses_left: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

/// A join token just made: the only time the token itself is shown.
#[derive(Serialize, ToSchema)]
pub struct FreshJoinToken {
    /// The token: `rexec_join_…`.
    pub token: String,
    /// What can be seen later, too.
    #[serde(flatten)]
    pub kept: JoinToken,
}

/// The join token wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub struct JoinTokenWish {
    /// What to call it.
    #[serde(default)]
    label: String,
    /// Life in seconds, from 60 to 604800.
    #[serde(default = "default_ttl")]
    ttl_s: u32,
    /// How many machines it enrols, from 1 to 1000.
    #[serde(default = "default_uses")]
    uses: u32,
}

const fn default_ttl() -> u32 {
    JOIN_TTL_DEFAULT_S
}

const fn default_uses() -> u32 {
    1
}

impl From<join_token::Model> for JoinToken {
    fn from(row: join_token::Model) -> Self {
        Self {
            id: row.id,
            label: row.label,
            uses_left: row.uses_left,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}

/// Join tokens that are still good.
#[utoipa::path(
    get,
    path = "/api/join-tokens",
    tag = "join-tokens",
    responses((status = 200, body = [JoinToken]), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_join_tokens(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Json<Vec<JoinToken>>, ApiError> {
    caller.demand(Right::ManageMachines)?;
    let rows = enrolment::good_tokens(caller.scope(), app.now());
    let rows = rows.order_by_desc(join_token::Column::CreatedAt).all(app.db()).await?;
    Ok(Json(rows.into_iter().map(JoinToken::from).collect()))
}

/// Makes a join token. It is shown in this answer and never again.
#[utoipa::path(
    post,
    path = "/api/join-tokens",
    tag = "join-tokens",
    request_body = JoinTokenWish,
    responses((status = 201, body = FreshJoinToken), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn create_join_token(
    State(app): State<App>,
    caller: SignedIn,
    Body(wish): Body<JoinTokenWish>,
) -> Result<(StatusCode, Json<FreshJoinToken>), ApiError> {
    caller.demand(Right::ManageMachines)?;
    let (life, uses) = checked(&wish)?;
    let new = NewJoinToken {
        label: words::printable(&wish.label, LABEL_MAX),
        life,
        uses,
        made_by: caller.person.id,
        key_fingerprint: None,
        machine: None,
    };
    let tx = db::write(app.db()).await?;
    let (row, token) = enrolment::make_join_token(&tx, app.vault(), caller.scope(), new, app.now()).await?;
    let deed = Deed::new("join_token.create", row.id).with(serde_json::json!({ "uses": uses }));
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(FreshJoinToken { token: token.expose().clone(), kept: row.into() })))
}

fn checked(wish: &JoinTokenWish) -> Result<(Duration, i32), ApiError> {
    if !(JOIN_TTL_MIN_S..=JOIN_TTL_MAX_S).contains(&wish.ttl_s) {
        let range = format!("a join token lives from {JOIN_TTL_MIN_S} to {JOIN_TTL_MAX_S} seconds");
        return Err(ApiError::invalid("ttl_s", range));
    }
    let uses = i32::try_from(wish.uses).ok().filter(|_| (1..=JOIN_USES_MAX).contains(&wish.uses));
    let uses = uses.ok_or_else(|| {
        ApiError::invalid("uses", format!("a join token enrols from 1 to {JOIN_USES_MAX} machines"))
    })?;
    Ok((Duration::from_secs(u64::from(wish.ttl_s)), uses))
}

/// Deletes a join token: it enrols nothing any more.
#[utoipa::path(
    delete,
    path = "/api/join-tokens/{id}",
    tag = "join-tokens",
    params(("id" = Uuid, Path, description = "the join token")),
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn delete_join_token(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<StatusCode, ApiError> {
    caller.demand(Right::ManageMachines)?;
    let tx = db::write(app.db()).await?;
    let deleted =
        caller.scope().delete::<join_token::Entity>().filter(join_token::Column::Id.eq(id)).exec(&tx).await?;
    if deleted.rows_affected == 0 {
        return Err(ApiError::not_found("join token"));
    }
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), Deed::new("join_token.delete", id))
        .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
