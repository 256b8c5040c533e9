//! A broker that stands alone.

use sea_orm::entity::prelude::*;

use crate::time::Timestamp;

/// A broker that stands alone.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "broker")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Given by the operator.
    pub name: String,
    /// Keyed hash of its credential.
    #[sea_orm(unique)]
    pub token_mac: String,
    /// Origin under which viewers reach it, as it says; none before it first came.
    pub viewer_url: Option<String>,
    /// What agents dial, as it says.
    pub tunnel_addr: Option<String>,
    /// Its version, as it says.
    pub version: Option<String>,
    /// When the certificate ends that it got last.
    pub certificate_until: Option<Timestamp>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When its link was last known to be up.
    pub last_seen_at: Option<Timestamp>,
    /// When it was removed.
    pub revoked_at: Option<Timestamp>,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
