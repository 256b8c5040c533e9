//! What a person prefers: one value under one key.

use sea_orm::entity::prelude::*;

use crate::time::Timestamp;

/// What a person prefers: one value under one key.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "person_preference")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub person_id: Uuid,
    /// The web app's name for it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// Any JSON; control does not look into it.
    pub value: Json,
    /// When it was last written.
    pub changed_at: Timestamp,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
