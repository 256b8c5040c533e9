//! Logins: an authenticated person's device, behind a cookie, revocable at once.

use std::time::Duration;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, Set,
};
use uuid::Uuid;

use super::client_ip::ClientIp;
use crate::app::App;
use crate::entity::{login, person};
use crate::error::ApiError;
use crate::limits::{LOGIN_IDLE, LOGIN_LIFE, LOGIN_TOUCH, LOGINS_PER_PERSON};
use crate::revocation;
use crate::scope::Scope;
use crate::secret::{Purpose, Secret, fresh_token};
use crate::time::Timestamp;
use crate::words;

/// Longest description a browser gives of itself that is kept, characters.
const USER_AGENT_MAX: usize = 200;

/// Where a login is made from.
#[derive(Debug, Clone)]
pub struct Device {
    /// The address.
    pub ip: ClientIp,
    /// The browser by its own account.
    pub user_agent: String,
}

impl Device {
    /// What the headers say, cut to size.
    pub fn new(ip: ClientIp, headers: &http::HeaderMap) -> Self {
        let said =
            headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self { ip, user_agent: words::printable(said, USER_AGENT_MAX) }
    }
}

impl login::Model {
    /// When it ends if nothing more is heard of it.
    pub fn ends_at(&self) -> Timestamp {
        self.last_seen_at.plus(LOGIN_IDLE).min(self.born_to_end_at())
    }

    /// When it ends however busy it is.
    pub fn born_to_end_at(&self) -> Timestamp {
        self.created_at.plus(LOGIN_LIFE)
    }

    /// Whether its cookie still opens anything.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.ends_at()
    }

    /// Whether its last request should be written down again.
    fn should_touch(&self, now: Timestamp) -> bool {
        self.last_seen_at.plus(LOGIN_TOUCH) < now
    }
}

/// Makes a login with a token of its own, and ends the person's oldest when there are too many.
///
/// # Errors
/// When the database or the randomness fails.
pub async fn begin<C: ConnectionTrait>(
    app: &App,
    db: &C,
    scope: Scope,
    person: &person::Model,
    device: &Device,
) -> Result<(login::Model, Secret<String>), ApiError> {
    let (now, token) = (app.now(), fresh_token("")?);
    end_the_oldest(db, scope, person.id, now).await?;
    let row = login::ActiveModel {
        id: Set(Uuid::now_v7()),
        organisation_id: Set(scope.organisation()),
        person_id: Set(person.id),
        token_mac: Set(app.vault().mac(Purpose::Login, token.expose())),
        created_at: Set(now),
        last_seen_at: Set(now),
        user_agent: Set(device.user_agent.clone()),
        ip: Set(device.ip.to_string()),
        net: Set(device.ip.net()),
        revoked_at: Set(None),
    };
    Ok((row.insert(db).await?, token))
}

async fn end_the_oldest<C: ConnectionTrait>(
    db: &C,
    scope: Scope,
    person: Uuid,
    now: Timestamp,
) -> Result<(), DbErr> {
    let live = scope
        .rows::<login::Entity>()
        .filter(login::Column::PersonId.eq(person))
        .filter(login::Column::RevokedAt.is_null());
    if live.clone().count(db).await? < LOGINS_PER_PERSON {
        return Ok(());
    }
    match live.order_by_asc(login::Column::LastSeenAt).one(db).await? {
        Some(oldest) => end(db, &oldest, now).await,
        None => Ok(()),
    }
}

/// The live login behind `token`, its last request noted.
///
/// # Errors
/// When the database fails.
pub async fn find(app: &App, token: &Secret<String>) -> Result<Option<login::Model>, DbErr> {
    let now = app.now();
    let found = login::Entity::find()
        .filter(login::Column::TokenMac.eq(app.vault().mac(Purpose::Login, token.expose())))
        .one(app.db())
        .await?
        .filter(|login| login.is_live(now));
    match found {
        Some(login) if login.should_touch(now) => touch(app, login).await.map(Some),
        other => Ok(other),
    }
}

/// Notes that `login` is in use.
///
/// # Errors
/// When the database fails.
pub async fn touch(app: &App, mut login: login::Model) -> Result<login::Model, DbErr> {
    login.last_seen_at = app.now();
    Scope::of(login.organisation_id)
        .update::<login::Entity>()
        .col_expr(login::Column::LastSeenAt, Expr::value(login.last_seen_at))
        .filter(login::Column::Id.eq(login.id))
        .exec(app.db())
        .await?;
    Ok(login)
}

/// Ends a login: its cookie opens nothing from now on, and all that was issued to it is void.
///
/// # Errors
/// When the database fails.
pub async fn end<C: ConnectionTrait>(db: &C, login: &login::Model, now: Timestamp) -> Result<(), DbErr> {
    let scope = Scope::of(login.organisation_id);
    scope
        .update::<login::Entity>()
        .col_expr(login::Column::RevokedAt, Expr::value(now))
        .filter(login::Column::Id.eq(login.id))
        .exec(db)
        .await?;
    // A minute more than anything issued to it could live, for clocks that differ.
    let until = login.born_to_end_at().plus(Duration::from_secs(60));
    revocation::record(db, scope, revocation::Principal::Login(login.id), now, until).await
}
