//! What a person prefers, kept for every browser of theirs.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, json, string, uuid};

/// See the module.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut table = Table::create().table("person_preference").to_owned();
        table
            .col(uuid("person_id"))
            .col(string("key"))
            .col(json("value"))
            .col(big_integer("changed_at"))
            .primary_key(Index::create().col("person_id").col("key"))
            .foreign_key(ForeignKey::create().from_col("person_id").to("person", "id"));
        manager.create_table(table).await
    }
}
