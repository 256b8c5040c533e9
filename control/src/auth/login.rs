//! Logins: an authenticated person's device, behind a cookie, revocable at once.

use std::time::Duration;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Set,
};
use uuid::Uuid;

use super::client_ip::ClientIp;
use crate::app::App;
use crate::audit::{self, Actor, Deed};
use crate::entity::{login, person};
use crate::error::ApiError;
use crate::events::Event;
use crate::limits::{LOGIN_IDLE, LOGIN_KEEP, LOGIN_LIFE, LOGIN_TOUCH, LOGINS_PER_PERSON};
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

/// A login just made.
#[derive(Debug)]
pub struct Begun {
    /// The login.
    pub login: login::Model,
    /// What its cookie holds.
    pub token: Secret<String>,
    /// Logins it took the place of: [`tell_ended`] is owed each of them after the commit.
    pub ended: Vec<login::Model>,
}

/// Makes a login with a token of its own, and ends the person's oldest when there are too many. The organisation is locked, so
/// that of many at once none is counted out (THREATS BU-09).
///
/// # Errors
/// When the database or the randomness fails.
pub async fn begin(
    app: &App,
    tx: &DatabaseTransaction,
    scope: Scope,
    person: &person::Model,
    device: &Device,
) -> Result<Begun, ApiError> {
    let token = fresh_token("")?;
    audit::lock(tx, scope).await?;
    let now = app.now();
    let ended = end_the_oldest(tx, scope, person.id, now).await?;
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
    Ok(Begun { login: row.insert(tx).await?, token, ended })
}

async fn end_the_oldest(
    tx: &DatabaseTransaction,
    scope: Scope,
    person: Uuid,
    now: Timestamp,
) -> Result<Vec<login::Model>, DbErr> {
    let live = scope
        .rows::<login::Entity>()
        .filter(login::Column::PersonId.eq(person))
        .filter(login::Column::RevokedAt.is_null());
    let surplus = (live.clone().count(tx).await? + 1).saturating_sub(LOGINS_PER_PERSON);
    if surplus == 0 {
        return Ok(Vec::new());
    }
    let oldest = live.order_by_asc(login::Column::LastSeenAt).limit(surplus).all(tx).await?;
    for login in &oldest {
        end(tx, login, now, &Actor::control()).await?;
    }
    Ok(oldest)
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

/// The login `id`, read anew, if it is still live; held as it is until the transaction ends, if `db` is one.
///
/// # Errors
/// When the database fails.
pub async fn still_live<C: ConnectionTrait>(
    db: &C,
    id: Uuid,
    now: Timestamp,
) -> Result<Option<login::Model>, DbErr> {
    let found = login::Entity::find_by_id(id).lock_shared().one(db).await?;
    Ok(found.filter(|login| login.is_live(now)))
}

/// Ends a login and writes it down: its cookie opens nothing from now on, and all that was issued to it is void.
/// [`tell_ended`] is owed after the commit.
///
/// # Errors
/// When the database fails.
pub async fn end(
    tx: &DatabaseTransaction,
    login: &login::Model,
    now: Timestamp,
    actor: &Actor,
) -> Result<(), DbErr> {
    let scope = Scope::of(login.organisation_id);
    // The organisation first, as everybody who locks both.
    audit::lock(tx, scope).await?;
    scope
        .update::<login::Entity>()
        .col_expr(login::Column::RevokedAt, Expr::value(now))
        .filter(login::Column::Id.eq(login.id))
        .exec(tx)
        .await?;
    // A minute more than anything issued to it could live, for clocks that differ.
    let until = login.born_to_end_at().plus(Duration::from_secs(60));
    revocation::record(tx, scope, revocation::Principal::Login(login.id), now, until).await?;
    audit::append(tx, scope, now, actor, Deed::new("login.end", login.id)).await
}

/// Tells everybody who acts on it that `login` has ended.
pub async fn tell_ended(app: &App, login: &login::Model) {
    app.parts().hub.tell(login.organisation_id, Event::LoginEnded(login.id));
    app.parts().feeds.changed(login.organisation_id).await;
}

/// Forgets logins that ended [`LOGIN_KEEP`] ago.
///
/// # Errors
/// When the database fails.
pub async fn forget_old<C: ConnectionTrait>(db: &C, now: Timestamp) -> Result<(), DbErr> {
    login::Entity::delete_many()
        .filter(login::Column::RevokedAt.lt(now.minus(LOGIN_KEEP)))
        .exec(db)
        .await
        .map(drop)
}
