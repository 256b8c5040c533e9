//! The tenant in the type of the query.
//!
//! A handler never writes `machine::Entity::find()`: it asks its [`Scope`], which knows one organisation only. A row of
//! another organisation is not found, so what a caller may not know of is 404 without a check that could be forgotten.

use sea_orm::sea_query::IntoCondition as _;
use sea_orm::{ColumnTrait, DeleteMany, EntityTrait, QueryFilter, Select, UpdateMany};
use uuid::Uuid;

/// A table whose every row belongs to an organisation.
pub trait Owned: EntityTrait {
    /// The column of the row's own id.
    const ID: Self::Column;
    /// The column of the organisation.
    const ORGANISATION: Self::Column;
}

/// One organisation's part of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    organisation: Uuid,
}

impl Scope {
    /// The part of `organisation`.
    pub const fn of(organisation: Uuid) -> Self {
        Self { organisation }
    }

    /// The organisation.
    pub const fn organisation(self) -> Uuid {
        self.organisation
    }

    /// Its rows.
    pub fn rows<E: Owned>(self) -> Select<E> {
        E::find().filter(E::ORGANISATION.eq(self.organisation))
    }

    /// Its row `id`, if it has one.
    pub fn row<E: Owned>(self, id: Uuid) -> Select<E> {
        self.rows::<E>().filter(E::ID.eq(id))
    }

    /// A change of its rows.
    pub fn update<E: Owned>(self) -> UpdateMany<E> {
        E::update_many().filter(E::ORGANISATION.eq(self.organisation).into_condition())
    }

    /// A deletion of its rows.
    pub fn delete<E: Owned>(self) -> DeleteMany<E> {
        E::delete_many().filter(E::ORGANISATION.eq(self.organisation).into_condition())
    }
}
