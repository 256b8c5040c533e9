//! An agent that waits for a person's decision.

use sea_orm::entity::prelude::*;

use super::DeviceState;
use crate::time::Timestamp;

/// An agent that waits for a person's decision.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "device_request")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Keyed hash of what the agent polls with.
    #[sea_orm(unique)]
    pub device_mac: String,
    /// Keyed hash of what the person types.
    #[sea_orm(unique)]
    pub user_mac: String,
    /// The name it wants.
    pub name: String,
    /// Operating system, as the agent says.
    pub os: String,
    /// Processor, as the agent says.
    pub arch: String,
    /// Host name, as the agent says.
    pub hostname: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Fingerprint of the agent's public key, to compare by eye.
    pub key_fingerprint: String,
    /// Where it asks from.
    pub ip: String,
    /// Its network, under which requests are counted.
    pub net: String,
    /// How far it got.
    pub state: DeviceState,
    /// The organisation that approved it.
    pub organisation_id: Option<Uuid>,
    /// Who decided.
    pub decided_by: Option<Uuid>,
    /// When it asked.
    pub created_at: Timestamp,
    /// Until when it may be decided and collected.
    pub expires_at: Timestamp,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
