//! The first person: made once, by whoever reads the console or may run commands beside the server (THREATS IN-02).

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr,
    EntityTrait as _, PaginatorTrait as _, QueryFilter as _, Set,
};
use uuid::Uuid;

use crate::audit::{self, Actor, Deed};
use crate::auth::identifier::EmailKey;
use crate::db;
use crate::entity::{PasswordHash, Role, membership, organisation, person, setup_token};
use crate::error::ApiError;
use crate::limits::SETUP_LIFE;
use crate::scope::Scope;
use crate::secret::{Purpose, Secret, Vault, fresh_token};
use crate::time::Timestamp;

/// Whether nobody owns the installation yet.
///
/// # Errors
/// When the database fails.
pub async fn is_needed<C: ConnectionTrait>(db: &C) -> Result<bool, DbErr> {
    Ok(membership::Entity::find().filter(membership::Column::Role.eq(Role::Owner)).count(db).await? == 0)
}

/// A fresh token for the set-up link; any earlier one opens nothing any more. None once there is an owner.
///
/// # Errors
/// When the database or the randomness fails.
pub async fn mint_token(
    db: &DatabaseConnection,
    vault: &Vault,
    now: Timestamp,
) -> Result<Option<Secret<String>>, ApiError> {
    let tx = db::write(db).await?;
    if !is_needed(&tx).await? {
        return Ok(None);
    }
    setup_token::Entity::delete_many().exec(&tx).await?;
    let token = fresh_token("")?;
    let row = setup_token::ActiveModel {
        token_mac: Set(vault.mac(Purpose::Setup, token.expose())),
        expires_at: Set(now.plus(SETUP_LIFE)),
    };
    row.insert(&tx).await?;
    tx.commit().await?;
    Ok(Some(token))
}

/// Whether `token` would open set-up now; spends nothing.
///
/// # Errors
/// When the database fails.
pub async fn is_good<C: ConnectionTrait>(
    db: &C,
    vault: &Vault,
    token: &str,
    now: Timestamp,
) -> Result<bool, DbErr> {
    let found = setup_token::Entity::find_by_id(vault.mac(Purpose::Setup, token)).one(db).await?;
    Ok(found.is_some_and(|row| now < row.expires_at))
}

/// Spends `token`, in the transaction that makes the owner.
///
/// # Errors
/// When the database fails.
pub async fn spend(
    tx: &DatabaseTransaction,
    vault: &Vault,
    token: &str,
    now: Timestamp,
) -> Result<bool, DbErr> {
    let spent = setup_token::Entity::delete_many()
        .filter(setup_token::Column::TokenMac.eq(vault.mac(Purpose::Setup, token)))
        .filter(setup_token::Column::ExpiresAt.gt(now))
        .exec(tx)
        .await?;
    Ok(spent.rows_affected == 1)
}

/// A person to be made.
#[derive(Debug)]
pub struct NewPerson {
    /// As the person wrote it.
    pub email: String,
    /// Shown to others.
    pub name: String,
    /// Already hashed.
    pub password_hash: PasswordHash,
}

/// A person cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NewPersonError {
    /// The address is taken.
    #[error("somebody with this e-mail address is here already")]
    Taken,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbErr),
}

/// Makes a person who owns an organisation of their own.
///
/// # Errors
/// When the address is taken or the database fails.
pub async fn make_owner(
    tx: &DatabaseTransaction,
    new: NewPerson,
    actor: &Actor,
    now: Timestamp,
) -> Result<(person::Model, Scope), NewPersonError> {
    let email_key = EmailKey::of(&new.email).as_str().to_owned();
    if person::Entity::find().filter(person::Column::EmailKey.eq(&email_key)).one(tx).await?.is_some() {
        return Err(NewPersonError::Taken);
    }
    let organisation = organisation::ActiveModel {
        id: Set(Uuid::now_v7()),
        name: Set(new.name.clone()),
        created_at: Set(now),
    };
    let organisation = organisation.insert(tx).await?;
    let person = person::ActiveModel {
        id: Set(Uuid::now_v7()),
        email: Set(new.email.trim().to_owned()),
        email_key: Set(email_key),
        name: Set(new.name),
        password_hash: Set(new.password_hash),
        created_at: Set(now),
    };
    let person = person.insert(tx).await?;
    let membership = membership::ActiveModel {
        person_id: Set(person.id),
        organisation_id: Set(organisation.id),
        role: Set(Role::Owner),
        created_at: Set(now),
    };
    membership.insert(tx).await?;
    let scope = Scope::of(organisation.id);
    audit::append(tx, scope, now, actor, Deed::new("person.create", person.id)).await?;
    Ok((person, scope))
}
