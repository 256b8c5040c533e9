//! Brings reality to what is written down, whatever crashed: looks at everything when something may have changed and every
//! [`LOOK`], and has each sandbox that needs a step driven by a task of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rexec_sandbox::EngineError;
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::engine::{Engine, Found, Health};
use super::next::{Container, Step, next};
use super::step::{Driven, Rest, drive, known};
use super::{Sandboxes, rows};
use crate::app::App;
use crate::entity::{MachineKind, machine, sandbox, sandbox_volume};
use crate::limits::{SANDBOX_ORPHAN_AGE, SANDBOX_STEPS_AT_ONCE};
use crate::scope::Scope;
use crate::time::Timestamp;

/// How often everything is looked at without a reason.
const LOOK: Duration = Duration::from_secs(10);
/// How often an engine that is away is tried.
const LOOK_FOR_ENGINE: Duration = Duration::from_secs(2);
/// First wait after a failed step; each further one waits twice as long.
const BACKOFF: Duration = Duration::from_millis(250);
/// Longest wait after a failed step.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How often networks are swept.
const SWEEP: Duration = Duration::from_secs(300);
/// Tries of one that has stood for so long are forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// What failed for one sandbox, as it is wished for now.
#[derive(Debug, Clone, Copy)]
struct Tries {
    generation: i32,
    failures: u32,
    last: Instant,
}

impl Tries {
    fn backoff(&self) -> Duration {
        let doubled = 2u32.saturating_pow(self.failures.saturating_sub(1).min(16));
        BACKOFF.saturating_mul(doubled).min(BACKOFF_MAX)
    }
}

/// What a task of one sandbox ended with.
struct Ended {
    id: Uuid,
    generation: i32,
    driven: Driven,
}

/// Everything the reconciler remembers; none of it is needed after a crash.
struct Reconciler {
    app: App,
    engine: Arc<dyn Engine>,
    tasks: JoinSet<Ended>,
    busy: BTreeSet<Uuid>,
    tries: BTreeMap<Uuid, Tries>,
    due: Option<Instant>,
    /// When the engine was last asked how it is.
    health_at: Option<Instant>,
    strangers: Strangers,
    swept: Option<Instant>,
}

/// Reconciles until the process ends; returns at once where there is no engine.
pub async fn run(app: App) {
    let Ok(engine) = app.parts().sandboxes.engine().cloned() else { return };
    let ending = app.parts().ending.clone();
    let mut changes = app.parts().sandboxes.changes();
    let listening = tokio::spawn(listen(app.clone(), Arc::clone(&engine)));
    let mut reconciler = Reconciler::new(app, engine);
    loop {
        changes.mark_unchanged();
        let wait = reconciler.round().await;
        tokio::select! {
            () = ending.cancelled() => break,
            _ = changes.changed() => {}
            Some(ended) = reconciler.tasks.join_next() => reconciler.handle_end(ended.ok()),
            () = tokio::time::sleep(wait) => {}
        }
    }
    listening.abort();
    // What is in the middle of a step is led on from there by the next start.
    reconciler.tasks.shutdown().await;
}

/// Passes on that the engine said something changed.
async fn listen(app: App, engine: Arc<dyn Engine>) {
    loop {
        let mut changes = engine.changes();
        while let Some(Ok(_)) = changes.next().await {
            app.parts().sandboxes.wake();
        }
        drop(changes);
        tokio::time::sleep(LOOK_FOR_ENGINE).await;
        app.parts().sandboxes.wake();
    }
}

/// Containers of this installation that no row speaks of, and since when.
#[derive(Debug, Default)]
struct Strangers(BTreeMap<Uuid, Instant>);

impl Strangers {
    /// Those among `found` that nobody has known for longer than a row could be late.
    fn handle_found(&mut self, found: &[Found], known: &BTreeSet<Uuid>, now: Instant) -> Vec<Uuid> {
        let seen: BTreeSet<Uuid> =
            found.iter().map(|found| found.id).filter(|id| !known.contains(id)).collect();
        self.0.retain(|id, _| seen.contains(id));
        for id in seen {
            self.0.entry(id).or_insert(now);
        }
        let old = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= SANDBOX_ORPHAN_AGE);
        old.map(|(id, _)| *id).collect()
    }
}

impl Reconciler {
    fn new(app: App, engine: Arc<dyn Engine>) -> Self {
        Self {
            app,
            engine,
            tasks: JoinSet::new(),
            busy: BTreeSet::new(),
            tries: BTreeMap::new(),
            due: None,
            health_at: None,
            strangers: Strangers::default(),
            swept: None,
        }
    }

    fn sandboxes(&self) -> &Sandboxes {
        &self.app.parts().sandboxes
    }

    /// Looks at everything once; how long to wait for the next look.
    async fn round(&mut self) -> Duration {
        self.due = None;
        let found = match self.found().await {
            Some(found) => found,
            None => return LOOK_FOR_ENGINE,
        };
        if let Err(error) = self.compare(found).await {
            tracing::error!(%error, "sandboxes could not be looked at; it is tried again");
        }
        let due = self.due.map(|due| due.saturating_duration_since(Instant::now()));
        due.map_or(LOOK, |due| due.clamp(Duration::from_millis(20), LOOK))
    }

    /// What the engine has; none while it is away, which everybody who looks is told once.
    async fn found(&mut self) -> Option<Vec<Found>> {
        let found = match self.demand_health().await {
            Ok(()) => self.engine.list().await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => Some(found),
            Err(error) => {
                self.health_at = None;
                self.learn_health(Err(error.said)).await;
                None
            }
        }
    }

    /// Asks the engine how it is, if that was long ago.
    async fn demand_health(&mut self) -> Result<(), EngineError> {
        if self.health_at.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(());
        }
        let health = self.engine.health().await?;
        self.learn_health(Ok(health)).await;
        self.health_at = Some(Instant::now());
        Ok(())
    }

    async fn learn_health(&self, now: Result<Health, String>) {
        let was_there = self.sandboxes().health().map(|health| health.is_ok());
        let is_there = now.is_ok();
        if let Err(said) = &now
            && was_there != Some(false)
        {
            tracing::warn!(said, "the container engine does not answer");
        }
        self.sandboxes().learn_health(now);
        if was_there.is_some_and(|was| was != is_there) {
            self.tell_all().await;
        }
    }

    async fn tell_all(&self) {
        let rows = sandbox::Entity::find().all(self.app.db()).await.unwrap_or_default();
        for row in rows {
            if let Err(error) = super::tell(&self.app, row.organisation_id, row.id).await {
                tracing::error!(%error, "the engine's state could not be told");
            }
        }
    }

    async fn compare(&mut self, found: Vec<Found>) -> Result<(), DbErr> {
        let containers: BTreeMap<Uuid, Container> =
            found.iter().map(|found| (found.id, found.container)).collect();
        let rows = sandbox::Entity::find().all(self.app.db()).await?;
        let online = self.online().await?;
        let ids: BTreeSet<Uuid> = rows.iter().map(|row| row.id).collect();
        self.tries.retain(|id, _| ids.contains(id));
        self.app.metrics().sandboxes_known(rows.len(), online.len());
        for row in &rows {
            let container = containers.get(&row.id).copied().unwrap_or(Container::Missing);
            self.look_at(row, container, online.contains(&row.id));
        }
        self.remove_orphans(&found, &ids).await;
        self.sweep(&ids).await;
        self.remove_volumes().await
    }

    /// Sandboxes whose tunnel stands.
    async fn online(&self) -> Result<BTreeSet<Uuid>, DbErr> {
        let ids: Vec<Uuid> = machine::Entity::find()
            .filter(machine::Column::Kind.eq(MachineKind::Sandbox))
            .filter(machine::Column::Tunnel.is_not_null())
            .select_only()
            .column(machine::Column::Id)
            .into_tuple()
            .all(self.app.db())
            .await?;
        Ok(ids.into_iter().collect())
    }

    fn look_at(&mut self, row: &sandbox::Model, container: Container, online: bool) {
        if self.busy.contains(&row.id) {
            return;
        }
        let now = Instant::now();
        let tries = self.tries.get(&row.id).copied().filter(|tries| tries.generation == row.generation);
        let failures = tries.map_or(0, |tries| tries.failures);
        let step = next(&known(row, failures), container, online, self.app.now());
        if let Step::Wait(due) = step {
            return self.rest(row.id, due, tries);
        }
        match tries.map(|tries| tries.last + tries.backoff()).filter(|due| *due > now) {
            Some(due) if step != Step::GiveUp => self.look_again(due),
            Some(_) | None => self.begin(row, failures),
        }
    }

    /// Nothing is to be done about `id` before `due`.
    fn rest(&mut self, id: Uuid, due: Option<Timestamp>, tries: Option<Tries>) {
        let now = Instant::now();
        if let Some(due) = due {
            self.look_again(now + self.app.now().until(due));
        } else if tries.is_some_and(|tries| now - tries.last > FORGIVEN_AFTER) {
            self.tries.remove(&id);
        }
    }

    fn look_again(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn begin(&mut self, row: &sandbox::Model, failures: u32) {
        if self.busy.len() >= SANDBOX_STEPS_AT_ONCE {
            return; // The end of one that is busy brings the next look.
        }
        self.busy.insert(row.id);
        let (app, engine, id, generation) =
            (self.app.clone(), Arc::clone(&self.engine), row.id, row.generation);
        self.tasks.spawn(async move {
            let driven = drive(&app, &engine, id, failures).await;
            Ended { id, generation, driven }
        });
    }

    fn handle_end(&mut self, ended: Option<Ended>) {
        let Some(Ended { id, generation, driven }) = ended else {
            // A task that panicked has not said which it was: all that run are looked at again when they end.
            if self.tasks.is_empty() {
                self.busy.clear();
            }
            return;
        };
        self.busy.remove(&id);
        if driven.rest == Rest::Away {
            self.health_at = None;
        }
        let failed = driven.died.saturating_add(u32::from(driven.rest == Rest::Failed));
        if failed > 0 {
            let before = self.tries.get(&id).filter(|tries| tries.generation == generation);
            let failures = before.map_or(0, |tries| tries.failures).saturating_add(failed);
            self.tries.insert(id, Tries { generation, failures, last: Instant::now() });
        }
    }

    async fn remove_orphans(&mut self, found: &[Found], known: &BTreeSet<Uuid>) {
        let now = Instant::now();
        for id in self.strangers.handle_found(found, known, now) {
            tracing::warn!(sandbox = %id, "a container of ours that nobody knows of is removed");
            match self.engine.remove(id).await {
                Ok(()) => self.app.metrics().sandbox_orphan(),
                Err(error) => {
                    tracing::warn!(sandbox = %id, %error, "it could not be removed; it is tried again")
                }
            }
        }
    }

    /// Networks that a crash left behind.
    async fn sweep(&mut self, known: &BTreeSet<Uuid>) {
        let now = Instant::now();
        if self.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        let keep: Vec<Uuid> = known.iter().copied().collect();
        if let Err(error) = self.engine.sweep(&keep).await {
            tracing::warn!(%error, "networks that nobody needs could not be removed; it is tried again");
        }
    }

    /// Homes that somebody deleted.
    async fn remove_volumes(&self) -> Result<(), DbErr> {
        let gone = sandbox_volume::Column::RemovedAt.is_not_null();
        for row in sandbox_volume::Entity::find().filter(gone).limit(16).all(self.app.db()).await? {
            match self.engine.remove_volume(row.id).await {
                Ok(()) => {
                    rows::forget_volume(self.app.db(), Scope::of(row.organisation_id), row.id).await?;
                }
                Err(error) => {
                    tracing::warn!(volume = %row.id, %error, "a home could not be removed; it is tried again")
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_waits_longer_each_time_and_never_too_long() {
        let wait = |failures| Tries { generation: 1, failures, last: Instant::now() }.backoff();
        assert_eq!([wait(1), wait(2), wait(4)].map(|wait| wait.as_millis()), [250, 500, 2_000]);
        assert_eq!(wait(u32::MAX), BACKOFF_MAX);
    }

    #[test]
    fn only_what_nobody_has_known_for_a_minute_is_removed() {
        let found = |id: u128| Found { id: Uuid::from_u128(id), container: Container::Running };
        let known = BTreeSet::from([Uuid::from_u128(1)]);
        let (mut strangers, start) = (Strangers::default(), Instant::now());
        let all = [found(1), found(2)];
        assert!(strangers.handle_found(&all, &known, start).is_empty(), "its row may come");
        assert_eq!(strangers.handle_found(&all, &known, start + SANDBOX_ORPHAN_AGE), [Uuid::from_u128(2)]);
        assert!(strangers.handle_found(&[], &known, start + SANDBOX_ORPHAN_AGE).is_empty());
        assert!(
            strangers.handle_found(&all, &known, start + SANDBOX_ORPHAN_AGE).is_empty(),
            "it was away, and is new"
        );
    }
}
