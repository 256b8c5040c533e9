//! A sandbox as it was at a moment: its root as an image, its home as a volume.

use sea_orm::entity::prelude::*;

use super::SnapshotState;
use crate::time::Timestamp;

/// A sandbox as it was at a moment: its root as an image, its home as a volume.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "snapshot")]
pub struct Model {
    /// Its id, from which its names on the engine are made.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation_id: Uuid,
    /// What people call it.
    pub name: String,
    /// The sandbox it is of, which may be gone.
    pub sandbox_id: Uuid,
    /// That sandbox's name.
    pub sandbox_name: String,
    /// The home it is of.
    pub home_id: Uuid,
    /// Reference of the image the sandbox was made of.
    pub image: String,
    /// Offered to everybody who makes a sandbox, beside the images.
    pub template: bool,
    /// What it is.
    pub state: SnapshotState,
    /// Why it could not be made.
    pub problem: Option<String>,
    /// The image with all it is made on, bytes.
    pub root_bytes: Option<i64>,
    /// The home, bytes.
    pub home_bytes: Option<i64>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl crate::scope::Owned for Entity {
    const ID: Column = Column::Id;
    const ORGANISATION: Column = Column::OrganisationId;
}
