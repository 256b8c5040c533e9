//! The one-time link that makes the owner: one row while there is no owner.

use sea_orm::entity::prelude::*;

use crate::time::Timestamp;

/// The one-time link that makes the owner: one row while there is no owner.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "setup_token")]
pub struct Model {
    /// Keyed hash of the token.
    #[sea_orm(primary_key, auto_increment = false)]
    pub token_mac: String,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
