//! Revocations: what was issued to a principal is void.
//!
//! A feed holds [`FEED_ENTRIES_MAX`] entries, so an organisation never keeps more: when one more would be too many, logins of the
//! user who has most are folded into that user's one entry, which voids at least as much. Nothing void comes back to life.

mod fold;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use rexec_shared::limits::FEED_ENTRIES_MAX;
use rexec_shared::ticket::Revocation;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Set,
};
use uuid::Uuid;

use self::fold::{Entry, fold};
use crate::audit;
use crate::entity::{login, revocation};
use crate::limits::LOGIN_LIFE;
use crate::scope::Scope;
use crate::time::Timestamp;

/// Who loses what was issued to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Principal {
    /// One login of a person: all of it, for good.
    Login(Uuid),
    /// A machine: all of it, for good.
    Machine(Uuid),
    /// A person, up to a moment.
    User(Uuid),
    /// Everybody in an organisation, up to a moment.
    Organisation(Uuid),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login(id) => write!(f, "login:{id}"),
            Self::Machine(id) => write!(f, "machine:{id}"),
            Self::User(id) => write!(f, "user:{id}"),
            Self::Organisation(id) => write!(f, "org:{id}"),
        }
    }
}

impl Principal {
    fn parse(text: &str) -> Option<Self> {
        let (kind, id) = text.split_once(':')?;
        let id = id.parse().ok()?;
        match kind {
            "login" => Some(Self::Login(id)),
            "machine" => Some(Self::Machine(id)),
            "user" => Some(Self::User(id)),
            "org" => Some(Self::Organisation(id)),
            _ => None,
        }
    }
}

/// Until when a revocation made `now` must be told: nothing issued before it lives longer than a login.
pub fn longest(now: Timestamp) -> Timestamp {
    now.plus(LOGIN_LIFE).plus(Duration::from_secs(24 * 3600))
}

/// Writes it down, to be told in every feed `until` then, and folds what would not fit a feed any more.
///
/// # Errors
/// When the database fails.
pub async fn record(
    tx: &DatabaseTransaction,
    scope: Scope,
    principal: Principal,
    at: Timestamp,
    until: Timestamp,
) -> Result<(), DbErr> {
    audit::lock(tx, scope).await?;
    insert(tx, scope, principal, at, until).await?;
    let rows = told(scope, at).all(tx).await?;
    if rows.len() > FEED_ENTRIES_MAX { fold_into_fewer(tx, scope, rows).await } else { Ok(()) }
}

async fn insert(
    tx: &DatabaseTransaction,
    scope: Scope,
    principal: Principal,
    at: Timestamp,
    until: Timestamp,
) -> Result<(), DbErr> {
    let row = revocation::ActiveModel {
        id: Set(Uuid::now_v7()),
        organisation_id: Set(scope.organisation()),
        principal: Set(principal.to_string()),
        at: Set(at),
        until: Set(until),
    };
    row.insert(tx).await.map(drop)
}

async fn fold_into_fewer(
    tx: &DatabaseTransaction,
    scope: Scope,
    rows: Vec<revocation::Model>,
) -> Result<(), DbErr> {
    let persons = scope
        .rows::<login::Entity>()
        .select_only()
        .columns([login::Column::Id, login::Column::PersonId])
        .filter(login::Column::RevokedAt.is_not_null())
        .into_tuple::<(Uuid, Uuid)>()
        .all(tx)
        .await?;
    let persons: HashMap<Uuid, Uuid> = persons.into_iter().collect();
    let entries = rows.into_iter().filter_map(|row| {
        let principal = Principal::parse(&row.principal)?;
        let user = match principal {
            Principal::Login(id) => persons.get(&id).copied(),
            Principal::User(id) => Some(id),
            Principal::Machine(_) | Principal::Organisation(_) => None,
        };
        Some(Entry { row: row.id, principal, user, at: row.at, until: row.until })
    });
    let folded = fold(entries.collect(), scope.organisation(), FEED_ENTRIES_MAX);
    tracing::info!(organisation = %scope.organisation(), removed = folded.removed.len(), "revocations were folded");
    for part in folded.removed.chunks(FEED_ENTRIES_MAX) {
        let ids = revocation::Column::Id.is_in(part.iter().copied());
        scope.delete::<revocation::Entity>().filter(ids).exec(tx).await?;
    }
    for (principal, at, until) in folded.added {
        insert(tx, scope, principal, at, until).await?;
    }
    Ok(())
}

/// What a feed made `now` must say. Machines come first: nothing else stands for them.
///
/// # Errors
/// When the database fails.
pub async fn in_force<C: ConnectionTrait>(
    db: &C,
    scope: Scope,
    now: Timestamp,
) -> Result<Vec<Revocation>, DbErr> {
    let mut rows = told(scope, now).all(db).await?;
    let rank = |row: &revocation::Model| match Principal::parse(&row.principal) {
        Some(Principal::Organisation(_)) => 0,
        Some(Principal::Machine(_)) => 1,
        Some(Principal::User(_) | Principal::Login(_)) | None => 2,
    };
    rows.sort_by_key(rank);
    if rows.len() > FEED_ENTRIES_MAX {
        // Only machines come this far: whoever is left out is cut off by control itself when it dials (crate::presence).
        tracing::error!(organisation = %scope.organisation(), "more machines were removed than a feed holds: the oldest are left out");
    }
    let entries = rows.into_iter().take(FEED_ENTRIES_MAX);
    Ok(entries.map(|row| Revocation { principal: row.principal, at: row.at.unix_ms() }).collect())
}

/// Rows that a feed made `now` must tell, the newest first.
fn told(scope: Scope, now: Timestamp) -> sea_orm::Select<revocation::Entity> {
    scope
        .rows::<revocation::Entity>()
        .filter(revocation::Column::Until.gt(now))
        .order_by_desc(revocation::Column::At)
}

/// Forgets those that nothing alive could have been issued before.
///
/// # Errors
/// When the database fails.
pub async fn forget_old<C: ConnectionTrait>(db: &C, now: Timestamp) -> Result<(), DbErr> {
    revocation::Entity::delete_many().filter(revocation::Column::Until.lte(now)).exec(db).await.map(drop)
}
