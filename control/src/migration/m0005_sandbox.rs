//! Sandboxes, their volumes, and join tokens that are for one machine alone.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean, integer, integer_null, json, json_null, string, string_null,
    uuid, uuid_null,
};

/// See the module.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(sandbox_volume()).await?;
        manager.create_table(sandbox()).await?;
        for (name, table) in
            [("sandbox_by_organisation", "sandbox"), ("sandbox_volume_by_organisation", "sandbox_volume")]
        {
            let index = Index::create().name(name).table(table).col("organisation_id").to_owned();
            manager.create_index(index).await?;
        }
        let mut tokens = Table::alter().table("join_token").to_owned();
        tokens.add_column(uuid_null("machine_id"));
        manager.alter_table(tokens).await
    }
}

/// A reference to the tenant.
fn of_organisation(name: &'static str) -> TableCreateStatement {
    Table::create()
        .table(name)
        .col(uuid("id").primary_key())
        .col(uuid("organisation_id"))
        .foreign_key(ForeignKey::create().from_col("organisation_id").to("organisation", "id"))
        .to_owned()
}

fn sandbox_volume() -> TableCreateStatement {
    of_organisation("sandbox_volume")
        .col(string("name"))
        .col(string("pool"))
        .col(big_integer("created_at"))
        .col(big_integer_null("removed_at"))
        .to_owned()
}

fn sandbox() -> TableCreateStatement {
    of_organisation("sandbox")
        .col(string("pool"))
        .col(string("image"))
        .col(integer("cpus_milli"))
        .col(integer("memory_mb"))
        .col(integer("pids"))
        .col(string("network"))
        .col(json("allow"))
        .col(string_null("preset"))
        .col(big_integer_null("set_up_at"))
        .col(uuid("volume_id"))
        .col(string("desired"))
        .col(string("state"))
        .col(json_null("problem"))
        .col(big_integer("created_at"))
        .col(big_integer_null("started_at"))
        .col(big_integer_null("admitted_at"))
        .col(big_integer_null("enrolled_at"))
        .col(big_integer_null("last_active_at"))
        .col(big_integer_null("expires_at"))
        .col(integer_null("idle_stop_s"))
        .col(boolean("drop_volume"))
        .col(integer("generation"))
        .foreign_key(ForeignKey::create().from_col("id").to("machine", "id"))
        .foreign_key(ForeignKey::create().from_col("volume_id").to("sandbox_volume", "id"))
        .to_owned()
}
