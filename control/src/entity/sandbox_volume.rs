//! The home of a sandbox, which may outlive it.

use sea_orm::entity::prelude::*;

use crate::time::Timestamp;

/// The home of a sandbox, which may outlive it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sandbox_volume")]
pub struct Model {
    /// Its id, from which its name on the engine is made.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation_id: Uuid,
    /// Name of the sandbox it was made for.
    pub name: String,
    /// The pool whose engine has it.
    pub pool: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is to be removed.
    pub removed_at: Option<Timestamp>,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl crate::scope::Owned for Entity {
    const ID: Column = Column::Id;
    const ORGANISATION: Column = Column::OrganisationId;
}
