//! `POST /api/setup`: the owner's account, once.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::me::{self, Me};
use crate::app::App;
use crate::audit::Actor;
use crate::auth::client_ip::ClientIp;
use crate::auth::identifier::EmailKey;
use crate::auth::login::{self, Device};
use crate::auth::{password, signed_in};
use crate::db;
use crate::error::{ApiError, Problem};
use crate::extract::Body;
use crate::limits::LABEL_MAX;
use crate::secret::Secret;
use crate::setup::{self, NewPerson, NewPersonError};
use crate::words;

/// The owner to be.
#[derive(Deserialize, ToSchema)]
pub struct Setup {
    /// From the one-time link.
    token: String,
    /// The address to sign in with.
    email: String,
    /// Shown to others.
    name: String,
    /// At least 12 characters.
    password: String,
}

/// Makes the owner's account and signs in. Once there is an owner, this address is not there.
#[utoipa::path(
    post,
    path = "/api/setup",
    tag = "installation",
    request_body = Setup,
    responses((status = 201, body = Me), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(())
)]
pub(super) async fn create_owner(
    State(app): State<App>,
    ip: ClientIp,
    headers: HeaderMap,
    body: Result<Body<Setup>, ApiError>,
) -> Result<Response, ApiError> {
    if !setup::is_needed(app.db()).await? {
        return Err(ApiError::of_status(StatusCode::NOT_FOUND));
    }
    let Body(wish) = body?;
    check(&app, &wish).await?;
    let password_hash = app.parts().passwords.hash(Secret::new(wish.password)).await?;
    let new = NewPerson { email: wish.email, name: words::printable(&wish.name, LABEL_MAX), password_hash };

    let (tx, now) = (db::write(app.db()).await?, app.now());
    if !setup::spend(&tx, app.vault(), &wish.token, now).await? {
        return Err(bad_token());
    }
    let actor = Actor::person(Uuid::nil(), ip);
    let (person, scope) = setup::make_owner(&tx, new, &actor, now).await.map_err(|error| match error {
        NewPersonError::Taken => ApiError::invalid("email", error.to_string()),
        NewPersonError::Database(source) => source.into(),
    })?;
    let begun = login::begin(&app, &tx, scope, &person, &Device::new(ip, &headers)).await?;
    tx.commit().await?;
    app.parts().feeds.changed(scope.organisation()).await;
    let caller = signed_in::of_login(app.db(), begun.login, ip).await?;
    me::signed_in(&app, caller, &begun.token)
}

/// Any other method: set-up, once over, is no address at all (THREATS IN-02).
pub(super) async fn other_method(State(app): State<App>) -> Result<Response, ApiError> {
    if !setup::is_needed(app.db()).await? {
        return Err(ApiError::of_status(StatusCode::NOT_FOUND));
    }
    let refused = ApiError::of_status(StatusCode::METHOD_NOT_ALLOWED);
    Ok(([(header::ALLOW, "POST")], refused).into_response())
}

/// The token first: whoever does not have it learns nothing and costs nothing.
async fn check(app: &App, wish: &Setup) -> Result<(), ApiError> {
    if !setup::is_good(app.db(), app.vault(), &wish.token, app.now()).await? {
        return Err(bad_token());
    }
    if !EmailKey::of(&wish.email).is_plausible() {
        return Err(ApiError::invalid("email", "this is no e-mail address"));
    }
    if words::printable(&wish.name, LABEL_MAX).is_empty() {
        return Err(ApiError::invalid("name", "a name has at least one visible character"));
    }
    password::check_new(&wish.password, &wish.email).map_err(|why| ApiError::invalid("password", why))
}

fn bad_token() -> ApiError {
    ApiError::forbidden("setup_token_invalid", "the set-up link is unknown, used up or expired")
        .hint("rexec-control setup-link prints a new one")
}
