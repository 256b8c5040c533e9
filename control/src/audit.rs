//! The audit: who, as whom, from where, what. Entries are only ever appended, and each carries the hash of the one before it,
//! so that a row changed or removed later breaks the chain of its organisation.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sea_orm::sea_query::LockType;
use sea_orm::{
    ActiveModelTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _, QueryOrder as _,
    QuerySelect as _,
};
use serde_json::Value;
use uuid::Uuid;

use crate::auth::client_ip::ClientIp;
use crate::entity::{audit_entry, organisation};
use crate::scope::Scope;
use crate::time::Timestamp;

/// What did something.
#[derive(Debug, Clone)]
pub struct Actor {
    kind: &'static str,
    id: String,
    ip: String,
}

impl Actor {
    /// A signed-in person.
    pub fn person(id: Uuid, ip: ClientIp) -> Self {
        Self { kind: "person", id: id.to_string(), ip: ip.to_string() }
    }

    /// A machine's agent.
    pub fn agent(machine: Uuid, ip: ClientIp) -> Self {
        Self { kind: "agent", id: machine.to_string(), ip: ip.to_string() }
    }

    /// A person through a broker: the address is the one the broker saw.
    pub fn viewer(person: Uuid, address: &str) -> Self {
        Self { kind: "person", id: person.to_string(), ip: crate::words::printable(address, 64) }
    }

    /// A machine's agent at a broker: the address is the one the broker saw.
    pub fn dialler(machine: Uuid, address: &str) -> Self {
        Self { kind: "agent", id: machine.to_string(), ip: crate::words::printable(address, 64) }
    }

    /// Whoever may run commands beside the server.
    pub fn operator() -> Self {
        Self { kind: "operator", id: String::new(), ip: String::new() }
    }

    /// Control itself, when a time has come.
    pub fn control() -> Self {
        Self { kind: "control", id: String::new(), ip: String::new() }
    }
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Deed {
    /// `object.verb`.
    pub action: &'static str,
    /// To what.
    pub target: String,
    /// What else there is to say, without secrets.
    pub detail: Value,
}

impl Deed {
    /// A deed with nothing more to say about it.
    pub fn new(action: &'static str, target: impl ToString) -> Self {
        Self { action, target: target.to_string(), detail: Value::Null }
    }

    /// Says more.
    #[must_use]
    pub fn with(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }
}

/// Appends to the chain of `scope`, inside the transaction of the deed itself: both are there or neither.
///
/// # Errors
/// When the database fails.
pub async fn append(
    tx: &DatabaseTransaction,
    scope: Scope,
    now: Timestamp,
    actor: &Actor,
    deed: Deed,
) -> Result<(), DbErr> {
    lock(tx, scope).await?;
    let last = scope.rows::<audit_entry::Entity>().order_by_desc(audit_entry::Column::Seq).one(tx).await?;
    let mut entry = audit_entry::Model {
        id: Uuid::now_v7(),
        organisation_id: scope.organisation(),
        seq: last.as_ref().map_or(1, |last| last.seq.saturating_add(1)),
        at: now,
        actor_kind: actor.kind.to_owned(),
        actor_id: actor.id.clone(),
        ip: actor.ip.clone(),
        action: deed.action.to_owned(),
        target: deed.target,
        detail: deed.detail.to_string(),
        previous: last.map(|last| last.hash).unwrap_or_default(),
        hash: String::new(),
    };
    entry.hash = hash(&entry);
    audit_entry::Entity::insert(audit_entry::ActiveModel::from(entry).reset_all())
        .exec_without_returning(tx)
        .await
        .map(drop)
}

/// Holds everybody else back from the organisation's chain and its limits until the transaction ends. SQLite has one writer
/// anyway. The lock is the one that references to the organisation, which every insertion takes, do not wait for.
///
/// # Errors
/// When the database fails.
pub async fn lock(tx: &DatabaseTransaction, scope: Scope) -> Result<(), DbErr> {
    organisation::Entity::find_by_id(scope.organisation()).lock(LockType::NoKeyUpdate).one(tx).await.map(drop)
}

/// The end of a chain, to be kept where whoever can write to the database cannot: without it, entries cut off the end and a
/// history written anew are not to be told from the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How many entries there are.
    pub seq: i64,
    /// The hash of the last; empty when there is none.
    pub hash: String,
}

/// A chain that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// An entry was changed, added, or one before it removed.
    #[error("the audit chain is broken at entry {0}")]
    At(i64),
    /// The chain holds, but is not the one that was seen before: its end was cut off, or it was written anew.
    #[error("the audit chain no longer has the entry {} that was seen before", .0.seq)]
    Lost(Head),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbErr),
}

/// Walks the chain of `scope` and gives its end. `seen` is an end given earlier, which must still be part of it.
///
/// # Errors
/// At the first entry that is not what was written, or when `seen` is not there any more.
pub async fn verify<C: ConnectionTrait>(db: &C, scope: Scope, seen: Option<&Head>) -> Result<Head, Broken> {
    let (mut previous, mut seq) = (String::new(), 0);
    let mut missing = seen.filter(|head| head.seq > 0);
    loop {
        let page = scope
            .rows::<audit_entry::Entity>()
            .order_by_asc(audit_entry::Column::Seq)
            .offset(u64::try_from(seq).unwrap_or(0))
            .limit(500)
            .all(db)
            .await?;
        if page.is_empty() {
            let head = Head { seq, hash: previous };
            return missing.map_or(Ok(head), |missing| Err(Broken::Lost(missing.clone())));
        }
        for entry in page {
            seq += 1;
            if entry.seq != seq || entry.previous != previous || entry.hash != hash(&entry) {
                return Err(Broken::At(seq));
            }
            previous = entry.hash;
            missing = missing.filter(|head| head.seq != seq || head.hash != previous);
        }
    }
}

/// SHA-256 over every field, each behind its length, so that no two entries read the same.
fn hash(entry: &audit_entry::Model) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    let fields = [
        entry.previous.clone(),
        entry.organisation_id.to_string(),
        entry.seq.to_string(),
        entry.at.0.to_string(),
        entry.actor_kind.clone(),
        entry.actor_id.clone(),
        entry.ip.clone(),
        entry.action.clone(),
        entry.target.clone(),
        entry.detail.clone(),
    ];
    for field in fields {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(context.finish())
}
