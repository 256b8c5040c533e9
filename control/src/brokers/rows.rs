//! Brokers in the database.

use rexec_shared::limits::CERT_LIFE;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, Set,
};
use uuid::Uuid;

use crate::entity::broker;
use crate::secret::{NoRandomness, Purpose, Secret, Vault, fresh_token};
use crate::time::Timestamp;

/// What every credential of a broker begins with, so that a leaked one is recognised for what it is.
pub const BROKER_PREFIX: &str = "rexec_broker_";

/// Brokers of one installation.
pub const BROKERS_MAX: usize = 256;

/// Why no broker was added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The name is taken.
    #[error("there is a broker called `{0}` already")]
    Taken(String),
    /// There are too many.
    #[error("an installation has at most {BROKERS_MAX} brokers")]
    TooMany,
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The database.
    #[error(transparent)]
    Database(#[from] DbErr),
}

/// All that were not removed, by name.
///
/// # Errors
/// When the database fails.
pub async fn all<C: ConnectionTrait>(db: &C) -> Result<Vec<broker::Model>, DbErr> {
    broker::Entity::find()
        .filter(broker::Column::RevokedAt.is_null())
        .order_by_asc(broker::Column::Name)
        .all(db)
        .await
}

/// Adds one; its credential is shown here and never again.
///
/// # Errors
/// When the name is taken, or the database fails.
pub async fn add(
    tx: &DatabaseTransaction,
    vault: &Vault,
    name: &str,
    now: Timestamp,
) -> Result<(broker::Model, Secret<String>), AddError> {
    let others = all(tx).await?;
    if others.iter().any(|other| other.name == name) {
        return Err(AddError::Taken(name.to_owned()));
    }
    if others.len() >= BROKERS_MAX {
        return Err(AddError::TooMany);
    }
    let credential = fresh_token(BROKER_PREFIX)?;
    let row = broker::ActiveModel {
        id: Set(Uuid::now_v7()),
        name: Set(name.to_owned()),
        token_mac: Set(vault.mac(Purpose::Broker, credential.expose())),
        viewer_url: Set(None),
        tunnel_addr: Set(None),
        version: Set(None),
        certificate_until: Set(None),
        created_at: Set(now),
        last_seen_at: Set(None),
        revoked_at: Set(None),
    };
    Ok((row.insert(tx).await?, credential))
}

/// Removes the one of this name: its credential is worth nothing from here on. None when there is no such broker.
///
/// # Errors
/// When the database fails.
pub async fn remove<C: ConnectionTrait>(db: &C, name: &str, now: Timestamp) -> Result<Option<Uuid>, DbErr> {
    let Some(row) = all(db).await?.into_iter().find(|row| row.name == name) else { return Ok(None) };
    change(row.id).col_expr(broker::Column::RevokedAt, Expr::value(now)).exec(db).await?;
    Ok(Some(row.id))
}

/// The broker whose credential this is. It is looked up by its keyed hash, so no comparison tells anything of another.
pub(super) async fn by_credential<C: ConnectionTrait>(
    db: &C,
    vault: &Vault,
    credential: &str,
) -> Result<Option<broker::Model>, DbErr> {
    broker::Entity::find()
        .filter(broker::Column::TokenMac.eq(vault.mac(Purpose::Broker, credential)))
        .filter(broker::Column::RevokedAt.is_null())
        .one(db)
        .await
}

/// A link begins: what the broker says of itself, and how long the certificate is good that it gets.
pub(super) async fn note_link<C: ConnectionTrait>(
    db: &C,
    id: Uuid,
    (viewer_url, tunnel_addr, version): (&str, &str, &str),
    now: Timestamp,
) -> Result<(), DbErr> {
    change(id)
        .col_expr(broker::Column::ViewerUrl, Expr::value(viewer_url))
        .col_expr(broker::Column::TunnelAddr, Expr::value(tunnel_addr))
        .col_expr(broker::Column::Version, Expr::value(version))
        .col_expr(broker::Column::CertificateUntil, Expr::value(now.plus(CERT_LIFE)))
        .col_expr(broker::Column::LastSeenAt, Expr::value(now))
        .exec(db)
        .await
        .map(drop)
}

/// It got a new certificate.
pub(super) async fn note_certificate<C: ConnectionTrait>(
    db: &C,
    id: Uuid,
    now: Timestamp,
) -> Result<(), DbErr> {
    change(id)
        .col_expr(broker::Column::CertificateUntil, Expr::value(now.plus(CERT_LIFE)))
        .col_expr(broker::Column::LastSeenAt, Expr::value(now))
        .exec(db)
        .await
        .map(drop)
}

/// A link has ended.
pub(super) async fn note_end<C: ConnectionTrait>(db: &C, id: Uuid, now: Timestamp) -> Result<(), DbErr> {
    change(id).col_expr(broker::Column::LastSeenAt, Expr::value(now)).exec(db).await.map(drop)
}

fn change(id: Uuid) -> sea_orm::UpdateMany<broker::Entity> {
    broker::Entity::update_many().filter(broker::Column::Id.eq(id))
}
