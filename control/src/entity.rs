//! The tables as the program sees them, one file each. Migrations never look here: they carry frozen copies.

pub mod audit_entry;
pub mod broker;
pub mod device_request;
pub mod installation;
pub mod join_token;
pub mod login;
pub mod machine;
pub mod membership;
pub mod organisation;
pub mod person;
pub mod person_preference;
pub mod preview;
pub mod revocation;
pub mod sandbox;
pub mod sandbox_volume;
pub mod setup_token;
pub mod snapshot;
pub mod snippet;

use std::fmt;

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a person may do in an organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize, ToSchema)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, the organisation itself included.
    #[sea_orm(string_value = "owner")]
    Owner,
    /// Everything but the organisation itself.
    #[sea_orm(string_value = "admin")]
    Admin,
    /// Uses machines and adds them.
    #[sea_orm(string_value = "member")]
    Member,
    /// Looks.
    #[sea_orm(string_value = "viewer")]
    Viewer,
}

/// What stands behind a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize, ToSchema)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
#[serde(rename_all = "snake_case")]
pub enum MachineKind {
    /// Somebody's laptop or server.
    #[sea_orm(string_value = "host")]
    Host,
    /// A container this installation provisioned.
    #[sea_orm(string_value = "sandbox")]
    Sandbox,
}

/// What a sandbox should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize, ToSchema)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Up, with its agent's tunnel standing.
    #[sea_orm(string_value = "running")]
    Running,
    /// There, and not running.
    #[sea_orm(string_value = "stopped")]
    Stopped,
    /// Gone.
    #[sea_orm(string_value = "deleted")]
    Deleted,
}

/// What a sandbox is, as far as control knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize, ToSchema)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// Nothing was done yet, or the engine is away.
    #[sea_orm(string_value = "waiting")]
    Waiting,
    /// Its image is being fetched.
    #[sea_orm(string_value = "pulling")]
    Pulling,
    /// Its container is being made.
    #[sea_orm(string_value = "creating")]
    Creating,
    /// Its container is being started, and its network closed.
    #[sea_orm(string_value = "starting")]
    Starting,
    /// What was chosen for it is being installed.
    #[sea_orm(string_value = "setting_up")]
    SettingUp,
    /// Its agent was let in and has not dialled yet.
    #[sea_orm(string_value = "enrolling")]
    Enrolling,
    /// Its agent's tunnel stands.
    #[sea_orm(string_value = "ready")]
    Ready,
    /// Its container is being stopped.
    #[sea_orm(string_value = "stopping")]
    Stopping,
    /// Not running, as desired.
    #[sea_orm(string_value = "stopped")]
    Stopped,
    /// Being removed.
    #[sea_orm(string_value = "deleting")]
    Deleting,
    /// Given up: `problem` says why. Starting it tries again.
    #[sea_orm(string_value = "failed")]
    Failed,
}

/// What a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize, ToSchema)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// It is being made; its sandbox stands still.
    #[sea_orm(string_value = "saving")]
    Saving,
    /// Sandboxes can be made of it.
    #[sea_orm(string_value = "ready")]
    Ready,
    /// It could not be made: `problem` says why.
    #[sea_orm(string_value = "failed")]
    Failed,
    /// It is being removed.
    #[sea_orm(string_value = "deleting")]
    Deleting,
}

/// What a sandbox may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize, ToSchema)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
#[serde(rename_all = "snake_case")]
pub enum SandboxNetwork {
    /// Nothing but this installation.
    #[sea_orm(string_value = "none")]
    None,
    /// Listed domains and ports.
    #[sea_orm(string_value = "restricted")]
    Restricted,
    /// The internet, and nothing private.
    #[sea_orm(string_value = "open")]
    Open,
}

/// How far a device request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
pub enum DeviceState {
    /// Nobody has decided.
    #[sea_orm(string_value = "pending")]
    Pending,
    /// Approved; the agent has not collected its join token.
    #[sea_orm(string_value = "approved")]
    Approved,
    /// Refused.
    #[sea_orm(string_value = "denied")]
    Denied,
    /// The join token was handed out, once.
    #[sea_orm(string_value = "collected")]
    Collected,
}

/// An argon2id PHC string, which never shows itself.
#[derive(Clone, PartialEq, Eq, DeriveValueType)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}
