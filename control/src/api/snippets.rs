//! `/api/snippets`: pieces of command line that people keep, for themselves or for everybody in the organisation.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::audit::{self, Deed};
use crate::auth::signed_in::SignedIn;
use crate::db;
use crate::entity::snippet::{Column, Entity, Model};
use crate::error::{ApiError, Problem};
use crate::events::Event;
use crate::extract::{Body, Params};
use crate::snippets::{self, Snippet, Words};

/// `event: snippets`: those the caller sees have changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct SnippetsChanged {}

/// The snippet wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SnippetWish {
    /// For everybody in the organisation, which its owners and admins decide.
    #[serde(default)]
    shared: bool,
    /// What it says.
    #[serde(flatten)]
    words: Words,
}

/// Snippets to be kept together.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SnippetsWish {
    /// As of one.
    #[serde(default)]
    shared: bool,
    /// What they say. One whose name is there already takes its place.
    snippets: Vec<Words>,
}

/// What became of snippets kept together.
#[derive(Debug, Serialize, ToSchema)]
pub struct SnippetsKept {
    /// New ones.
    made: u32,
    /// Those that took another's place.
    changed: u32,
}

/// The caller's own snippets and the shared ones, by name.
#[utoipa::path(
    get,
    path = "/api/snippets",
    tag = "snippets",
    responses((status = 200, body = [Snippet]), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_snippets(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Json<Vec<Snippet>>, ApiError> {
    Ok(Json(snippets::all_of(app.db(), &caller).await?))
}

/// Keeps a snippet.
#[utoipa::path(
    post,
    path = "/api/snippets",
    tag = "snippets",
    request_body = SnippetWish,
    responses((status = 201, body = Snippet), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn create_snippet(
    State(app): State<App>,
    caller: SignedIn,
    Body(wish): Body<SnippetWish>,
) -> Result<(StatusCode, Json<Snippet>), ApiError> {
    let words = wish.words.checked("")?;
    let tx = db::write(app.db()).await?;
    // The organisation's lock holds back others, so that none is counted out and no name is there twice.
    let caller = caller.again(&tx, app.now()).await?;
    snippets::demand_writable(&caller, wish.shared)?;
    let row = snippets::make(&tx, &caller, wish.shared, words, app.now()).await?;
    let deed = Deed::new("snippet.create", row.id).with(shown(&row));
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    tell(&app, &caller, row.shared);
    Ok((StatusCode::CREATED, Json(row.into())))
}

/// Writes a snippet anew: what it says, all of it.
#[utoipa::path(
    put,
    path = "/api/snippets/{id}",
    tag = "snippets",
    params(("id" = Uuid, Path, description = "the snippet")),
    request_body = Words,
    responses((status = 200, body = Snippet), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn change_snippet(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
    Body(words): Body<Words>,
) -> Result<Json<Snippet>, ApiError> {
    let words = words.checked("")?;
    let tx = db::write(app.db()).await?;
    let caller = caller.again(&tx, app.now()).await?;
    let row = snippets::find(&tx, &caller, id).await?;
    snippets::demand_writable(&caller, row.shared)?;
    let row = snippets::write(&tx, &caller, row, words, app.now()).await?;
    let deed = Deed::new("snippet.update", row.id).with(shown(&row));
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    tell(&app, &caller, row.shared);
    Ok(Json(row.into()))
}

/// Deletes a snippet.
#[utoipa::path(
    delete,
    path = "/api/snippets/{id}",
    tag = "snippets",
    params(("id" = Uuid, Path, description = "the snippet")),
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn delete_snippet(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<StatusCode, ApiError> {
    let tx = db::write(app.db()).await?;
    let caller = caller.again(&tx, app.now()).await?;
    let row = snippets::find(&tx, &caller, id).await?;
    snippets::demand_writable(&caller, row.shared)?;
    caller.scope().delete::<Entity>().filter(Column::Id.eq(id)).exec(&tx).await?;
    let deed = Deed::new("snippet.delete", id).with(shown(&row));
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    tell(&app, &caller, row.shared);
    Ok(StatusCode::NO_CONTENT)
}

/// Keeps many snippets, all of them or none.
#[utoipa::path(
    post,
    path = "/api/snippets/import",
    tag = "snippets",
    request_body = SnippetsWish,
    responses((status = 200, body = SnippetsKept), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn import_snippets(
    State(app): State<App>,
    caller: SignedIn,
    Body(wish): Body<SnippetsWish>,
) -> Result<Json<SnippetsKept>, ApiError> {
    let mut all = Vec::with_capacity(wish.snippets.len());
    for (number, words) in wish.snippets.into_iter().enumerate() {
        all.push(words.checked(&format!("snippets[{number}]."))?);
    }
    let tx = db::write(app.db()).await?;
    let caller = caller.again(&tx, app.now()).await?;
    snippets::demand_writable(&caller, wish.shared)?;
    let mut kept = SnippetsKept { made: 0, changed: 0 };
    for words in all {
        let is_new = snippets::put(&tx, &caller, wish.shared, words, app.now()).await?;
        *if is_new { &mut kept.made } else { &mut kept.changed } += 1;
    }
    let detail = json!({ "shared": wish.shared, "made": kept.made, "changed": kept.changed });
    let deed = Deed::new("snippet.import", caller.person.id).with(detail);
    audit::append(&tx, caller.scope(), app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    tell(&app, &caller, wish.shared);
    Ok(Json(kept))
}

/// What the audit shows to others of a snippet: of a person's own, not even its name.
fn shown(row: &Model) -> Value {
    if row.shared { json!({ "shared": true, "name": row.name }) } else { json!({ "shared": false }) }
}

fn tell(app: &App, caller: &SignedIn, shared: bool) {
    let whose = (!shared).then_some(caller.person.id);
    app.parts().hub.tell(caller.organisation.id, Event::Snippets(whose));
}
