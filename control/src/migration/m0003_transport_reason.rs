//! Why a tunnel runs over TCP, as its agent says.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::json_null;

/// See the module.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = Table::alter().table("machine").add_column(json_null("transport_reason")).to_owned();
        manager.alter_table(column).await
    }
}
