//! The first schema: people, machines, enrolment, revocations, audit.
//!
//! Times are Unix milliseconds. Every table but those of the installation itself carries its organisation.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, integer, json, string, string_null, text, uuid, uuid_null,
};

/// See the module.
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [installation(), setup_token(), organisation(), person(), membership(), login()] {
            manager.create_table(table).await?;
        }
        for table in [machine(), join_token(), device_request(), revocation(), audit_entry()] {
            manager.create_table(table).await?;
        }
        for index in indices() {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

fn table(name: &'static str) -> TableCreateStatement {
    Table::create().table(name).to_owned()
}

fn id() -> ColumnDef {
    uuid("id").primary_key().to_owned()
}

/// A reference to the tenant, for every table of a tenant.
fn of_organisation(mut table: TableCreateStatement) -> TableCreateStatement {
    table
        .col(uuid("organisation_id"))
        .foreign_key(ForeignKey::create().from_col("organisation_id").to("organisation", "id"))
        .to_owned()
}

fn installation() -> TableCreateStatement {
    table("installation").col(id()).col(string("name")).col(big_integer("created_at")).to_owned()
}

fn setup_token() -> TableCreateStatement {
    table("setup_token").col(string("token_mac").primary_key()).col(big_integer("expires_at")).to_owned()
}

fn organisation() -> TableCreateStatement {
    table("organisation").col(id()).col(string("name")).col(big_integer("created_at")).to_owned()
}

fn person() -> TableCreateStatement {
    table("person")
        .col(id())
        .col(string("email"))
        .col(string("email_key").unique_key())
        .col(string("name"))
        .col(string("password_hash"))
        .col(big_integer("created_at"))
        .to_owned()
}

fn membership() -> TableCreateStatement {
    of_organisation(table("membership"))
        .col(uuid("person_id"))
        .col(string("role"))
        .col(big_integer("created_at"))
        .primary_key(Index::create().col("person_id").col("organisation_id"))
        .foreign_key(ForeignKey::create().from_col("person_id").to("person", "id"))
        .to_owned()
}

fn login() -> TableCreateStatement {
    of_organisation(table("login"))
        .col(id())
        .col(uuid("person_id"))
        .col(string("token_mac").unique_key())
        .col(big_integer("created_at"))
        .col(big_integer("last_seen_at"))
        .col(string("user_agent"))
        .col(string("ip"))
        .col(string("net"))
        .col(big_integer_null("revoked_at"))
        .foreign_key(ForeignKey::create().from_col("person_id").to("person", "id"))
        .to_owned()
}

fn machine() -> TableCreateStatement {
    of_organisation(table("machine"))
        .col(id())
        .col(string("name"))
        .col(string("kind"))
        .col(string("os"))
        .col(string("arch"))
        .col(string("hostname"))
        .col(string("agent_version"))
        .col(json("tags"))
        .col(text("public_key"))
        .col(uuid("enrolled_by"))
        .col(big_integer("created_at"))
        .col(big_integer_null("last_seen_at"))
        .col(big_integer_null("removed_at"))
        .col(big_integer_null("tunnel"))
        .col(big_integer_null("online_since"))
        .col(string_null("address"))
        .col(string_null("transport"))
        .to_owned()
}

fn join_token() -> TableCreateStatement {
    of_organisation(table("join_token"))
        .col(id())
        .col(string("label"))
        .col(string("token_mac").unique_key())
        .col(string_null("key_fingerprint"))
        .col(integer("uses_left"))
        .col(uuid("created_by"))
        .col(big_integer("created_at"))
        .col(big_integer("expires_at"))
        .to_owned()
}

fn device_request() -> TableCreateStatement {
    table("device_request")
        .col(id())
        .col(string("device_mac").unique_key())
        .col(string("user_mac").unique_key())
        .col(string("name"))
        .col(string("os"))
        .col(string("arch"))
        .col(string("hostname"))
        .col(string("agent_version"))
        .col(string("key_fingerprint"))
        .col(string("ip"))
        .col(string("net"))
        .col(string("state"))
        .col(uuid_null("organisation_id"))
        .col(uuid_null("decided_by"))
        .col(big_integer("created_at"))
        .col(big_integer("expires_at"))
        .to_owned()
}

fn revocation() -> TableCreateStatement {
    of_organisation(table("revocation"))
        .col(id())
        .col(string("principal"))
        .col(big_integer("at"))
        .col(big_integer("until"))
        .to_owned()
}

fn audit_entry() -> TableCreateStatement {
    of_organisation(table("audit_entry"))
        .col(id())
        .col(big_integer("seq"))
        .col(big_integer("at"))
        .col(string("actor_kind"))
        .col(string("actor_id"))
        .col(string("ip"))
        .col(string("action"))
        .col(string("target"))
        .col(text("detail"))
        .col(string("previous"))
        .col(string("hash"))
        .to_owned()
}

fn indices() -> Vec<IndexCreateStatement> {
    let plain = |name: &'static str, table: &'static str, columns: &[&'static str]| {
        let mut index = Index::create().name(name).table(table).to_owned();
        for column in columns {
            index.col(*column);
        }
        index
    };
    vec![
        plain("login_by_person", "login", &["organisation_id", "person_id"]),
        plain("login_by_age", "login", &["last_seen_at"]),
        plain("machine_by_organisation", "machine", &["organisation_id", "removed_at"]),
        plain("join_token_by_organisation", "join_token", &["organisation_id", "expires_at"]),
        plain("device_request_by_net", "device_request", &["net", "state"]),
        plain("device_request_by_age", "device_request", &["expires_at"]),
        plain("revocation_by_organisation", "revocation", &["organisation_id", "until"]),
        plain("audit_entry_in_order", "audit_entry", &["organisation_id", "seq"]).unique().to_owned(),
    ]
}
