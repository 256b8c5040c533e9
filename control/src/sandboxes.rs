//! Sandboxes: containers that are machines. Here is what should be and how reality is brought there; the engine's side is
//! `rexec_sandbox`, the agent inside is the one every machine has.
//!
//! ```text
//!  api ──▶ rows (what should be) ──▶ wake ──▶ reconcile ──▶ next(row, container, online) ──▶ one step ──▶ engine
//!                                     ▲           │                                            │
//!       engine events, presence, 10 s ┘           └── orphans, volumes, idle, expiry           └▶ rows, event `sandbox`
//! ```
//!
//! A sandbox's id is its machine's; both rows are made in one transaction, before any agent dials. The agent is let in with a join
//! token that is good once, for two minutes, for this machine alone; each time it is, the machine has a new key and the former one is dead.

pub mod docker;
pub mod engine;
pub mod images;
mod inside;
pub mod life;
pub mod next;
pub mod presets;
pub mod proxy;
pub mod reconcile;
pub mod rows;
pub mod settings;
pub mod snapshots;
mod step;
pub mod view;

pub(crate) use self::inside::{tunnel_addrs, unreachable as unreachable_control};
pub(crate) use self::step::limits_of;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::DbErr;
use tokio::sync::watch;
use uuid::Uuid;

use self::engine::{Engine, Health};
use self::settings::{NoEngine, SandboxSettings};
use self::view::{Progress, Sandbox, SandboxProblem};
use crate::app::App;
use crate::entity::{SandboxState, machine, sandbox};
use crate::events::Event;
use crate::presence;
use crate::scope::Scope;

/// What all parts of control share about sandboxes.
#[derive(Debug)]
pub struct Sandboxes {
    engine: Result<Arc<dyn Engine>, NoEngine>,
    /// Counts what may have changed; a level, so nothing is missed.
    changes: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the engine last said; none: it does not answer, and why.
    health: Option<Result<Health, String>>,
    progress: HashMap<Uuid, Progress>,
    /// Whether the proxy of restricted ones listens.
    proxy: bool,
}

impl Sandboxes {
    /// With the engine of the settings, which need not be there yet.
    pub fn new(settings: &SandboxSettings, agents: std::path::PathBuf, installation: Uuid) -> Self {
        let engine = settings.engine.as_ref().map_err(|why| *why).map(|address| {
            Arc::new(docker::Docker::new(address.clone(), installation, agents)) as Arc<dyn Engine>
        });
        Self::with(engine)
    }

    /// With an engine.
    pub fn with(engine: Result<Arc<dyn Engine>, NoEngine>) -> Self {
        Self { engine, changes: watch::Sender::new(0), state: Mutex::default() }
    }

    /// The engine, or why there is none.
    ///
    /// # Errors
    /// When sandboxes are off.
    pub fn engine(&self) -> Result<&Arc<dyn Engine>, NoEngine> {
        self.engine.as_ref().map_err(|why| *why)
    }

    /// Something may have changed: everything is looked at again.
    pub fn wake(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Ends a wait when something may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What the engine last said of itself, or why it does not answer; none before it was asked.
    pub fn health(&self) -> Option<Result<Health, String>> {
        self.lock().health.clone()
    }

    fn learn_health(&self, health: Result<Health, String>) {
        self.lock().health = Some(health);
    }

    /// Whether there can be restricted ones: their proxy listens.
    pub fn has_proxy(&self) -> bool {
        self.lock().proxy
    }

    fn set_proxy(&self, listens: bool) {
        self.lock().proxy = listens;
    }

    /// What is told of the step being taken.
    pub fn progress(&self, id: Uuid) -> Option<Progress> {
        self.lock().progress.get(&id).cloned()
    }

    fn set_progress(&self, id: Uuid, progress: Option<Progress>) {
        let mut state = self.lock();
        match progress {
            Some(progress) => drop(state.progress.insert(id, progress)),
            None => drop(state.progress.remove(&id)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sandbox as it is shown.
pub fn shown(app: &App, row: sandbox::Model, name: String) -> Sandbox {
    let sandboxes = &app.parts().sandboxes;
    let progress = sandboxes.progress(row.id);
    let mut sandbox = Sandbox::new(row, name, progress.as_ref());
    if let Some(Err(said)) = sandboxes.health()
        && sandbox.problem.is_none()
    {
        sandbox.problem = Some(engine_away(said, sandbox.state));
    }
    sandbox
}

fn engine_away(said: String, step: SandboxState) -> SandboxProblem {
    SandboxProblem {
        code: "engine_away".to_owned(),
        detail: format!("the container engine does not answer: {said}"),
        hint: "what was begun goes on when it is back; the operator finds out more from the engine's own log"
            .to_owned(),
        step,
    }
}

/// The sandboxes of an organisation, newest first.
///
/// # Errors
/// When the database fails.
pub async fn all_of(app: &App, scope: Scope) -> Result<Vec<Sandbox>, DbErr> {
    use sea_orm::QueryOrder as _;
    let rows =
        scope.rows::<sandbox::Entity>().order_by_desc(sandbox::Column::CreatedAt).all(app.db()).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut names = names_of(app, scope, rows.iter().map(|row| row.id)).await?;
    let named = rows.into_iter().map(|row| {
        let name = names.remove(&row.id).unwrap_or_default();
        shown(app, row, name)
    });
    Ok(named.collect())
}

/// Names of machines, removed ones included: a sandbox is shown until nothing is left of it.
async fn names_of(
    app: &App,
    scope: Scope,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, String>, DbErr> {
    use sea_orm::{ColumnTrait as _, QueryFilter as _, QuerySelect as _};
    let names: Vec<(Uuid, String)> = scope
        .rows::<machine::Entity>()
        .filter(machine::Column::Id.is_in(ids))
        .select_only()
        .columns([machine::Column::Id, machine::Column::Name])
        .into_tuple()
        .all(app.db())
        .await?;
    Ok(names.into_iter().collect())
}

/// The sandbox `id` as it is shown.
///
/// # Errors
/// When the database fails.
pub async fn one(app: &App, row: sandbox::Model) -> Result<Sandbox, DbErr> {
    let machine = Scope::of(row.organisation_id).row::<machine::Entity>(row.id).one(app.db()).await?;
    Ok(shown(app, row, machine.map(|machine| machine.name).unwrap_or_default()))
}

/// Tells everybody who looks at the organisation what its sandbox is now, and its machine with it.
///
/// # Errors
/// When the database fails.
pub async fn tell(app: &App, organisation: Uuid, id: Uuid) -> Result<(), DbErr> {
    if !app.parts().hub.has_listeners(organisation) {
        return Ok(());
    }
    if let Some(row) = Scope::of(organisation).row::<sandbox::Entity>(id).one(app.db()).await? {
        let sandbox = one(app, row).await?;
        app.parts().hub.tell(organisation, Event::Sandbox(sandbox.into()));
    }
    presence::tell(app, organisation, id).await
}
