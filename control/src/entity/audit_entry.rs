//! One link of the audit chain of an organisation.

use sea_orm::entity::prelude::*;

use crate::time::Timestamp;

/// One link of the audit chain of an organisation.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entry")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation_id: Uuid,
    /// Position in the chain, from 1.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// What did it: `person`, `agent` or `operator`.
    pub actor_kind: String,
    /// Which one.
    pub actor_id: String,
    /// From where.
    pub ip: String,
    /// What was done, as `object.verb`.
    pub action: String,
    /// To what.
    pub target: String,
    /// What else there is to say: JSON, without secrets.
    pub detail: String,
    /// Hash of the entry before it.
    pub previous: String,
    /// Hash of this entry: see `crate::audit`.
    pub hash: String,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl crate::scope::Owned for Entity {
    const ID: Column = Column::Id;
    const ORGANISATION: Column = Column::OrganisationId;
}
