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
pub mod revocation;
pub mod setup_token;

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
