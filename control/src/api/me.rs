//! `GET /api/me`: the caller.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::auth::signed_in::SignedIn;
use crate::entity::Role;
use crate::error::{ApiError, Problem};
use crate::secret::Secret;
use crate::time::Timestamp;

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The person.
    pub user: User,
    /// The organisation of this login.
    pub org: Org,
    /// This login.
    pub login: CurrentLogin,
}

/// A person.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    /// Its id.
    pub id: Uuid,
    /// As the person wrote it.
    pub email: String,
    /// Shown to others.
    pub name: String,
}

/// An organisation, and what the caller is in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Org {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The caller's role.
    pub role: Role,
}

/// The login that asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct CurrentLogin {
    /// Its id.
    pub id: Uuid,
    /// When it ends if nothing more is heard of it.
    pub expires_at: Timestamp,
}

impl From<SignedIn> for Me {
    fn from(caller: SignedIn) -> Self {
        Self {
            login: CurrentLogin { id: caller.login.id, expires_at: caller.login.ends_at() },
            user: User { id: caller.person.id, email: caller.person.email, name: caller.person.name },
            org: Org { id: caller.organisation.id, name: caller.organisation.name, role: caller.role },
        }
    }
}

/// The caller.
#[utoipa::path(
    get,
    path = "/api/me",
    tag = "logins",
    responses((status = 200, body = Me), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn get_me(caller: SignedIn) -> Json<Me> {
    Json(caller.into())
}

/// The answer to whoever has just signed in: who they are, and the cookie.
pub(super) fn signed_in(app: &App, caller: SignedIn, token: &Secret<String>) -> Result<Response, ApiError> {
    let cookie = app.cookie().set(token).ok_or_else(|| ApiError::internal(BadCookie))?;
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)], Json(Me::from(caller))).into_response())
}

#[derive(Debug, thiserror::Error)]
#[error("the cookie is no header value")]
struct BadCookie;
