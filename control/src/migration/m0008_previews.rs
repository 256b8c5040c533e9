//! Ports of machines that people look at in a browser.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, integer, string_null, uuid, uuid_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut table = Table::create().table("preview").to_owned();
        table
            .col(uuid("id").primary_key())
            .col(uuid("organisation_id"))
            .col(uuid("machine_id"))
            .col(integer("port"))
            .col(uuid("person_id"))
            .col(big_integer("created_at"))
            .col(uuid_null("share_id"))
            .col(string_null("share_mac"))
            .col(uuid_null("share_person_id"))
            .col(big_integer_null("share_until"))
            .foreign_key(ForeignKey::create().from_col("organisation_id").to("organisation", "id"))
            .foreign_key(ForeignKey::create().from_col("machine_id").to("machine", "id"))
            .foreign_key(ForeignKey::create().from_col("person_id").to("person", "id"));
        manager.create_table(table).await?;
        let index = Index::create()
            .name("preview_by_port")
            .table("preview")
            .col("machine_id")
            .col("port")
            .unique()
            .to_owned();
        manager.create_index(index).await
    }
}
