//! What time does to sandboxes: idle ones are stopped, those whose life is over are deleted.

use std::time::Duration;

use rexec_shared::message::SessionKind;
use rexec_shared::tunnel::SessionInfo;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use super::{rows, tell};
use crate::api::machines;
use crate::app::App;
use crate::audit::{self, Actor, Deed};
use crate::db;
use crate::entity::{Desired, SandboxState, sandbox};
use crate::error::ApiError;
use crate::scope::Scope;
use crate::time::Timestamp;

/// Sandboxes ended in one round.
const AT_ONCE: u64 = 100;

/// One round of housekeeping.
///
/// # Errors
/// When the database fails.
pub async fn keep(app: &App) -> Result<(), ApiError> {
    delete_expired(app).await?;
    let ready = sandbox::Entity::find()
        .filter(sandbox::Column::Desired.eq(Desired::Running))
        .filter(sandbox::Column::State.eq(SandboxState::Ready))
        .filter(sandbox::Column::IdleStopS.is_not_null());
    for row in ready.all(app.db()).await? {
        look_at(app, row).await?;
    }
    Ok(())
}

async fn delete_expired(app: &App) -> Result<(), ApiError> {
    let expired = sandbox::Entity::find()
        .filter(sandbox::Column::Desired.ne(Desired::Deleted))
        .filter(sandbox::Column::ExpiresAt.lte(app.now()))
        .limit(AT_ONCE);
    for row in expired.all(app.db()).await? {
        tracing::info!(sandbox = %row.id, "its life is over");
        machines::remove(app, Scope::of(row.organisation_id), row.id, &Actor::control()).await?;
    }
    Ok(())
}

async fn look_at(app: &App, row: sandbox::Model) -> Result<(), ApiError> {
    let now = app.now();
    let sessions = app.parts().live.of(row.id).map(|live| live.sessions).unwrap_or_default();
    if sessions.iter().any(is_in_use) {
        return Ok(touch(app, &row, now).await?);
    }
    if is_idle(&row, now) { stop(app, row, now).await } else { Ok(()) }
}

/// Somebody looks at it, or a command runs. A shell that nobody looks at does not keep a sandbox up.
fn is_in_use(session: &SessionInfo) -> bool {
    session.exited.is_none() && (session.viewers > 0 || session.kind == SessionKind::Exec)
}

fn is_idle(row: &sandbox::Model, now: Timestamp) -> bool {
    let Some(idle) = row.idle_stop_s.and_then(|s| u64::try_from(s).ok()) else { return false };
    let since = [row.last_active_at, row.started_at, row.enrolled_at].into_iter().flatten().max();
    since.is_some_and(|since| since.plus(Duration::from_secs(idle)) <= now)
}

async fn touch(app: &App, row: &sandbox::Model, now: Timestamp) -> Result<(), DbErr> {
    rows::learn(app.db(), row, &[(sandbox::Column::LastActiveAt, Expr::value(now))]).await.map(drop)
}

async fn stop(app: &App, row: sandbox::Model, now: Timestamp) -> Result<(), ApiError> {
    let scope = Scope::of(row.organisation_id);
    let tx = db::write(app.db()).await?;
    audit::lock(&tx, scope).await?;
    let current = rows::find(&tx, scope, row.id).await?;
    if current.generation != row.generation {
        return Ok(());
    }
    rows::wish(&tx, &current, Desired::Stopped, SandboxState::Stopping).await?;
    let deed = Deed::new("sandbox.stop", row.id).with(serde_json::json!({ "idle_s": row.idle_stop_s }));
    audit::append(&tx, scope, now, &Actor::control(), deed).await?;
    tx.commit().await?;
    tracing::info!(sandbox = %row.id, "it is idle and stopped");
    app.parts().sandboxes.wake();
    tell(app, row.organisation_id, row.id).await?;
    Ok(())
}
