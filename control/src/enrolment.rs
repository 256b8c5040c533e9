//! Enrolment: a join token and a key become a machine. Renewal: the same key, a fresh certificate.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rexec_shared::close::CloseCode;
use rexec_shared::enrol::{EnrolAnswer, EnrolRequest, MachineFacts, RenewAnswer, RenewRequest, TunnelTarget};
use rexec_shared::pki::{self, MachineName, PkiError};
use sea_orm::sea_query::{Cond, Expr, ExprTrait as _};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    PaginatorTrait as _, QueryFilter as _, Set,
};
use serde_json::json;
use uuid::Uuid;

use crate::api::machines::{names_of, present};
use crate::app::App;
use crate::audit::{self, Actor, Deed};
use crate::auth::client_ip::ClientIp;
use crate::db;
use crate::entity::{MachineKind, join_token, machine, sandbox};
use crate::error::ApiError;
use crate::limits::{JOIN_TOKENS_MAX, MACHINES_MAX};
use crate::presence;
use crate::sandboxes;
use crate::scope::Scope;
use crate::secret::{Purpose, Secret, Vault, fresh_token};
use crate::time::Timestamp;
use crate::words::{self, NAME_GRAMMAR};

/// What every join token begins with, so that a leaked one is recognised for what it is.
pub const JOIN_PREFIX: &str = "rexec_join_";

/// A join token to be made.
#[derive(Debug)]
pub struct NewJoinToken {
    /// What to call it.
    pub label: String,
    /// How long it is good.
    pub life: Duration,
    /// How many machines it enrols.
    pub uses: i32,
    /// Who makes it.
    pub made_by: Uuid,
    /// The only key it enrols, if it is for one.
    pub key_fingerprint: Option<String>,
    /// The only machine it lets in, which is there already: a sandbox. Such a token is counted and shown nowhere.
    pub machine: Option<Uuid>,
}

/// Join tokens of the organisation that still enrol somebody.
pub fn good_tokens(scope: Scope, now: Timestamp) -> sea_orm::Select<join_token::Entity> {
    scope
        .rows::<join_token::Entity>()
        .filter(join_token::Column::UsesLeft.gt(0))
        .filter(join_token::Column::ExpiresAt.gt(now))
        .filter(join_token::Column::MachineId.is_null())
}

/// Makes a join token for the organisation, which is locked, so that of many at once none is counted out (THREATS BU-09).
///
/// # Errors
/// When the organisation has [`JOIN_TOKENS_MAX`] already, or the database or the randomness fails.
pub async fn make_join_token(
    tx: &DatabaseTransaction,
    vault: &Vault,
    scope: Scope,
    new: NewJoinToken,
    now: Timestamp,
) -> Result<(join_token::Model, Secret<String>), ApiError> {
    let token = fresh_token(JOIN_PREFIX)?;
    audit::lock(tx, scope).await?;
    if let Some(machine) = new.machine {
        // A machine has one token at most: the former is void.
        let former = join_token::Column::MachineId.eq(machine);
        scope.delete::<join_token::Entity>().filter(former).exec(tx).await?;
    } else if good_tokens(scope, now).count(tx).await? >= JOIN_TOKENS_MAX {
        return Err(ApiError::limit_reached(format!(
            "an organisation has at most {JOIN_TOKENS_MAX} join tokens"
        )));
    }
    let row = join_token::ActiveModel {
        id: Set(Uuid::now_v7()),
        organisation_id: Set(scope.organisation()),
        label: Set(new.label),
        token_mac: Set(vault.mac(Purpose::Join, token.expose())),
        key_fingerprint: Set(new.key_fingerprint),
        uses_left: Set(new.uses),
        created_by: Set(new.made_by),
        created_at: Set(now),
        expires_at: Set(now.plus(new.life)),
        machine_id: Set(new.machine),
    };
    Ok((row.insert(tx).await?, token))
}

/// Forgets join tokens that enrol nothing any more.
///
/// # Errors
/// When the database fails.
pub async fn forget_old<C: ConnectionTrait>(db: &C, now: Timestamp) -> Result<(), DbErr> {
    let day_ago = now.minus(Duration::from_secs(24 * 3600));
    join_token::Entity::delete_many()
        .filter(join_token::Column::ExpiresAt.lt(day_ago))
        .exec(db)
        .await
        .map(drop)
}

/// Enrols a machine.
///
/// # Errors
/// When the request is no proof of a key, or the token enrols nothing.
pub async fn enrol(app: &App, request: EnrolRequest, ip: ClientIp) -> Result<EnrolAnswer, ApiError> {
    if !words::is_name(&request.name) {
        return Err(ApiError::invalid("name", format!("a name is {NAME_GRAMMAR}")));
    }
    let key = Key::of(&request.csr)?;
    let (tx, now) = (db::write(app.db()).await?, app.now());
    let token = consume(&tx, app.vault(), &request.token, &key.fingerprint, now).await?;
    let (row, former) = match token.machine_id {
        Some(machine) => readmit(&tx, &token, machine, &request, &key, now).await?,
        None => (insert(&tx, &token, &request, &key, now).await?, None),
    };
    let scope = Scope::of(row.organisation_id);
    let deed = Deed::new("machine.enrol", row.id).with(json!({ "name": row.name, "join_token": token.id }));
    audit::append(&tx, scope, now, &Actor::agent(row.id, ip), deed).await?;
    let certificate = sign(app, &request.csr, &row)?;
    tx.commit().await?;
    // The broker must have a feed of the organisation before the first tunnel comes in.
    app.parts().feeds.introduce(scope.organisation()).await;
    if let Some(Former { broker, tunnel }) = former {
        app.parts().brokers.disconnect(broker, row.id, CloseCode::Displaced, tunnel).await;
    }
    if row.kind == MachineKind::Sandbox {
        app.parts().sandboxes.wake();
    }
    presence::tell(app, scope.organisation(), row.id).await?;
    Ok(EnrolAnswer {
        machine: row.id,
        org: row.organisation_id,
        name: row.name,
        certificate,
        tunnel: tunnel_target(app, row.kind),
        time: now.unix_ms(),
    })
}

/// The key of a signing request that proved its possession.
struct Key {
    point: String,
    fingerprint: String,
}

impl Key {
    fn of(csr: &str) -> Result<Self, ApiError> {
        let read = || -> Result<Self, PkiError> {
            let point = URL_SAFE_NO_PAD.encode(pki::request_public_point(csr)?);
            Ok(Self { point, fingerprint: pki::request_fingerprint(csr)? })
        };
        read().map_err(|why| {
            ApiError::invalid("csr", format!("no signing request of an ECDSA P-256 key: {why}"))
        })
    }
}

/// Takes one use of the token, in one statement: of any number of enrolments at once, exactly as many get in as the token has
/// uses (THREATS ST-01).
async fn consume(
    tx: &DatabaseTransaction,
    vault: &Vault,
    token: &str,
    fingerprint: &str,
    now: Timestamp,
) -> Result<join_token::Model, ApiError> {
    let mac = vault.mac(Purpose::Join, token);
    let for_this_key = Cond::any()
        .add(join_token::Column::KeyFingerprint.is_null())
        .add(join_token::Column::KeyFingerprint.eq(fingerprint));
    let taken = join_token::Entity::update_many()
        .col_expr(join_token::Column::UsesLeft, Expr::col(join_token::Column::UsesLeft).sub(1))
        .filter(join_token::Column::TokenMac.eq(&mac))
        .filter(join_token::Column::UsesLeft.gt(0))
        .filter(join_token::Column::ExpiresAt.gt(now))
        .filter(for_this_key)
        .exec(tx)
        .await?;
    let row = join_token::Entity::find().filter(join_token::Column::TokenMac.eq(&mac)).one(tx).await?;
    match row {
        Some(row) if taken.rows_affected == 1 => Ok(row),
        row => Err(no_good(row.as_ref(), now)),
    }
}

fn no_good(row: Option<&join_token::Model>, now: Timestamp) -> ApiError {
    let why = match row {
        None => "the join token is unknown: it was mistyped, deleted, or belongs to another installation",
        Some(row) if row.expires_at <= now => "the join token has expired",
        Some(row) if row.uses_left <= 0 => "the join token is used up",
        Some(_) => "the join token was approved for another key",
    };
    ApiError::forbidden("join_token_invalid", why)
        .hint("make a new join token in the dashboard, or register without one")
}

async fn insert(
    tx: &DatabaseTransaction,
    token: &join_token::Model,
    request: &EnrolRequest,
    key: &Key,
    now: Timestamp,
) -> Result<machine::Model, ApiError> {
    let scope = Scope::of(token.organisation_id);
    audit::lock(tx, scope).await?;
    if present(scope).count(tx).await? >= MACHINES_MAX {
        return Err(ApiError::limit_reached(format!("an organisation has at most {MACHINES_MAX} machines")));
    }
    let name = free_name(tx, scope, &request.name).await?;
    let facts = tamed(&request.facts);
    let row = machine::ActiveModel {
        id: Set(Uuid::new_v4()),
        organisation_id: Set(token.organisation_id),
        name: Set(name),
        kind: Set(MachineKind::Host),
        os: Set(facts.os),
        arch: Set(facts.arch),
        hostname: Set(facts.hostname),
        agent_version: Set(facts.agent_version),
        tags: Set(json!([])),
        public_key: Set(key.point.clone()),
        enrolled_by: Set(token.created_by),
        created_at: Set(now),
        last_seen_at: Set(None),
        removed_at: Set(None),
        tunnel: Set(None),
        online_since: Set(None),
        address: Set(None),
        transport: Set(None),
        transport_reason: Set(None),
        broker_id: Set(None),
    };
    Ok(row.insert(tx).await?)
}

/// The tunnel of a machine's former agent.
struct Former {
    broker: Option<Uuid>,
    tunnel: u64,
}

/// Gives a sandbox's machine, which is there already, the key of its new agent. The former key renews nothing any more, and the former
/// agent's tunnel is no longer the machine's.
async fn readmit(
    tx: &DatabaseTransaction,
    token: &join_token::Model,
    id: Uuid,
    request: &EnrolRequest,
    key: &Key,
    now: Timestamp,
) -> Result<(machine::Model, Option<Former>), ApiError> {
    let scope = Scope::of(token.organisation_id);
    audit::lock(tx, scope).await?;
    let before = present(scope).filter(machine::Column::Id.eq(id)).one(tx).await?.ok_or_else(unknown)?;
    let facts = tamed(&request.facts);
    scope
        .update::<machine::Entity>()
        .col_expr(machine::Column::PublicKey, Expr::value(key.point.as_str()))
        .col_expr(machine::Column::Os, Expr::value(facts.os))
        .col_expr(machine::Column::Arch, Expr::value(facts.arch))
        .col_expr(machine::Column::Hostname, Expr::value(facts.hostname))
        .col_expr(machine::Column::AgentVersion, Expr::value(facts.agent_version))
        .col_expr(machine::Column::Tunnel, Expr::value(Option::<i64>::None))
        .filter(machine::Column::Id.eq(id))
        .exec(tx)
        .await?;
    scope
        .update::<sandbox::Entity>()
        .col_expr(sandbox::Column::EnrolledAt, Expr::value(now))
        .filter(sandbox::Column::Id.eq(id))
        .exec(tx)
        .await?;
    let row = scope.row::<machine::Entity>(id).one(tx).await?.ok_or_else(unknown)?;
    let tunnel = before.tunnel.and_then(|tunnel| u64::try_from(tunnel).ok());
    Ok((row, tunnel.map(|tunnel| Former { broker: before.broker_id, tunnel })))
}

/// The name itself, or one like it when a machine of the organisation has it already. The others' names are read only then: a fleet that
/// enrols would read all of them once for each of its own.
async fn free_name(tx: &DatabaseTransaction, scope: Scope, name: &str) -> Result<String, DbErr> {
    if present(scope).filter(machine::Column::Name.eq(name)).count(tx).await? == 0 {
        return Ok(name.to_owned());
    }
    let taken: HashSet<String> = names_of(tx, scope).await?.into_iter().map(|(_, taken)| taken).collect();
    Ok(words::free_name(name, |name| taken.contains(name)))
}

/// What an agent tells of its machine, fit to be shown anywhere (THREATS MA-08).
pub fn tamed(facts: &MachineFacts) -> MachineFacts {
    MachineFacts {
        os: words::tame(&facts.os),
        arch: words::tame(&facts.arch),
        hostname: words::tame(&facts.hostname),
        agent_version: words::tame(&facts.agent_version),
    }
}

/// A certificate that says which machine this is, and nothing else (THREATS CT-08).
fn sign(app: &App, csr: &str, row: &machine::Model) -> Result<String, ApiError> {
    let name = MachineName { org: row.organisation_id, machine: row.id };
    app.parts().keys.authority.sign_machine(csr, name, SystemTime::now()).map_err(ApiError::internal)
}

/// What a machine may dial, as it is seen from there.
fn tunnel_addrs(app: &App, kind: MachineKind) -> Vec<String> {
    let addrs = app.parts().brokers.tunnel_addrs();
    match kind {
        MachineKind::Host => addrs,
        MachineKind::Sandbox => sandboxes::tunnel_addrs(app, addrs),
    }
}

fn tunnel_target(app: &App, kind: MachineKind) -> TunnelTarget {
    let addrs = tunnel_addrs(app, kind);
    TunnelTarget {
        addr: addrs.first().cloned().unwrap_or_default(),
        addrs,
        server_name: pki::broker_name(app.parts().installation),
        ca: app.parts().keys.authority.certificate_pem().to_owned(),
        ticket_key: app.parts().keys.signer.public_key(),
    }
}

/// Renews a machine's certificate: the signing request must be by the key that enrolled.
///
/// # Errors
/// When the machine is unknown or removed, or the key another.
pub async fn renew(app: &App, request: RenewRequest) -> Result<RenewAnswer, ApiError> {
    let row = machine::Entity::find_by_id(request.machine).one(app.db()).await?.ok_or_else(unknown)?;
    let key = Key::of(&request.csr)?;
    if key.point != row.public_key {
        // Whoever does not have the key does not learn whether the machine is there.
        return Err(unknown());
    }
    if row.removed_at.is_some() {
        return Err(ApiError::forbidden("machine_revoked", "this machine was removed from its organisation")
            .hint("register it again to bring it back"));
    }
    let certificate = sign(app, &request.csr, &row)?;
    keep_facts(app, &row, &request.facts).await?;
    tracing::debug!(machine = %row.id, "certificate renewed");
    let addrs = tunnel_addrs(app, row.kind);
    let addr = addrs.first().cloned().unwrap_or_default();
    Ok(RenewAnswer { certificate, addr, addrs, time: app.now().unix_ms() })
}

async fn keep_facts(app: &App, row: &machine::Model, facts: &MachineFacts) -> Result<(), DbErr> {
    let facts = tamed(facts);
    Scope::of(row.organisation_id)
        .update::<machine::Entity>()
        .col_expr(machine::Column::Os, Expr::value(facts.os))
        .col_expr(machine::Column::Arch, Expr::value(facts.arch))
        .col_expr(machine::Column::Hostname, Expr::value(facts.hostname))
        .col_expr(machine::Column::AgentVersion, Expr::value(facts.agent_version))
        .filter(machine::Column::Id.eq(row.id))
        .exec(app.db())
        .await
        .map(drop)
}

/// The answer to whoever is no machine of this installation.
pub fn unknown() -> ApiError {
    ApiError::new(
        http::StatusCode::NOT_FOUND,
        "machine_unknown",
        "no machine with this id and key is enrolled here",
    )
    .hint("is this the right server? register again if it is")
}
