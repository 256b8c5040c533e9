//! A person who can sign in.

use sea_orm::entity::prelude::*;

use super::PasswordHash;
use crate::time::Timestamp;

/// A person who can sign in.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "person")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// As the person wrote it.
    pub email: String,
    /// Normalised: the one under which it is found, counted and kept unique.
    #[sea_orm(unique)]
    pub email_key: String,
    /// Shown to others.
    pub name: String,
    /// An argon2id PHC string.
    pub password_hash: PasswordHash,
    /// When the account was made.
    pub created_at: Timestamp,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
