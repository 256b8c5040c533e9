//! `rexec-control broker …`: brokers that stand alone, added and removed beside the running server, which notices within seconds.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use crate::audit::{self, Actor, Deed};
use crate::brokers::rows;
use crate::cli::{owner, say, write_private};
use crate::entity::broker;
use crate::keys::Keys;
use crate::scope::Scope;
use crate::settings::Settings;
use crate::time::{Clock, Timestamp};
use crate::{db, words};

#[derive(Debug, Subcommand)]
pub(crate) enum BrokerCommand {
    /// Add a broker, and show its credential: once, and never again.
    Add(BrokerAdd),
    /// List the brokers.
    List,
    /// Remove a broker: its link is cut within seconds, and its credential is worth nothing any more.
    ///
    /// It gets no certificate again, and the one it has ends within a day; agents that renew are not sent to it. Removed and stolen, it
    /// could cut and read what passes it until then, and open nothing.
    Remove(BrokerRemove),
}

#[derive(Debug, Args)]
pub(crate) struct BrokerAdd {
    /// What to call it: letters, digits, `.`, `_` and `-`.
    name: String,
    /// Write the credential to this file, mode 0600, instead of standard output.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BrokerRemove {
    /// Its name.
    name: String,
}

pub(crate) async fn run(settings: &Settings, command: BrokerCommand) -> anyhow::Result<()> {
    match command {
        BrokerCommand::Add(wish) => add(settings, wish).await,
        BrokerCommand::List => list(settings).await,
        BrokerCommand::Remove(wish) => remove(settings, &wish.name).await,
    }
}

async fn add(settings: &Settings, wish: BrokerAdd) -> anyhow::Result<()> {
    if !words::is_name(&wish.name) {
        bail!("`{}` is no name: a name is {}", wish.name, words::NAME_GRAMMAR);
    }
    let vault = Keys::load_vault(settings)?;
    let db = db::open(&settings.database_url).await?;
    let (tx, now) = (db::write(&db).await?, Clock::default().now());
    let (row, credential) = rows::add(&tx, &vault, &wish.name, now).await?;
    note(&tx, &db, "broker.add", row.id, now).await?;
    tx.commit().await?;
    match &wish.out {
        Some(file) => write_private(file, credential.expose())?,
        None => say(credential.expose())?,
    }
    Ok(db.close().await?)
}

async fn remove(settings: &Settings, name: &str) -> anyhow::Result<()> {
    crate::keys::make_data_dir(settings)?;
    let db = db::open(&settings.database_url).await?;
    let (tx, now) = (db::write(&db).await?, Clock::default().now());
    let removed = rows::remove(&tx, name, now).await?;
    let id = removed.with_context(|| format!("there is no broker called `{name}`"))?;
    note(&tx, &db, "broker.remove", id, now).await?;
    tx.commit().await?;
    Ok(db.close().await?)
}

/// Brokers belong to no organisation; whoever owns the installation first finds them in the audit.
async fn note(
    tx: &DatabaseTransaction,
    db: &sea_orm::DatabaseConnection,
    action: &'static str,
    id: Uuid,
    now: Timestamp,
) -> anyhow::Result<()> {
    // An installation that nobody owns yet has no audit either.
    if let Ok(owner) = owner(db, None).await {
        let scope = Scope::of(owner.organisation_id);
        audit::append(tx, scope, now, &Actor::operator(), Deed::new(action, id)).await?;
    }
    Ok(())
}

async fn list(settings: &Settings) -> anyhow::Result<()> {
    crate::keys::make_data_dir(settings)?;
    let db = db::open(&settings.database_url).await?;
    for row in rows::all(&db).await? {
        say(&line(&row))?;
    }
    Ok(db.close().await?)
}

fn line(row: &broker::Model) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let at = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), Timestamp::to_rfc3339);
    format!(
        "{}  viewers {}  tunnels {}  version {}  last seen {}  certificate until {}",
        row.name,
        or_none(&row.viewer_url),
        or_none(&row.tunnel_addr),
        or_none(&row.version),
        at(row.last_seen_at),
        at(row.certificate_until),
    )
}
