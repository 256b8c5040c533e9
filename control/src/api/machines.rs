//! `/api/machines`: what there is, by which name, and the end of it.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use rexec_shared::tunnel::{SessionInfo, TransportReason};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DbErr, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, Set,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::audit::{self, Actor, Deed};
use crate::auth::signed_in::{Right, SignedIn};
use crate::db;
use crate::entity::{MachineKind, machine, preview, sandbox};
use crate::error::{ApiError, Problem};
use crate::events::Event;
use crate::extract::{Body, Params};
use crate::limits::TAGS_MAX;
use crate::presence::{self, LiveMachine};
use crate::revocation::{self, Principal};
use crate::sandboxes::{self, rows, view::MachineSandbox};
use crate::scope::Scope;
use crate::time::Timestamp;
use crate::words::{self, NAME_GRAMMAR};

/// Something with a shell.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Machine {
    /// Its id.
    pub id: Uuid,
    /// Its name, unique in the organisation.
    pub name: String,
    /// Host or sandbox.
    pub kind: MachineKind,
    /// Operating system, as its agent says.
    pub os: String,
    /// Processor, as its agent says.
    pub arch: String,
    /// Host name, as its agent says.
    pub hostname: String,
    /// Version of its agent.
    pub agent_version: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Whether its tunnel is up.
    pub online: bool,
    /// When it was enrolled.
    pub created_at: Timestamp,
    /// When its tunnel was last known to be up; now, while it is.
    pub last_seen_at: Option<Timestamp>,
    /// Since when its tunnel is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online_since: Option<Timestamp>,
    /// Where its tunnel comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `quic` or `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Why it is not `quic`, as its agent says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport_reason: Option<TransportReason>,
    /// Round trip between broker and agent, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Sessions alive, or ended a moment ago.
    pub sessions: Vec<SessionInfo>,
    /// Its container, when it is a sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<MachineSandbox>,
}

impl Machine {
    /// What is written down of a machine, with what is known of it now.
    pub fn new(row: machine::Model, live: Option<LiveMachine>, sandbox: Option<MachineSandbox>) -> Self {
        let online = row.tunnel.is_some();
        let live = live.filter(|_| online).unwrap_or_default();
        Self {
            id: row.id,
            name: row.name,
            kind: row.kind,
            os: row.os,
            arch: row.arch,
            hostname: row.hostname,
            agent_version: row.agent_version,
            tags: serde_json::from_value(row.tags).unwrap_or_default(),
            online,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            online_since: row.online_since.filter(|_| online),
            address: row.address.filter(|_| online),
            transport: row.transport.filter(|_| online),
            transport_reason: row
                .transport_reason
                .filter(|_| online)
                .and_then(|reason| serde_json::from_value(reason).ok()),
            rtt_ms: live.rtt_ms,
            sessions: live.sessions,
            sandbox,
        }
    }
}

/// The machines of an organisation, by name.
///
/// # Errors
/// When the database fails.
pub async fn all_of(app: &App, scope: Scope) -> Result<Vec<Machine>, DbErr> {
    let rows = present(scope).order_by_asc(machine::Column::Name).all(app.db()).await?;
    let sandboxes = scope.rows::<sandbox::Entity>().all(app.db()).await?;
    let mut sandboxes: HashMap<Uuid, MachineSandbox> =
        sandboxes.iter().map(|sandbox| (sandbox.id, sandbox.into())).collect();
    let shown = |row: machine::Model| {
        let (live, sandbox) = (app.parts().live.of(row.id), sandboxes.remove(&row.id));
        Machine::new(row, live, sandbox)
    };
    Ok(rows.into_iter().map(shown).collect())
}

/// The machine with what is known of it besides its row.
///
/// # Errors
/// When the database fails.
pub async fn whole(app: &App, row: machine::Model) -> Result<Machine, DbErr> {
    let sandbox = match row.kind {
        MachineKind::Sandbox => {
            Scope::of(row.organisation_id).row::<sandbox::Entity>(row.id).one(app.db()).await?
        }
        MachineKind::Host => None,
    };
    let live = app.parts().live.of(row.id);
    Ok(Machine::new(row, live, sandbox.as_ref().map(MachineSandbox::from)))
}

/// Machines that were not removed.
pub fn present(scope: Scope) -> sea_orm::Select<machine::Entity> {
    scope.rows::<machine::Entity>().filter(machine::Column::RemovedAt.is_null())
}

/// The machine `id` of the organisation, unless it was removed.
///
/// # Errors
/// 404 when there is none.
pub async fn find<C: ConnectionTrait>(db: &C, scope: Scope, id: Uuid) -> Result<machine::Model, ApiError> {
    let row = present(scope).filter(machine::Column::Id.eq(id)).one(db).await?;
    row.ok_or_else(|| ApiError::not_found("machine"))
}

/// Ids and names of the organisation's machines.
///
/// # Errors
/// When the database fails.
pub async fn names_of<C: ConnectionTrait>(db: &C, scope: Scope) -> Result<Vec<(Uuid, String)>, DbErr> {
    use sea_orm::QuerySelect as _;
    present(scope)
        .select_only()
        .columns([machine::Column::Id, machine::Column::Name])
        .into_tuple()
        .all(db)
        .await
}

/// The machines of the organisation.
#[utoipa::path(
    get,
    path = "/api/machines",
    tag = "machines",
    responses((status = 200, body = [Machine]), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn list_machines(
    State(app): State<App>,
    caller: SignedIn,
) -> Result<Json<Vec<Machine>>, ApiError> {
    Ok(Json(all_of(&app, caller.scope()).await?))
}

/// One machine.
#[utoipa::path(
    get,
    path = "/api/machines/{id}",
    tag = "machines",
    params(("id" = Uuid, Path, description = "the machine")),
    responses((status = 200, body = Machine), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn get_machine(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<Json<Machine>, ApiError> {
    Ok(Json(whole(&app, find(app.db(), caller.scope(), id).await?).await?))
}

/// Where a machine's viewers go.
#[derive(Debug, Serialize, ToSchema)]
pub struct MachineBroker {
    /// As in a ticket: an absolute address, or a path on this origin.
    pub broker_url: String,
}

/// Where a machine's viewers go: asked again by a viewer whose broker does not have the machine any more.
#[utoipa::path(
    get,
    path = "/api/machines/{id}/broker",
    tag = "machines",
    params(("id" = Uuid, Path, description = "the machine")),
    responses((status = 200, body = MachineBroker), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn get_machine_broker(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<Json<MachineBroker>, ApiError> {
    let row = find(app.db(), caller.scope(), id).await?;
    Ok(Json(MachineBroker { broker_url: broker_url(&app, &row)? }))
}

/// Where viewers find the machine.
///
/// # Errors
/// When there is no broker at all.
pub fn broker_url(app: &App, row: &machine::Model) -> Result<String, ApiError> {
    app.parts().brokers.viewer_url(row.broker_id, row.tunnel.is_some()).ok_or_else(|| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_broker", "this installation has no broker")
            .hint("start a broker and add it with `rexec-control broker add`, or leave the embedded one on")
    })
}

/// What to change of a machine; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MachineChange {
    /// 1 to 63 of letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
    name: Option<String>,
    /// At most 32, each like a name.
    tags: Option<Vec<String>>,
}

/// Renames or tags a machine.
#[utoipa::path(
    patch,
    path = "/api/machines/{id}",
    tag = "machines",
    params(("id" = Uuid, Path, description = "the machine")),
    request_body = MachineChange,
    responses((status = 200, body = Machine), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn change_machine(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
    Body(change): Body<MachineChange>,
) -> Result<Json<Machine>, ApiError> {
    caller.demand(Right::ManageMachines)?;
    let (tx, scope) = (db::write(app.db()).await?, caller.scope());
    audit::lock(&tx, scope).await?;
    let row = find(&tx, scope, id).await?;
    let deed = Deed::new("machine.change", id).with(json!({ "name": change.name, "tags": change.tags }));
    let mut row = row.into_active_model();
    if let Some(name) = change.name {
        check_name(&tx, scope, id, &name).await?;
        row.name = Set(name);
    }
    if let Some(tags) = change.tags {
        row.tags = Set(json!(checked_tags(tags)?));
    }
    let row = row.update(&tx).await?;
    audit::append(&tx, scope, app.now(), &caller.actor(), deed).await?;
    tx.commit().await?;
    presence::tell(&app, scope.organisation(), id).await?;
    Ok(Json(whole(&app, row).await?))
}

/// # Errors
/// When `name` is no name, or another machine's than `id`.
pub(super) async fn check_name<C: ConnectionTrait>(
    db: &C,
    scope: Scope,
    id: Uuid,
    name: &str,
) -> Result<(), ApiError> {
    if !words::is_name(name) {
        return Err(ApiError::invalid("name", format!("a name is {NAME_GRAMMAR}")));
    }
    let taken = names_of(db, scope).await?.into_iter().any(|(other, taken)| other != id && taken == name);
    if taken { Err(ApiError::invalid("name", "another machine has this name")) } else { Ok(()) }
}

fn checked_tags(mut tags: Vec<String>) -> Result<Vec<String>, ApiError> {
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > TAGS_MAX {
        return Err(ApiError::invalid("tags", format!("{} tags exceed {TAGS_MAX}", tags.len())));
    }
    if tags.iter().all(|tag| words::is_name(tag)) {
        Ok(tags)
    } else {
        Err(ApiError::invalid("tags", format!("a tag is {NAME_GRAMMAR}")))
    }
}

/// Removes a machine: revokes it and cuts it off.
#[utoipa::path(
    delete,
    path = "/api/machines/{id}",
    tag = "machines",
    params(("id" = Uuid, Path, description = "the machine")),
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn remove_machine(
    State(app): State<App>,
    caller: SignedIn,
    Params(id): Params<Uuid>,
) -> Result<StatusCode, ApiError> {
    caller.demand(Right::ManageMachines)?;
    find(app.db(), caller.scope(), id).await?;
    remove(&app, caller.scope(), id, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes machine `id`, whoever decided it, and cuts it off.
///
/// # Errors
/// When the database fails.
pub async fn remove(app: &App, scope: Scope, id: Uuid, actor: &Actor) -> Result<(), ApiError> {
    remove_with(app, scope, id, actor, Removal::default()).await
}

/// What goes with a machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Removal {
    /// The home of a sandbox; without, it is kept.
    pub sandbox_volume: bool,
}

/// Removes machine `id` and what `removal` says. A sandbox's container goes afterwards.
///
/// # Errors
/// When the database fails.
pub async fn remove_with(
    app: &App,
    scope: Scope,
    id: Uuid,
    actor: &Actor,
    removal: Removal,
) -> Result<(), ApiError> {
    let tx = db::write(app.db()).await?;
    // The organisation before the machine, as everybody who locks both.
    audit::lock(&tx, scope).await?;
    let now = app.now();
    scope
        .update::<machine::Entity>()
        .col_expr(machine::Column::RemovedAt, Expr::value(now))
        .col_expr(machine::Column::Tunnel, Expr::value(Option::<i64>::None))
        .filter(machine::Column::Id.eq(id))
        .exec(&tx)
        .await?;
    let is_sandbox = rows::wish_gone(&tx, scope, id, removal.sandbox_volume).await?;
    revocation::record(&tx, scope, Principal::Machine(id), now, revocation::longest(now)).await?;
    let previews =
        scope.delete::<preview::Entity>().filter(preview::Column::MachineId.eq(id)).exec(&tx).await?;
    let deed = match is_sandbox {
        true => Deed::new("sandbox.delete", id).with(json!({ "volume": removal.sandbox_volume })),
        false => Deed::new("machine.remove", id),
    };
    audit::append(&tx, scope, now, actor, deed).await?;
    tx.commit().await?;
    app.parts().samples.forget(id);
    app.parts().hub.tell(scope.organisation(), Event::MachineRemoved(id));
    if previews.rows_affected > 0 {
        app.parts().hub.tell(scope.organisation(), Event::Previews);
    }
    app.parts().feeds.cut_off(scope.organisation(), id).await;
    if is_sandbox {
        app.parts().sandboxes.wake();
        sandboxes::tell(app, scope.organisation(), id).await?;
    }
    Ok(())
}
