//! Brokers that stand alone, and which of them has a machine's tunnel.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string, string_null, uuid, uuid_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut broker = Table::create().table("broker").to_owned();
        broker
            .col(uuid("id").primary_key())
            .col(string("name"))
            .col(string("token_mac").unique_key())
            .col(string_null("viewer_url"))
            .col(string_null("tunnel_addr"))
            .col(string_null("version"))
            .col(big_integer_null("certificate_until"))
            .col(big_integer("created_at"))
            .col(big_integer_null("last_seen_at"))
            .col(big_integer_null("revoked_at"));
        manager.create_table(broker).await?;
        let mut machine = Table::alter().table("machine").to_owned();
        machine.add_column(uuid_null("broker_id"));
        manager.alter_table(machine).await
    }
}
