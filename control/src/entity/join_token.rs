//! A permission to enrol machines.

use sea_orm::entity::prelude::*;

use crate::time::Timestamp;

/// A permission to enrol machines.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "join_token")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation_id: Uuid,
    /// What its maker calls it.
    pub label: String,
    /// Keyed hash of the token.
    #[sea_orm(unique)]
    pub token_mac: String,
    /// The only key it enrols, when an approval made it for one.
    pub key_fingerprint: Option<String>,
    /// How many machines it still enrols.
    pub uses_left: i32,
    /// Who made it.
    pub created_by: Uuid,
    /// When.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// The only machine it lets in, which is there already: a sandbox whose agent has a new key.
    pub machine_id: Option<Uuid>,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl crate::scope::Owned for Entity {
    const ID: Column = Column::Id;
    const ORGANISATION: Column = Column::OrganisationId;
}
