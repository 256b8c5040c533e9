//! One sandbox brought as far as it goes without waiting: each step of [`super::next`] is taken here.

mod problem;

use std::sync::Arc;
use std::time::Duration;

use rexec_sandbox::{EngineError, ErrorKind, Limits, snapshot_image};
use rexec_shared::sandbox::Admission;
use sea_orm::sea_query::Expr;
use sea_orm::{DbErr, EntityTrait as _};
use tokio::sync::watch;
use uuid::Uuid;

use self::problem::{NOT_SET_UP, is_hopeless, not_set_up, problem_of};
use super::engine::{Engine, Spec};
use super::next::{Row, Step, next};
use super::presets::{AROUND, SCRIPT_ENV};
use super::view::{Progress, SandboxProblem};
use super::{inside, proxy, rows};
use crate::app::App;
use crate::db;
use crate::enrolment::{self, NewJoinToken};
use crate::entity::sandbox::Column;
use crate::entity::{SandboxNetwork, SandboxState, SnapshotState, machine, sandbox, snapshot};
use crate::error::ApiError;
use crate::events::Event;
use crate::limits::{SANDBOX_JOIN_LIFE, SANDBOX_STOP_GRACE};
use crate::scope::Scope;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Steps in a row; the longest way, from a container that must be stopped to a prompt, has fewer.
const STEPS_MAX: usize = 12;
/// How often what a pull says is passed on, and whether it is still wanted is looked at.
const PULL_TOLD: Duration = Duration::from_millis(400);

/// How far a sandbox got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// As far as it goes; to be looked at again then, if nothing happens before.
    Until(Option<Timestamp>),
    /// A step failed; it is tried again after a while.
    Failed,
    /// The engine is away; nothing is the sandbox's fault.
    Away,
}

/// What came of driving a sandbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Driven {
    /// How far it got.
    pub(super) rest: Rest,
    /// How often its container was found to have ended although nobody ended it.
    pub(super) died: u32,
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Database(#[from] DbErr),
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The snapshot it is made of is being made.
    #[error("its snapshot is being made")]
    NotYet,
    /// Somebody wishes for something else by now.
    #[error("something else is wished for")]
    Stale,
}

/// One sandbox and those who work on it.
struct Work<'a> {
    app: &'a App,
    engine: &'a Arc<dyn Engine>,
    row: sandbox::Model,
}

/// Takes steps until there is nothing to do. `failures`: tries before that failed.
pub(super) async fn drive(app: &App, engine: &Arc<dyn Engine>, id: Uuid, failures: u32) -> Driven {
    let mut driven = Driven { rest: Rest::Failed, died: 0 };
    for _ in 0..STEPS_MAX {
        let (row, step) = match look(app, engine, id, failures.saturating_add(driven.died)).await {
            Ok(Some(seen)) => seen,
            Ok(None) => return Driven { rest: Rest::Until(None), ..driven },
            Err(error) => return Driven { rest: rest_after(&error), ..driven },
        };
        if let Step::Wait(due) = step {
            return Driven { rest: Rest::Until(due), ..driven };
        }
        if step == Step::Start && died(&row) {
            driven.died += 1;
        }
        let mut work = Work { app, engine, row };
        match work.take(step).await {
            Ok(()) | Err(StepError::Stale) => {}
            Err(StepError::NotYet) => return Driven { rest: Rest::Until(None), ..driven },
            Err(error) => {
                tracing::warn!(sandbox = %id, ?step, %error, "a step of a sandbox failed");
                // Only a pull, which is the first half of making it, says how far it is.
                let is_pull = step == Step::Create && app.parts().sandboxes.progress(id).is_some();
                let at = if is_pull { Some(SandboxState::Pulling) } else { step.state() };
                app.parts().sandboxes.set_progress(id, None);
                return Driven { rest: work.failed(at, &error).await, ..driven };
            }
        }
        app.parts().sandboxes.set_progress(id, None);
    }
    driven
}

fn rest_after(error: &StepError) -> Rest {
    match error {
        StepError::Engine(error) if is_away(error) => Rest::Away,
        // Whoever is done with what it waits for wakes everybody.
        StepError::Stale | StepError::NotYet => Rest::Until(None),
        StepError::Engine(_) | StepError::Database(_) | StepError::Api(_) => Rest::Failed,
    }
}

fn is_away(error: &EngineError) -> bool {
    matches!(error.kind, ErrorKind::Unreachable | ErrorKind::TooSlow)
}

/// Whether the container ended although nobody ended it.
fn died(row: &sandbox::Model) -> bool {
    matches!(row.state, SandboxState::SettingUp | SandboxState::Enrolling | SandboxState::Ready)
        && row.started_at.is_some()
}

async fn look(
    app: &App,
    engine: &Arc<dyn Engine>,
    id: Uuid,
    failures: u32,
) -> Result<Option<(sandbox::Model, Step)>, StepError> {
    let Some(row) = sandbox::Entity::find_by_id(id).one(app.db()).await? else { return Ok(None) };
    let machine = machine::Entity::find_by_id(id).one(app.db()).await?;
    let online = machine.is_some_and(|machine| machine.tunnel.is_some());
    let found = engine.inspect(id).await?;
    let step = next(&known(&row, failures), found, online, app.now());
    Ok(Some((row, step)))
}

/// The part of the row that decides.
pub(super) fn known(row: &sandbox::Model, failures: u32) -> Row {
    Row {
        desired: row.desired,
        state: row.state,
        to_set_up: row.preset.is_some() && row.set_up_at.is_none(),
        admitted_at: row.admitted_at,
        enrolled_at: row.enrolled_at,
        failures,
    }
}

impl Work<'_> {
    async fn take(&mut self, step: Step) -> Result<(), StepError> {
        match step {
            Step::Create => self.create().await,
            Step::Start => self.start().await,
            Step::SetUp => self.set_up().await,
            Step::Admit => self.admit().await,
            Step::Stop => {
                self.become_state(SandboxState::Stopping, &[]).await?;
                Ok(self.engine.stop(self.row.id, SANDBOX_STOP_GRACE).await?)
            }
            Step::Remove => Ok(self.engine.remove(self.row.id).await?),
            Step::Forget => self.forget().await,
            Step::Settle(state) => self.settle(state).await,
            Step::GiveUp => self.give_up().await,
            Step::Wait(_) => Ok(()),
        }
    }

    async fn create(&mut self) -> Result<(), StepError> {
        let image = self.image().await?;
        self.become_state(SandboxState::Creating, &[]).await?;
        self.fill().await?;
        let machine = machine::Entity::find_by_id(self.row.id).one(self.app.db()).await?;
        let spec = Spec {
            id: self.row.id,
            hostname: machine.map(|machine| machine.name).unwrap_or_default(),
            image,
            limits: limits_of(&self.row),
            home: self.row.volume_id,
            dns: inside::dns(self.app).await,
            proxy: (self.row.network == SandboxNetwork::Restricted)
                .then(|| Secret::new(proxy::url(self.app, self.row.id))),
        };
        self.engine.create(&spec).await?;
        Ok(())
    }

    /// The image that is on the engine: the one it is of, fetched if need be, or its snapshot's, once that is made.
    async fn image(&mut self) -> Result<String, StepError> {
        let Some(id) = self.row.snapshot_id else {
            if !self.engine.has_image(&self.row.image).await? {
                self.pull().await?;
            }
            return Ok(self.row.image.clone());
        };
        let snapshot = snapshot::Entity::find_by_id(id).one(self.app.db()).await?;
        let image = snapshot_image(id);
        let missing = |said: String| EngineError { kind: ErrorKind::ImageMissing, said };
        match snapshot.map(|snapshot| (snapshot.state, snapshot.problem)) {
            Some((SnapshotState::Saving, _)) => Err(StepError::NotYet),
            Some((SnapshotState::Ready, _)) if self.engine.has_image(&image).await? => Ok(image),
            Some((SnapshotState::Failed, why)) => {
                let why = why.unwrap_or_default();
                Err(missing(format!("the snapshot it is made of could not be made: {why}")).into())
            }
            Some((SnapshotState::Ready | SnapshotState::Deleting, _)) | None => {
                Err(missing("the snapshot it is made of is gone".to_owned()).into())
            }
        }
    }

    /// Copies the snapshot's home into its own, once.
    async fn fill(&self) -> Result<(), StepError> {
        if let (Some(snapshot), None) = (self.row.snapshot_id, self.row.filled_at) {
            self.engine.fill_home(snapshot, self.row.volume_id).await?;
            self.write(&[(Column::FilledAt, Expr::value(self.app.now()))]).await?;
        }
        Ok(())
    }

    /// Fetches the image, and gives up when something else is wished for meanwhile.
    async fn pull(&mut self) -> Result<(), StepError> {
        self.become_state(SandboxState::Pulling, &[]).await?;
        let (said, heard) = watch::channel(Progress::default());
        let mut told = |progress: Progress| drop(said.send_replace(progress));
        let pull = self.engine.pull(&self.row.image, &mut told);
        Ok(self.while_told(pull, heard).await??)
    }

    /// Runs the preset once. One that fails is told, and keeps nobody out.
    async fn set_up(&mut self) -> Result<(), StepError> {
        self.become_state(SandboxState::SettingUp, &[]).await?;
        self.guard().await?;
        let presets = &self.app.settings().sandboxes.presets;
        let preset = presets.iter().find(|preset| Some(&preset.id) == self.row.preset.as_ref());
        let mut values = vec![(Column::SetUpAt, Expr::value(self.app.now()))];
        if let Some(preset) = preset {
            let (said, heard) = watch::channel(Progress::default());
            let mut told = |line| drop(said.send_replace(Progress { detail: Some(line), percent: None }));
            let env = (SCRIPT_ENV, preset.script.as_str());
            let run = self.engine.run(self.row.id, AROUND, env, &mut told);
            let ended = self.while_told(run, heard.clone()).await?;
            let last = heard.borrow().detail.clone();
            if let Some(problem) = not_set_up(&preset.name, ended, last)? {
                values.push((Column::Problem, Expr::value(Some(serde_json::json!(problem)))));
            }
        }
        self.write(&values).await
    }

    /// Waits for what takes long and says how far it is; gives up when something else is wished for meanwhile.
    async fn while_told<T>(
        &self,
        mut work: impl Future<Output = T> + Unpin,
        mut heard: watch::Receiver<Progress>,
    ) -> Result<T, StepError> {
        let id = self.row.id;
        self.app.parts().sandboxes.set_progress(id, Some(Progress::default()));
        let mut tick = tokio::time::interval(PULL_TOLD);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                _ = tick.tick() => {
                    let current = sandbox::Entity::find_by_id(id).one(self.app.db()).await?;
                    if current.is_none_or(|current| current.generation != self.row.generation) {
                        return Err(StepError::Stale);
                    }
                    if heard.has_changed().unwrap_or(false) {
                        let progress = heard.borrow_and_update().clone();
                        self.app.parts().sandboxes.set_progress(id, Some(progress));
                        super::tell(self.app, self.row.organisation_id, id).await?;
                    }
                }
            }
        }
    }

    /// What was known of the agent inside is void before its process begins: a crash after this line leads to a new admission.
    async fn start(&mut self) -> Result<(), StepError> {
        let nothing = || Expr::value(Option::<Timestamp>::None);
        let void = [
            (Column::AdmittedAt, nothing()),
            (Column::EnrolledAt, nothing()),
            (Column::StartedAt, Expr::value(self.app.now())),
        ];
        self.become_state(SandboxState::Starting, &void).await?;
        Ok(self.engine.start(self.row.id, limits_of(&self.row)).await?)
    }

    /// The network is closed before the agent is let in, or it is not let in.
    async fn admit(&mut self) -> Result<(), StepError> {
        if self.row.state != SandboxState::Starting {
            self.become_state(SandboxState::Starting, &[]).await?;
        }
        self.guard().await?;
        self.become_state(SandboxState::Enrolling, &[]).await?;
        let admission = self.admission().await?;
        self.engine.admit(self.row.id, &admission).await?;
        self.write(&[(Column::AdmittedAt, Expr::value(self.app.now()))]).await
    }

    async fn guard(&self) -> Result<(), StepError> {
        let egress = inside::egress(self.app, self.engine.as_ref(), self.row.network).await?;
        Ok(self.engine.guard(self.row.id, &egress).await?)
    }

    async fn admission(&self) -> Result<Admission, StepError> {
        let (scope, id) = (Scope::of(self.row.organisation_id), self.row.id);
        let machine = scope.row::<machine::Entity>(id).one(self.app.db()).await?.ok_or(StepError::Stale)?;
        let new = NewJoinToken {
            label: format!("sandbox {}", machine.name),
            life: SANDBOX_JOIN_LIFE,
            uses: 1,
            made_by: machine.enrolled_by,
            key_fingerprint: None,
            machine: Some(id),
        };
        let tx = db::write(self.app.db()).await?;
        let (_, token) =
            enrolment::make_join_token(&tx, self.app.vault(), scope, new, self.app.now()).await?;
        tx.commit().await?;
        let server = inside::control_url(self.app).origin().ascii_serialization();
        Ok(Admission { server, token: token.expose().clone(), name: machine.name })
    }

    async fn settle(&mut self, state: SandboxState) -> Result<(), StepError> {
        // What was set up badly is still so when it is ready.
        let stays = self.row.problem.as_ref().is_some_and(|problem| problem["code"] == NOT_SET_UP);
        let solved = [(Column::Problem, rows::problem_value(None))];
        self.become_state(state, if stays { &[] } else { &solved }).await?;
        if state == SandboxState::Ready && self.row.generation == 1 {
            self.app.metrics().sandbox_ready(self.row.created_at.until(self.app.now()));
        }
        Ok(())
    }

    async fn give_up(&mut self) -> Result<(), StepError> {
        let ended = SandboxProblem {
            code: "ends".to_owned(),
            detail: "its container ended again and again".to_owned(),
            hint: "the image may lack something, or the memory be too little: start it again, or make one of another image or size"
                .to_owned(),
            step: SandboxState::Starting,
        };
        let problem = self.row.problem.clone().unwrap_or_else(|| serde_json::json!(ended));
        self.app.metrics().sandbox_failed();
        self.become_state(SandboxState::Failed, &[(Column::Problem, Expr::value(Some(problem)))]).await
    }

    async fn forget(&mut self) -> Result<(), StepError> {
        // The container may have gone by itself, and left its network.
        self.engine.remove(self.row.id).await?;
        // Whoever removed the container may have been stopped before its network.
        self.engine.remove(self.row.id).await?;
        if self.row.drop_volume {
            self.engine.remove_volume(self.row.volume_id).await?;
        }
        let tx = db::write(self.app.db()).await?;
        rows::forget(&tx, &self.row).await?;
        tx.commit().await?;
        self.app.parts().hub.tell(self.row.organisation_id, Event::SandboxRemoved(self.row.id));
        Ok(())
    }

    /// Writes down what it is now, and tells.
    async fn become_state(&mut self, state: SandboxState, more: &[(Column, Expr)]) -> Result<(), StepError> {
        let mut values = vec![(Column::State, Expr::value(state))];
        values.extend_from_slice(more);
        self.write(&values).await?;
        self.row.state = state;
        super::tell(self.app, self.row.organisation_id, self.row.id).await?;
        Ok(())
    }

    async fn write(&self, values: &[(Column, Expr)]) -> Result<(), StepError> {
        let written = rows::learn(self.app.db(), &self.row, values).await?;
        written.then_some(()).ok_or(StepError::Stale)
    }

    /// Writes down why a step failed; what no second try can mend is given up at once.
    async fn failed(&mut self, at: Option<SandboxState>, error: &StepError) -> Rest {
        let rest = rest_after(error);
        if rest != Rest::Failed {
            return rest;
        }
        let problem = problem_of(error, at.unwrap_or(self.row.state));
        let hopeless = matches!(error, StepError::Engine(error) if is_hopeless(error))
            && self.row.desired == crate::entity::Desired::Running;
        let mut values: Vec<(Column, Expr)> = vec![(Column::Problem, Expr::value(Some(problem)))];
        if hopeless {
            self.app.metrics().sandbox_failed();
            values.push((Column::State, Expr::value(SandboxState::Failed)));
        }
        let written = self.write(&values).await;
        if let Err(error) = super::tell(self.app, self.row.organisation_id, self.row.id).await {
            tracing::error!(%error, "a sandbox's failure was not told");
        }
        if hopeless && written.is_ok() { Rest::Until(None) } else { Rest::Failed }
    }
}

/// How much it may use.
pub(crate) fn limits_of(row: &sandbox::Model) -> Limits {
    let count = |number: i32| u32::try_from(number).unwrap_or(1);
    Limits { cpus_milli: count(row.cpus_milli), memory_mb: count(row.memory_mb), pids: count(row.pids) }
}
