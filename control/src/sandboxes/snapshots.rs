//! Snapshots: asked for, made and removed one at a time, each of them again from its beginning after a crash in the middle.

use std::sync::Arc;
use std::time::Duration;

use rexec_sandbox::{EngineError, ErrorKind};
use rexec_shared::text::shown;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, Set,
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::engine::Engine;
use crate::app::App;
use crate::audit;
use crate::entity::{SnapshotState, machine, sandbox, snapshot};
use crate::error::ApiError;
use crate::events::Event;
use crate::limits::SNAPSHOTS_MAX;
use crate::scope::Scope;
use crate::time::Timestamp;

/// Between two looks when nothing is told.
const LOOK: Duration = Duration::from_secs(10);
/// Longest problem kept, characters.
const PROBLEM_MAX: usize = 300;

/// A snapshot as people and programs see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Snapshot {
    /// Its id.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// The sandbox it is of, which may be gone.
    pub sandbox: Uuid,
    /// That sandbox's name.
    pub sandbox_name: String,
    /// Reference of the image that sandbox was made of.
    pub image: String,
    /// Offered to everybody who makes a sandbox, beside the images.
    pub template: bool,
    /// What it is.
    pub state: SnapshotState,
    /// Why it could not be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The image with all it is made on, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_bytes: Option<i64>,
    /// The home, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_bytes: Option<i64>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

impl From<snapshot::Model> for Snapshot {
    fn from(row: snapshot::Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            sandbox: row.sandbox_id,
            sandbox_name: row.sandbox_name,
            image: row.image,
            template: row.template,
            state: row.state,
            problem: row.problem,
            root_bytes: row.root_bytes,
            home_bytes: row.home_bytes,
            created_at: row.created_at,
        }
    }
}

/// The snapshots of an organisation, newest first.
///
/// # Errors
/// When the database fails.
pub async fn all_of(app: &App, scope: Scope) -> Result<Vec<Snapshot>, DbErr> {
    let rows =
        scope.rows::<snapshot::Entity>().order_by_desc(snapshot::Column::CreatedAt).all(app.db()).await?;
    Ok(rows.into_iter().map(Snapshot::from).collect())
}

/// Asks for a snapshot of a sandbox, under an id that the caller chose, so that asking again makes no second one.
///
/// # Errors
/// When the limit is reached or the id is taken.
pub async fn ask(
    tx: &DatabaseTransaction,
    of: &sandbox::Model,
    id: Uuid,
    name: Option<String>,
    now: Timestamp,
) -> Result<snapshot::Model, ApiError> {
    let scope = Scope::of(of.organisation_id);
    audit::lock(tx, scope).await?;
    if let Some(row) = snapshot::Entity::find_by_id(id).one(tx).await? {
        let ours = row.organisation_id == of.organisation_id && row.sandbox_id == of.id;
        let taken = || ApiError::invalid("id", "this id was used before").hint("choose a fresh random id");
        return ours.then_some(row).ok_or_else(taken);
    }
    if scope.rows::<snapshot::Entity>().count(tx).await? >= SNAPSHOTS_MAX {
        return Err(ApiError::limit_reached(format!(
            "an organisation has at most {SNAPSHOTS_MAX} snapshots"
        ))
        .hint("delete one that is not needed any more"));
    }
    let machine = scope.row::<machine::Entity>(of.id).one(tx).await?;
    let sandbox_name = machine.map(|machine| machine.name).unwrap_or_default();
    let row = snapshot::ActiveModel {
        id: Set(id),
        organisation_id: Set(of.organisation_id),
        name: Set(name.unwrap_or_else(|| sandbox_name.clone())),
        sandbox_id: Set(of.id),
        sandbox_name: Set(sandbox_name),
        home_id: Set(of.volume_id),
        image: Set(of.image.clone()),
        template: Set(false),
        state: Set(SnapshotState::Saving),
        problem: Set(None),
        root_bytes: Set(None),
        home_bytes: Set(None),
        created_at: Set(now),
    };
    Ok(row.insert(tx).await?)
}

/// # Errors
/// When a sandbox was made of the snapshot: its container needs the image.
pub async fn demand_unused(tx: &DatabaseTransaction, scope: Scope, id: Uuid) -> Result<(), ApiError> {
    let users = scope.rows::<sandbox::Entity>().filter(sandbox::Column::SnapshotId.eq(id)).count(tx).await?;
    if users == 0 {
        return Ok(());
    }
    Err(ApiError::new(
        http::StatusCode::CONFLICT,
        "snapshot_in_use",
        format!("{users} sandboxes were made of this snapshot"),
    )
    .hint("delete them first; their homes can be kept"))
}

/// Tells everybody who looks at the organisation.
pub fn tell(app: &App, row: snapshot::Model) {
    app.parts().hub.tell(row.organisation_id, Event::Snapshot(Arc::new(row.into())));
}

/// Makes and removes snapshots until the process ends; returns at once where there is no engine.
pub async fn run(app: App) {
    let Ok(engine) = app.parts().sandboxes.engine().cloned() else { return };
    let ending = app.parts().ending.clone();
    let mut changes = app.parts().sandboxes.changes();
    loop {
        changes.mark_unchanged();
        let work = round(&app, &engine);
        tokio::select! {
            () = ending.cancelled() => return,
            done = work => if let Err(error) = done {
                tracing::warn!(%error, "a snapshot could not be worked on; it is tried again");
            }
        }
        tokio::select! {
            () = ending.cancelled() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Database(#[from] DbErr),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Everything that waits, oldest first.
async fn round(app: &App, engine: &Arc<dyn Engine>) -> Result<(), WorkError> {
    let waiting = snapshot::Column::State.is_in([SnapshotState::Saving, SnapshotState::Deleting]);
    let rows = snapshot::Entity::find()
        .filter(waiting)
        .order_by_asc(snapshot::Column::CreatedAt)
        .all(app.db())
        .await?;
    for row in rows {
        match row.state {
            SnapshotState::Deleting => remove(app, engine, row).await?,
            SnapshotState::Saving | SnapshotState::Ready | SnapshotState::Failed => {
                save(app, engine, row).await?
            }
        }
    }
    Ok(())
}

async fn save(app: &App, engine: &Arc<dyn Engine>, row: snapshot::Model) -> Result<(), WorkError> {
    let made = engine.snapshot(row.sandbox_id, row.home_id, row.id).await;
    let bytes = |bytes: u64| Some(i64::try_from(bytes).unwrap_or(i64::MAX));
    let (state, problem, root, home) = match made {
        Ok(size) => (SnapshotState::Ready, None, bytes(size.root), bytes(size.home)),
        Err(error) if matches!(error.kind, ErrorKind::Unreachable) => return Err(error.into()),
        Err(error) => (SnapshotState::Failed, Some(shown(&error.said, PROBLEM_MAX)), None, None),
    };
    let values = [
        (snapshot::Column::State, Expr::value(state)),
        (snapshot::Column::Problem, Expr::value(problem)),
        (snapshot::Column::RootBytes, Expr::value(root)),
        (snapshot::Column::HomeBytes, Expr::value(home)),
    ];
    let mut change = Scope::of(row.organisation_id).update::<snapshot::Entity>();
    for (column, value) in values {
        change = change.col_expr(column, value);
    }
    // Whoever deleted it meanwhile has the last word.
    let still_wanted = snapshot::Column::State.eq(SnapshotState::Saving);
    change.filter(snapshot::Column::Id.eq(row.id)).filter(still_wanted).exec(app.db()).await?;
    if let Some(row) = snapshot::Entity::find_by_id(row.id).one(app.db()).await? {
        tell(app, row);
    }
    // A fork may wait for it.
    app.parts().sandboxes.wake();
    Ok(())
}

async fn remove(app: &App, engine: &Arc<dyn Engine>, row: snapshot::Model) -> Result<(), WorkError> {
    engine.remove_snapshot(row.id).await?;
    let scope = Scope::of(row.organisation_id);
    scope.delete::<snapshot::Entity>().filter(snapshot::Column::Id.eq(row.id)).exec(app.db()).await?;
    app.parts().hub.tell(row.organisation_id, Event::SnapshotRemoved(row.id));
    Ok(())
}
