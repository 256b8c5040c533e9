//! A piece of command line that a person keeps, for themselves or for everybody in the organisation.

use sea_orm::entity::prelude::*;

use crate::time::Timestamp;

/// A piece of command line that a person keeps, for themselves or for everybody in the organisation.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "snippet")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation_id: Uuid,
    /// Who made it; whose it is, unless it is shared.
    pub person_id: Uuid,
    /// Everybody in the organisation sees it.
    pub shared: bool,
    /// What people find it by; one of a kind among a person's own, and among the shared.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// What is put into the terminal. Its parameters are the web app's matter.
    #[sea_orm(column_type = "Text")]
    pub body: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub changed_at: Timestamp,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl crate::scope::Owned for Entity {
    const ID: Column = Column::Id;
    const ORGANISATION: Column = Column::OrganisationId;
}
