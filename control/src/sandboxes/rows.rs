//! Sandboxes in the database: made within the organisation's limits, wished for, and forgotten.

use std::collections::HashSet;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait as _,
    PaginatorTrait as _, QueryFilter as _, Set,
};
use serde_json::json;
use uuid::Uuid;

use super::view::{Allowed, SandboxProblem};
use crate::api::machines::{names_of, present};
use crate::audit;
use crate::entity::{Desired, MachineKind, SandboxNetwork, SandboxState, machine, sandbox, sandbox_volume};
use crate::error::ApiError;
use crate::limits::{MACHINES_MAX, SANDBOX_VOLUMES_MIN};
use crate::scope::Scope;
use crate::time::Timestamp;
use crate::words;

/// The only pool there is yet.
pub const POOL: &str = "local";

/// A sandbox to be made; every value is within its bounds.
#[derive(Debug)]
pub struct New {
    /// Chosen by whoever asks, so that asking again makes no second one.
    pub id: Uuid,
    /// Its name; none: made from the image.
    pub name: Option<String>,
    /// What its name is made from.
    pub family: String,
    /// Reference of its image.
    pub image: String,
    /// Thousandths of a processor.
    pub cpus_milli: i32,
    /// Memory, MiB.
    pub memory_mb: i32,
    /// Processes and threads.
    pub pids: i32,
    /// What it may reach.
    pub network: SandboxNetwork,
    /// Where a restricted one may go.
    pub allow: Vec<Allowed>,
    /// What is set up in it at first.
    pub preset: Option<String>,
    /// The snapshot it is made of.
    pub snapshot: Option<Uuid>,
    /// A home that was kept.
    pub volume: Option<Uuid>,
    /// When it is deleted by itself.
    pub expires_at: Option<Timestamp>,
    /// Without a session for so many seconds it is stopped.
    pub idle_stop_s: Option<i32>,
    /// Who makes it.
    pub made_by: Uuid,
}

/// A sandbox that was asked for.
#[derive(Debug)]
pub enum Made {
    /// It is new.
    Fresh(sandbox::Model),
    /// It was there already.
    Known(sandbox::Model),
}

/// Makes a sandbox and its machine. The organisation is locked, so that of many at once none is counted out (THREATS BU-09).
///
/// # Errors
/// When a limit is reached, or the name, the id or the home is somebody else's.
pub async fn make(
    tx: &DatabaseTransaction,
    scope: Scope,
    new: New,
    count_max: u32,
    now: Timestamp,
) -> Result<Made, ApiError> {
    audit::lock(tx, scope).await?;
    if let Some(known) = known(tx, scope, new.id).await? {
        return Ok(Made::Known(known));
    }
    demand_room(tx, scope, count_max).await?;
    let name = name_for(tx, scope, &new).await?;
    let volume_id = match new.volume {
        Some(id) => free_volume(tx, scope, id).await?,
        None => make_volume(tx, scope, &name, count_max, now).await?,
    };
    machine_of(&new, scope, name, now).insert(tx).await?;
    let row = sandbox::ActiveModel {
        id: Set(new.id),
        organisation_id: Set(scope.organisation()),
        pool: Set(POOL.to_owned()),
        image: Set(new.image),
        cpus_milli: Set(new.cpus_milli),
        memory_mb: Set(new.memory_mb),
        pids: Set(new.pids),
        network: Set(new.network),
        allow: Set(json!(new.allow)),
        preset: Set(new.preset),
        // What a snapshot has in its root was set up already; a home that was kept is filled.
        set_up_at: Set(new.snapshot.map(|_| now)),
        snapshot_id: Set(new.snapshot),
        filled_at: Set(new.volume.map(|_| now)),
        volume_id: Set(volume_id),
        desired: Set(Desired::Running),
        state: Set(SandboxState::Waiting),
        problem: Set(None),
        created_at: Set(now),
        started_at: Set(None),
        admitted_at: Set(None),
        enrolled_at: Set(None),
        last_active_at: Set(None),
        expires_at: Set(new.expires_at),
        idle_stop_s: Set(new.idle_stop_s),
        drop_volume: Set(false),
        generation: Set(1),
    };
    Ok(Made::Fresh(row.insert(tx).await?))
}

/// The sandbox of an earlier request with the same id.
async fn known(tx: &DatabaseTransaction, scope: Scope, id: Uuid) -> Result<Option<sandbox::Model>, ApiError> {
    // Whose machine has the id is nobody's business: an id of another organisation's is taken, as one of a removed machine's is.
    if machine::Entity::find_by_id(id).one(tx).await?.is_none() {
        return Ok(None);
    }
    let row = scope.row::<sandbox::Entity>(id).one(tx).await?;
    match row.filter(|row| row.desired != Desired::Deleted) {
        Some(row) => Ok(Some(row)),
        None => Err(ApiError::new(http::StatusCode::CONFLICT, "id_taken", "this id was used before")
            .field("id")
            .hint("choose a fresh random id")),
    }
}

async fn demand_room(tx: &DatabaseTransaction, scope: Scope, count_max: u32) -> Result<(), ApiError> {
    if counted(scope).count(tx).await? >= u64::from(count_max) {
        return Err(ApiError::limit_reached(format!("an organisation has at most {count_max} sandboxes"))
            .hint("delete one that is not needed any more, or have the operator raise REXEC_SANDBOX_MAX"));
    }
    if present(scope).count(tx).await? >= MACHINES_MAX {
        return Err(ApiError::limit_reached(format!("an organisation has at most {MACHINES_MAX} machines")));
    }
    Ok(())
}

/// Sandboxes that count against the limit: all that are not to be deleted.
pub fn counted(scope: Scope) -> sea_orm::Select<sandbox::Entity> {
    scope.rows::<sandbox::Entity>().filter(sandbox::Column::Desired.ne(Desired::Deleted))
}

async fn name_for(tx: &DatabaseTransaction, scope: Scope, new: &New) -> Result<String, ApiError> {
    let taken: HashSet<String> = names_of(tx, scope).await?.into_iter().map(|(_, taken)| taken).collect();
    match &new.name {
        Some(name) if taken.contains(name) => Err(ApiError::invalid("name", "another machine has this name")),
        Some(name) => Ok(name.clone()),
        None => {
            let family = words::tame(&new.family);
            let family = if words::is_name(&family) { family } else { "sandbox".to_owned() };
            Ok(words::free_name(&family, |name| taken.contains(name)))
        }
    }
}

async fn free_volume(tx: &DatabaseTransaction, scope: Scope, id: Uuid) -> Result<Uuid, ApiError> {
    find_volume(tx, scope, id).await?;
    demand_unused(tx, scope, id).await.map(|()| id)
}

/// The home `id` of the organisation, unless it is being removed.
///
/// # Errors
/// 404 when there is none.
pub async fn find_volume<C: ConnectionTrait>(
    db: &C,
    scope: Scope,
    id: Uuid,
) -> Result<sandbox_volume::Model, ApiError> {
    let row = scope.row::<sandbox_volume::Entity>(id).one(db).await?;
    row.filter(|row| row.removed_at.is_none()).ok_or_else(|| ApiError::not_found("volume"))
}

/// # Errors
/// When a sandbox has the home `id`, if only one that is being deleted: two at once would spoil each other's files.
pub async fn demand_unused<C: ConnectionTrait>(db: &C, scope: Scope, id: Uuid) -> Result<(), ApiError> {
    let users = scope.rows::<sandbox::Entity>().filter(sandbox::Column::VolumeId.eq(id)).count(db).await?;
    if users == 0 {
        return Ok(());
    }
    Err(ApiError::new(http::StatusCode::CONFLICT, "volume_in_use", "a sandbox has this volume as its home")
        .hint("delete the sandbox first, and keep its volume"))
}

async fn make_volume(
    tx: &DatabaseTransaction,
    scope: Scope,
    name: &str,
    count_max: u32,
    now: Timestamp,
) -> Result<Uuid, ApiError> {
    let most = SANDBOX_VOLUMES_MIN.max(u64::from(count_max).saturating_mul(2));
    if scope.rows::<sandbox_volume::Entity>().count(tx).await? >= most {
        return Err(ApiError::limit_reached(format!("an organisation has at most {most} volumes"))
            .hint("delete volumes that were kept and are not needed any more"));
    }
    let row = sandbox_volume::ActiveModel {
        id: Set(Uuid::new_v4()),
        organisation_id: Set(scope.organisation()),
        name: Set(name.to_owned()),
        pool: Set(POOL.to_owned()),
        created_at: Set(now),
        removed_at: Set(None),
    };
    Ok(row.insert(tx).await?.id)
}

/// The machine of a sandbox before its agent was ever let in: no key is its own, so nothing renews it.
fn machine_of(new: &New, scope: Scope, name: String, now: Timestamp) -> machine::ActiveModel {
    machine::ActiveModel {
        id: Set(new.id),
        organisation_id: Set(scope.organisation()),
        name: Set(name),
        kind: Set(MachineKind::Sandbox),
        os: Set("linux".to_owned()),
        arch: Set(String::new()),
        hostname: Set(String::new()),
        agent_version: Set(String::new()),
        tags: Set(json!([])),
        public_key: Set(String::new()),
        enrolled_by: Set(new.made_by),
        created_at: Set(now),
        last_seen_at: Set(None),
        removed_at: Set(None),
        tunnel: Set(None),
        online_since: Set(None),
        address: Set(None),
        transport: Set(None),
        transport_reason: Set(None),
        broker_id: Set(None),
    }
}

/// The sandbox `id` of the organisation, one that is being deleted included.
///
/// # Errors
/// 404 when there is none.
pub async fn find<C: ConnectionTrait>(db: &C, scope: Scope, id: Uuid) -> Result<sandbox::Model, ApiError> {
    scope.row::<sandbox::Entity>(id).one(db).await?.ok_or_else(|| ApiError::not_found("sandbox"))
}

/// Wishes that sandbox `id` were something else; what is being done for an older wish writes nothing any more.
///
/// # Errors
/// When the database fails.
pub async fn wish(
    tx: &DatabaseTransaction,
    row: &sandbox::Model,
    desired: Desired,
    state: SandboxState,
) -> Result<(), DbErr> {
    Scope::of(row.organisation_id)
        .update::<sandbox::Entity>()
        .col_expr(sandbox::Column::Desired, Expr::value(desired))
        .col_expr(sandbox::Column::State, Expr::value(state))
        .col_expr(sandbox::Column::Problem, Expr::value(Option::<serde_json::Value>::None))
        .col_expr(sandbox::Column::Generation, Expr::value(row.generation.wrapping_add(1)))
        .filter(sandbox::Column::Id.eq(row.id))
        .exec(tx)
        .await
        .map(drop)
}

/// Wishes that the sandbox of a machine that is being removed were gone. Its home stays, unless `drop_volume`.
/// Whether the machine is a sandbox.
///
/// # Errors
/// When the database fails.
pub async fn wish_gone(
    tx: &DatabaseTransaction,
    scope: Scope,
    id: Uuid,
    drop_volume: bool,
) -> Result<bool, DbErr> {
    let Some(row) = scope.row::<sandbox::Entity>(id).one(tx).await? else { return Ok(false) };
    wish(tx, &row, Desired::Deleted, SandboxState::Deleting).await?;
    scope
        .update::<sandbox::Entity>()
        .col_expr(sandbox::Column::DropVolume, Expr::value(drop_volume || row.drop_volume))
        .filter(sandbox::Column::Id.eq(id))
        .exec(tx)
        .await
        .map(|_| true)
}

/// Writes down what a step made of the sandbox, unless something else is wished for by now; whether it was written.
///
/// # Errors
/// When the database fails.
pub async fn learn<C: ConnectionTrait>(
    db: &C,
    row: &sandbox::Model,
    values: &[(sandbox::Column, Expr)],
) -> Result<bool, DbErr> {
    let mut change = Scope::of(row.organisation_id).update::<sandbox::Entity>();
    for (column, value) in values {
        change = change.col_expr(*column, value.clone());
    }
    let written = change
        .filter(sandbox::Column::Id.eq(row.id))
        .filter(sandbox::Column::Generation.eq(row.generation))
        .exec(db)
        .await?;
    Ok(written.rows_affected > 0)
}

/// As it is written down.
pub fn problem_value(problem: Option<&SandboxProblem>) -> Expr {
    Expr::value(problem.map(|problem| json!(problem)))
}

/// Nothing is left of a deleted sandbox: its row goes, and its home's when that was dropped.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &DatabaseTransaction, row: &sandbox::Model) -> Result<(), DbErr> {
    let scope = Scope::of(row.organisation_id);
    scope.delete::<sandbox::Entity>().filter(sandbox::Column::Id.eq(row.id)).exec(tx).await?;
    if row.drop_volume {
        forget_volume(tx, scope, row.volume_id).await?;
    }
    Ok(())
}

/// A home is gone from its engine.
///
/// # Errors
/// When the database fails.
pub async fn forget_volume<C: ConnectionTrait>(db: &C, scope: Scope, id: Uuid) -> Result<(), DbErr> {
    scope
        .delete::<sandbox_volume::Entity>()
        .filter(sandbox_volume::Column::Id.eq(id))
        .exec(db)
        .await
        .map(drop)
}
