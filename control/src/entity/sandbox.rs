//! What a machine of kind sandbox is besides: its container, as it should be and as it is.

use sea_orm::entity::prelude::*;

use super::{Desired, SandboxNetwork, SandboxState};
use crate::time::Timestamp;

/// What a machine of kind sandbox is besides: its container, as it should be and as it is.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sandbox")]
pub struct Model {
    /// Its id, which is the machine's.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The organisation it belongs to.
    pub organisation_id: Uuid,
    /// The pool whose engine has it.
    pub pool: String,
    /// Reference of its image.
    pub image: String,
    /// Thousandths of a processor.
    pub cpus_milli: i32,
    /// Memory, MiB; there is no swap beside it.
    pub memory_mb: i32,
    /// Processes and threads.
    pub pids: i32,
    /// What it may reach.
    pub network: SandboxNetwork,
    /// Where a restricted one may go: a JSON list of `{host, port}`.
    pub allow: Json,
    /// What is set up in it at first.
    pub preset: Option<String>,
    /// When that was done, well or not.
    pub set_up_at: Option<Timestamp>,
    /// The snapshot it was made of.
    pub snapshot_id: Option<Uuid>,
    /// When that one's home was copied into its own.
    pub filled_at: Option<Timestamp>,
    /// Its home.
    pub volume_id: Uuid,
    /// What it should be.
    pub desired: Desired,
    /// What it is.
    pub state: SandboxState,
    /// What stands in its way: a JSON `Problem` of `crate::sandboxes`.
    pub problem: Option<Json>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its container was last started.
    pub started_at: Option<Timestamp>,
    /// When its agent was last given a token.
    pub admitted_at: Option<Timestamp>,
    /// When its agent took it.
    pub enrolled_at: Option<Timestamp>,
    /// When a session was last seen on it.
    pub last_active_at: Option<Timestamp>,
    /// When it is deleted by itself.
    pub expires_at: Option<Timestamp>,
    /// Without a session for so many seconds it is stopped.
    pub idle_stop_s: Option<i32>,
    /// Whether its home goes with it.
    pub drop_volume: bool,
    /// Counts what a person wants of it: what was begun for an older wish does not overwrite a newer one.
    pub generation: i32,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl crate::scope::Owned for Entity {
    const ID: Column = Column::Id;
    const ORGANISATION: Column = Column::OrganisationId;
}
