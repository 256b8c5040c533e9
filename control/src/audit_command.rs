//! `rexec-control audit verify`: whether every chain of the audit holds, and holds what was seen before.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use sea_orm::{DatabaseConnection, EntityTrait as _, QueryOrder as _};
use uuid::Uuid;

use crate::audit::{Broken, Head, verify};
use crate::entity::organisation;
use crate::scope::Scope;

/// Ends of chains, one a line: organisation, number of entries, hash of the last.
type Heads = HashMap<Uuid, Head>;

/// Verifies the chain of every organisation against the ends in the file `seen`, and gives the ends now, in the same form.
///
/// # Errors
/// When a chain is broken or has lost what was seen, with every such chain; when the file or the database cannot be read.
pub async fn verify_all(db: &DatabaseConnection, seen: Option<&Path>) -> anyhow::Result<String> {
    let mut seen = seen.map(read).transpose()?.unwrap_or_default();
    let organisations =
        organisation::Entity::find().order_by_asc(organisation::Column::CreatedAt).all(db).await?;
    let (mut ends, mut broken) = (String::new(), Vec::new());
    for organisation in organisations {
        match verify(db, Scope::of(organisation.id), seen.remove(&organisation.id).as_ref()).await {
            Ok(head) => ends.push_str(&format!("{} {} {}\n", organisation.id, head.seq, head.hash)),
            Err(Broken::Database(error)) => return Err(error.into()),
            Err(why @ (Broken::At(_) | Broken::Lost(_))) => {
                broken.push(format!("{}: {why}", organisation.id))
            }
        }
    }
    broken.extend(seen.into_keys().map(|lost| format!("{lost}: the organisation is gone, with its audit")));
    if broken.is_empty() { Ok(ends) } else { bail!("{}", broken.join("\n")) }
}

fn read(file: &Path) -> anyhow::Result<Heads> {
    let named = || file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(named)?;
    let heads =
        text.lines().map(|line| parse(line).with_context(|| format!("{line:?} is no end of a chain")));
    heads.collect::<anyhow::Result<_>>().with_context(named)
}

fn parse(line: &str) -> Option<(Uuid, Head)> {
    let mut words = line.split(' ');
    let (organisation, seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((organisation, Head { seq, hash: words.next().unwrap_or_default().to_owned() }))
}
