//! Revocations: what was issued to a principal at or before a moment is void.

use std::fmt;
use std::time::Duration;

use rexec_shared::limits::FEED_ENTRIES_MAX;
use rexec_shared::ticket::Revocation;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Set,
};
use uuid::Uuid;

use crate::entity::revocation;
use crate::limits::LOGIN_LIFE;
use crate::scope::Scope;
use crate::time::Timestamp;

/// Who loses what was issued to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal {
    /// One login of a person.
    Login(Uuid),
    /// A machine.
    Machine(Uuid),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login(id) => write!(f, "login:{id}"),
            Self::Machine(id) => write!(f, "machine:{id}"),
        }
    }
}

/// Until when a revocation made `now` must be told: nothing issued before it lives longer than a login.
pub fn longest(now: Timestamp) -> Timestamp {
    now.plus(LOGIN_LIFE).plus(Duration::from_secs(24 * 3600))
}

/// Writes it down, to be told in every feed `until` then.
///
/// # Errors
/// When the database fails.
pub async fn record<C: ConnectionTrait>(
    db: &C,
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
    row.insert(db).await.map(drop)
}

/// What a feed made `now` must say: the newest first, should there be more than fit.
///
/// # Errors
/// When the database fails.
pub async fn in_force<C: ConnectionTrait>(
    db: &C,
    scope: Scope,
    now: Timestamp,
) -> Result<Vec<Revocation>, DbErr> {
    let most = u64::try_from(FEED_ENTRIES_MAX).unwrap_or(u64::MAX);
    let rows = scope
        .rows::<revocation::Entity>()
        .filter(revocation::Column::Until.gt(now))
        .order_by_desc(revocation::Column::At)
        .limit(most.saturating_add(1))
        .all(db)
        .await?;
    if rows.len() > FEED_ENTRIES_MAX {
        tracing::error!(organisation = %scope.organisation(), "more revocations are in force than a feed holds: the oldest are left out");
    }
    let entries = rows.into_iter().take(FEED_ENTRIES_MAX);
    Ok(entries.map(|row| Revocation { principal: row.principal, at: row.at.unix_ms() }).collect())
}

/// Forgets those that nothing alive could have been issued before.
///
/// # Errors
/// When the database fails.
pub async fn forget_old<C: ConnectionTrait>(db: &C, now: Timestamp) -> Result<(), DbErr> {
    revocation::Entity::delete_many().filter(revocation::Column::Until.lte(now)).exec(db).await.map(drop)
}
