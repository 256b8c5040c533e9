//! `/api/me/preferences`: what a person prefers, the same in every browser of theirs. Control keeps it and does not look into it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, Set};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::signed_in::SignedIn;
use crate::db;
use crate::entity::person_preference::{ActiveModel, Column, Entity};
use crate::error::{ApiError, Problem};
use crate::events::Event;
use crate::extract::{Body, Params};
use crate::limits::{PREFERENCE_KEY_MAX, PREFERENCES_MAX};

/// `event: preference`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreferenceChanged {
    /// Which one.
    pub key: String,
}

/// Everything the caller prefers, by key.
#[utoipa::path(
    get,
    path = "/api/me/preferences",
    tag = "logins",
    responses((status = 200, body = BTreeMap<String, Value>), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_preferences(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Json<BTreeMap<String, Value>>, ApiError> {
    let rows = Entity::find().filter(Column::PersonId.eq(caller.person.id)).all(app.db()).await?;
    Ok(Json(rows.into_iter().map(|row| (row.key, row.value)).collect()))
}

/// Keeps one preference: any JSON up to the size of a body. The last writer wins.
#[utoipa::path(
    put,
    path = "/api/me/preferences/{key}",
    tag = "logins",
    params(("key" = String, Path, description = "1 to 64 of a-z, 0-9, `.` and `-`")),
    request_body = Value,
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn put_preference(
    State(app): State<App>,
    caller: SignedIn,
    Params(key): Params<String>,
    Body(value): Body<Value>,
) -> Result<StatusCode, ApiError> {
    if !is_key(&key) {
        let grammar = format!("a key is 1 to {PREFERENCE_KEY_MAX} of a-z, 0-9, dots and dashes");
        return Err(ApiError::invalid("key", grammar));
    }
    let tx = db::write(app.db()).await?;
    // The organisation's lock holds back other browsers of this person's, so that none is counted out.
    let caller = caller.again(&tx, app.now()).await?;
    let others = Entity::find().filter(Column::PersonId.eq(caller.person.id)).filter(Column::Key.ne(&key));
    if others.count(&tx).await? >= PREFERENCES_MAX {
        return Err(ApiError::limit_reached(format!("a person has at most {PREFERENCES_MAX} preferences")));
    }
    let row = ActiveModel {
        person_id: Set(caller.person.id),
        key: Set(key.clone()),
        value: Set(value),
        changed_at: Set(app.now()),
    };
    let again = OnConflict::columns([Column::PersonId, Column::Key])
        .update_columns([Column::Value, Column::ChangedAt])
        .to_owned();
    Entity::insert(row).on_conflict(again).exec_without_returning(&tx).await?;
    tx.commit().await?;
    let event = Event::Preference { person: caller.person.id, key: key.into() };
    app.parts().hub.tell(caller.organisation.id, event);
    Ok(StatusCode::NO_CONTENT)
}

fn is_key(key: &str) -> bool {
    (1..=PREFERENCE_KEY_MAX).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
}
