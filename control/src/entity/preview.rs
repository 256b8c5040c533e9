//! A port of a machine that is open to browsers.

use sea_orm::entity::prelude::*;

use crate::time::Timestamp;

/// A port of a machine that is open to browsers.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "preview")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation_id: Uuid,
    /// The machine; with the port one of a kind.
    pub machine_id: Uuid,
    /// The port, 1 to 65535.
    pub port: i32,
    /// Who opened it.
    pub person_id: Uuid,
    /// When it was opened.
    pub created_at: Timestamp,
    /// The link it is shared by, if there is one.
    pub share_id: Option<Uuid>,
    /// Keyed hash of the link's secret.
    pub share_mac: Option<String>,
    /// On whose authority it is shared.
    pub share_person_id: Option<Uuid>,
    /// Until when.
    pub share_until: Option<Timestamp>,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl crate::scope::Owned for Entity {
    const ID: Column = Column::Id;
    const ORGANISATION: Column = Column::OrganisationId;
}
