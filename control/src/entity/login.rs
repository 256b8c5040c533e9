//! An authenticated person's device, behind a cookie.

use sea_orm::entity::prelude::*;

use crate::time::Timestamp;

/// An authenticated person's device, behind a cookie.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "login")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation_id: Uuid,
    /// Whose it is.
    pub person_id: Uuid,
    /// Keyed hash of the cookie.
    #[sea_orm(unique)]
    pub token_mac: String,
    /// When it began.
    pub created_at: Timestamp,
    /// Its last request, to the minute.
    pub last_seen_at: Timestamp,
    /// The browser by its own account: untrusted text.
    pub user_agent: String,
    /// Where it was made.
    pub ip: String,
    /// The network it was made from, under which attempts are counted.
    pub net: String,
    /// When it was ended, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl crate::scope::Owned for Entity {
    const ID: Column = Column::Id;
    const ORGANISATION: Column = Column::OrganisationId;
}
