//! What was issued to a principal at or before a moment is void.

use sea_orm::entity::prelude::*;

use crate::time::Timestamp;

/// What was issued to a principal at or before a moment is void.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "revocation")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation_id: Uuid,
    /// `user:<id>`, `login:<id>` or `machine:<id>`.
    pub principal: String,
    /// The moment.
    pub at: Timestamp,
    /// From when on nothing that could be issued before `at` is still good.
    pub until: Timestamp,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl crate::scope::Owned for Entity {
    const ID: Column = Column::Id;
    const ORGANISATION: Column = Column::OrganisationId;
}
