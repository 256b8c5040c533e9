//! Pieces of command line that people keep.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, boolean, string, text, uuid};

/// See the module.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut table = Table::create().table("snippet").to_owned();
        table
            .col(uuid("id").primary_key())
            .col(uuid("organisation_id"))
            .col(uuid("person_id"))
            .col(boolean("shared"))
            .col(string("name"))
            .col(string("description"))
            .col(text("body"))
            .col(big_integer("created_at"))
            .col(big_integer("changed_at"))
            .foreign_key(ForeignKey::create().from_col("organisation_id").to("organisation", "id"))
            .foreign_key(ForeignKey::create().from_col("person_id").to("person", "id"));
        manager.create_table(table).await?;
        let index = Index::create()
            .name("snippet_by_organisation")
            .table("snippet")
            .col("organisation_id")
            .to_owned();
        manager.create_index(index).await
    }
}
