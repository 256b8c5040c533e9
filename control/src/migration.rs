//! The history of the schema. Each migration is frozen once released and imports nothing from `entity`.

mod m0001_first;
mod m0002_broker;
mod m0003_transport_reason;
mod m0004_preference;
mod m0005_sandbox;
mod m0006_snapshot;
mod m0007_snippets;
mod m0008_previews;

use sea_orm_migration::prelude::*;

/// Brings any older database to the schema this binary expects.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_first::Migration),
            Box::new(m0002_broker::Migration),
            Box::new(m0003_transport_reason::Migration),
            Box::new(m0004_preference::Migration),
            Box::new(m0005_sandbox::Migration),
            Box::new(m0006_snapshot::Migration),
            Box::new(m0007_snippets::Migration),
            Box::new(m0008_previews::Migration),
        ]
    }
}
