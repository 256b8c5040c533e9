//! Snapshots of sandboxes, and which sandbox was made of one.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean, string, string_null, uuid, uuid_null,
};

/// See the module.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(snapshot()).await?;
        let index = Index::create()
            .name("snapshot_by_organisation")
            .table("snapshot")
            .col("organisation_id")
            .to_owned();
        manager.create_index(index).await?;
        // One column at a time: SQLite takes no more.
        for column in [uuid_null("snapshot_id"), big_integer_null("filled_at")] {
            let mut sandboxes = Table::alter().table("sandbox").to_owned();
            sandboxes.add_column(column);
            manager.alter_table(sandboxes).await?;
        }
        Ok(())
    }
}

fn snapshot() -> TableCreateStatement {
    Table::create()
        .table("snapshot")
        .col(uuid("id").primary_key())
        .col(uuid("organisation_id"))
        .col(string("name"))
        .col(uuid("sandbox_id"))
        .col(string("sandbox_name"))
        .col(uuid("home_id"))
        .col(string("image"))
        .col(boolean("template"))
        .col(string("state"))
        .col(string_null("problem"))
        .col(big_integer_null("root_bytes"))
        .col(big_integer_null("home_bytes"))
        .col(big_integer("created_at"))
        .foreign_key(ForeignKey::create().from_col("organisation_id").to("organisation", "id"))
        .to_owned()
}
