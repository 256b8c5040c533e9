//! The caller: authority as a typed extractor on the handler, never by path (THREATS IN-03).

use axum::extract::FromRequestParts;
use http::request::Parts;
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait as _};
use uuid::Uuid;

use super::client_ip::ClientIp;
use super::login;
use crate::app::App;
use crate::audit::{self, Actor};
use crate::entity::{Role, login as login_row, membership, organisation, person};
use crate::error::ApiError;
use crate::scope::Scope;
use crate::time::Timestamp;

/// What a handler may demand of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Add machines, rename them, remove them.
    ManageMachines,
    /// Write the snippets that everybody in the organisation sees.
    ShareSnippets,
    /// See what everybody in the organisation did, and from where.
    ReadAudit,
}

impl Role {
    /// Whether the role holds the right. Exhaustive on purpose: a new right or role must be decided here.
    pub const fn may(self, right: Right) -> bool {
        match (self, right) {
            (Self::Owner | Self::Admin | Self::Member, Right::ManageMachines) => true,
            (Self::Viewer, Right::ManageMachines) => false,
            (Self::Owner | Self::Admin, Right::ShareSnippets | Right::ReadAudit) => true,
            (Self::Member | Self::Viewer, Right::ShareSnippets | Right::ReadAudit) => false,
        }
    }
}

/// A signed-in person, in the organisation of their login.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The login.
    pub login: login_row::Model,
    /// The person.
    pub person: person::Model,
    /// The organisation.
    pub organisation: organisation::Model,
    /// What the person is there.
    pub role: Role,
    /// From where.
    pub ip: ClientIp,
}

impl SignedIn {
    /// The only part of the database the caller can see.
    pub const fn scope(&self) -> Scope {
        Scope::of(self.organisation.id)
    }

    /// The caller as they are now, for what outlives the request: a body takes its time to arrive, and the login may have ended
    /// meanwhile. Until `tx` ends it does not end.
    ///
    /// # Errors
    /// When the login has ended.
    pub async fn again(&self, tx: &DatabaseTransaction, now: Timestamp) -> Result<Self, ApiError> {
        // The organisation first, as everybody who locks both.
        audit::lock(tx, self.scope()).await?;
        let login = login::still_live(tx, self.login.id, now).await?.ok_or_else(ApiError::unauthorized)?;
        of_login(tx, login, self.ip).await
    }

    /// The caller as the audit names it.
    pub fn actor(&self) -> Actor {
        Actor::person(self.person.id, self.ip)
    }

    /// Whether the caller holds the right.
    pub const fn may(&self, right: Right) -> bool {
        self.role.may(right)
    }

    /// # Errors
    /// When the caller's role does not hold `right`.
    pub fn demand(&self, right: Right) -> Result<(), ApiError> {
        self.role.may(right).then_some(()).ok_or_else(|| {
            ApiError::forbidden("forbidden", "your role in this organisation does not allow this")
                .hint("ask an owner or admin of the organisation")
        })
    }
}

impl FromRequestParts<App> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let ip = ClientIp::from_request_parts(parts, app).await?;
        let token = app.cookie().read(&parts.headers).ok_or_else(ApiError::unauthorized)?;
        let login = login::find(app, &token).await?.ok_or_else(ApiError::unauthorized)?;
        of_login(app.db(), login, ip).await
    }
}

/// The caller behind a live login.
///
/// # Errors
/// When the person is no member of the organisation any more.
pub async fn of_login<C: ConnectionTrait>(
    db: &C,
    login: login_row::Model,
    ip: ClientIp,
) -> Result<SignedIn, ApiError> {
    let key: (Uuid, Uuid) = (login.person_id, login.organisation_id);
    let membership = membership::Entity::find_by_id(key).one(db).await?.ok_or_else(ApiError::unauthorized)?;
    let person = person::Entity::find_by_id(key.0).one(db).await?.ok_or_else(ApiError::unauthorized)?;
    let organisation =
        organisation::Entity::find_by_id(key.1).one(db).await?.ok_or_else(ApiError::unauthorized)?;
    Ok(SignedIn { login, person, organisation, role: membership.role, ip })
}
