//! Something with a shell.

use sea_orm::entity::prelude::*;

use super::MachineKind;
use crate::time::Timestamp;

/// Something with a shell.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "machine")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation_id: Uuid,
    /// Chosen by a person or its agent.
    pub name: String,
    /// Host or sandbox.
    pub kind: MachineKind,
    /// Operating system, as the agent says.
    pub os: String,
    /// Processor, as the agent says.
    pub arch: String,
    /// Host name, as the agent says.
    pub hostname: String,
    /// Version of its agent.
    pub agent_version: String,
    /// Words to find it by: a JSON list of strings.
    pub tags: Json,
    /// Public key of its agent, an uncompressed P-256 point in base64url: the only thing renewal believes.
    pub public_key: String,
    /// Who let it in.
    pub enrolled_by: Uuid,
    /// When it was enrolled.
    pub created_at: Timestamp,
    /// When its tunnel was last known to be up.
    pub last_seen_at: Option<Timestamp>,
    /// When it was removed; its row stays for the audit.
    pub removed_at: Option<Timestamp>,
    /// Number of its tunnel, none while it is offline.
    pub tunnel: Option<i64>,
    /// Since when its tunnel is up.
    pub online_since: Option<Timestamp>,
    /// Where its tunnel comes from.
    pub address: Option<String>,
    /// `quic` or `tcp`.
    pub transport: Option<String>,
    /// Why it is not `quic`: a JSON `TransportReason`.
    pub transport_reason: Option<Json>,
    /// The broker that has its tunnel, or had the last; none: the embedded one.
    pub broker_id: Option<Uuid>,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl crate::scope::Owned for Entity {
    const ID: Column = Column::Id;
    const ORGANISATION: Column = Column::OrganisationId;
}
