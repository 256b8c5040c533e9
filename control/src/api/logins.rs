//! `/api/logins`: signing in, seeing where one is signed in, signing out.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _};
use serde::{Deserialize, Serialize};
use std::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use super::me::{self, Me};
use crate::app::App;
use crate::audit::{self, Actor, Deed};
use crate::auth::client_ip::ClientIp;
use crate::auth::identifier::EmailKey;
use crate::auth::login::{self as logins, Device};
use crate::auth::sign_in::Attempt;
use crate::auth::signed_in::{self, SignedIn};
use crate::db;
use crate::entity::{login, membership, person};
use crate::error::{ApiError, Problem};
use crate::extract::{Body, Params};
use crate::limits::PASSWORD_MAX;
use crate::scope::Scope;
use crate::secret::Secret;
use crate::time::Timestamp;

/// What a person signs in with.
#[derive(Deserialize, ToSchema)]
pub struct Credentials {
    /// The address.
    email: String,
    /// The password.
    password: String,
}

/// A device a person is signed in on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Login {
    /// Its id.
    pub id: Uuid,
    /// When it began.
    pub created_at: Timestamp,
    /// Its last request, to the minute.
    pub last_seen_at: Timestamp,
    /// The browser by its own account: untrusted text.
    pub user_agent: String,
    /// Where it was made.
    pub ip: String,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// Signs in.
#[utoipa::path(
    post,
    path = "/api/logins",
    tag = "logins",
    request_body = Credentials,
    responses((status = 201, body = Me), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(())
)]
pub(super) async fn create_login(
    State(app): State<App>,
    ip: ClientIp,
    headers: HeaderMap,
    Body(credentials): Body<Credentials>,
) -> Result<Response, ApiError> {
    let person = authenticate(&app, ip, credentials).await?;
    let scope = home_of(&app, &person).await?;
    let tx = db::write(app.db()).await?;
    let begun = logins::begin(&app, &tx, scope, &person, &Device::new(ip, &headers)).await?;
    let deed = Deed::new("login.create", begun.login.id);
    audit::append(&tx, scope, app.now(), &Actor::person(person.id, ip), deed).await?;
    tx.commit().await?;
    for ended in &begun.ended {
        logins::tell_ended(&app, ended).await;
    }
    end_replaced(&app, &headers, ip).await?;
    app.metrics().sign_in("ok");
    let caller = signed_in::of_login(app.db(), begun.login, ip).await?;
    me::signed_in(&app, caller, &begun.token)
}

/// The person behind right credentials; every other case looks the same and takes as long.
async fn authenticate(app: &App, ip: ClientIp, credentials: Credentials) -> Result<person::Model, ApiError> {
    let key = EmailKey::of(&credentials.email);
    let person =
        person::Entity::find().filter(person::Column::EmailKey.eq(key.as_str())).one(app.db()).await?;
    let familiar = is_familiar(app, person.as_ref(), ip).await?;
    let attempt = Attempt::new(key, ip, familiar);
    let limits = &app.parts().sign_ins;
    limits.admit(&attempt, Instant::now()).map_err(|wait| {
        app.metrics().sign_in("rate_limited");
        ApiError::rate_limited(wait)
    })?;
    let hash = person.as_ref().map(|person| person.password_hash.clone());
    let fits = credentials.password.len() <= PASSWORD_MAX;
    let password = Secret::new(if fits { credentials.password } else { String::new() });
    let checked = app.parts().passwords.check(password, hash).await;
    // Nobody looked at the password, so nothing was tried.
    let right = checked.inspect_err(|_| limits.was_not_looked_at(&attempt))?;
    match person.filter(|_| right) {
        Some(person) => {
            limits.succeeded(&attempt);
            Ok(person)
        }
        None => {
            app.metrics().sign_in("refused");
            tracing::info!(%ip, "a sign-in was refused");
            Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "bad_credentials",
                "the e-mail address or the password is wrong",
            ))
        }
    }
}

/// Whether the person has signed in from this network before; the past that counts is that of kept rows.
async fn is_familiar(app: &App, person: Option<&person::Model>, ip: ClientIp) -> Result<bool, ApiError> {
    let Some(person) = person else { return Ok(false) };
    let before = login::Entity::find()
        .filter(login::Column::PersonId.eq(person.id))
        .filter(login::Column::Net.eq(ip.net()))
        .count(app.db())
        .await?;
    Ok(before > 0)
}

/// The organisation a person signs in to: the first they became a member of, which is their own.
async fn home_of(app: &App, person: &person::Model) -> Result<Scope, ApiError> {
    let membership = membership::Entity::find()
        .filter(membership::Column::PersonId.eq(person.id))
        .order_by_asc(membership::Column::CreatedAt)
        .one(app.db())
        .await?;
    membership.map(|membership| Scope::of(membership.organisation_id)).ok_or_else(ApiError::unauthorized)
}

/// Ends the login that this one takes the place of in the browser: no cookie survives a sign-in (THREATS BU-11).
async fn end_replaced(app: &App, headers: &HeaderMap, ip: ClientIp) -> Result<(), ApiError> {
    let Some(token) = app.cookie().read(headers) else { return Ok(()) };
    match logins::find(app, &token).await? {
        Some(old) => end(app, &old, &Actor::person(old.person_id, ip)).await,
        None => Ok(()),
    }
}

/// Where the caller is signed in.
#[utoipa::path(
    get,
    path = "/api/logins",
    tag = "logins",
    responses((status = 200, body = [Login]), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_logins(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Json<Vec<Login>>, ApiError> {
    let now = app.now();
    let rows = own(&caller).order_by_desc(login::Column::LastSeenAt).all(app.db()).await?;
    let live = rows.into_iter().filter(|row| row.is_live(now));
    Ok(Json(live.map(|row| Login::new(row, caller.login.id)).collect()))
}

impl Login {
    fn new(row: login::Model, current: Uuid) -> Self {
        Self {
            id: row.id,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            user_agent: row.user_agent,
            ip: row.ip,
            current: row.id == current,
        }
    }
}

/// Live logins of the caller's own.
fn own(caller: &SignedIn) -> sea_orm::Select<login::Entity> {
    caller
        .scope()
        .rows::<login::Entity>()
        .filter(login::Column::PersonId.eq(caller.person.id))
        .filter(login::Column::RevokedAt.is_null())
}

/// Signs out: ends the login that asks.
#[utoipa::path(
    delete,
    path = "/api/logins/current",
    tag = "logins",
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn end_current_login(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Response, ApiError> {
    end(&app, &caller.login, &caller.actor()).await?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, app.cookie().clear())]).into_response())
}

/// Ends a login of the caller's, and everything that runs on it, at once.
#[utoipa::path(
    delete,
    path = "/api/logins/{id}",
    tag = "logins",
    params(("id" = Uuid, Path, description = "the login")),
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn end_login(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<StatusCode, ApiError> {
    let row = own(&caller).filter(login::Column::Id.eq(id)).one(app.db()).await?;
    let row = row.ok_or_else(|| ApiError::not_found("login"))?;
    end(&app, &row, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends `login` and tells everybody who acts on it.
///
/// # Errors
/// When the database fails.
pub async fn end(app: &App, login: &login::Model, actor: &Actor) -> Result<(), ApiError> {
    let tx = db::write(app.db()).await?;
    logins::end(&tx, login, app.now(), actor).await?;
    tx.commit().await?;
    logins::tell_ended(app, login).await;
    Ok(())
}
