//! An engine that makes nothing: it remembers what it was asked for, fails when told to, and forgets nothing over a restart of control.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use rexec_control::sandboxes::engine::{Answer, Engine, Found, Health, Spec};
use rexec_control::sandboxes::next::Container;
use rexec_control::sandboxes::view::Progress;
use rexec_sandbox::{EngineError, ErrorKind, Limits, SnapshotSize};
use rexec_shared::sandbox::{Admission, Egress};
use uuid::Uuid;

/// A handle; clones are of the same engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeEngine(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) boxes: BTreeMap<Uuid, FakeBox>,
    pub(crate) volumes: BTreeSet<Uuid>,
    pub(crate) snapshots: BTreeSet<Uuid>,
    /// Images that are not there and cannot be fetched.
    pub(crate) missing: BTreeSet<String>,
    /// Whether it answers nobody.
    pub(crate) away: bool,
    /// Calls that are refused from now on, by name.
    pub(crate) refused: BTreeSet<&'static str>,
    /// Every call that changes something, in order.
    pub(crate) calls: Vec<(&'static str, Uuid)>,
}

/// What stands for a container.
#[derive(Debug, Clone)]
pub(crate) struct FakeBox {
    pub(crate) container: Container,
    pub(crate) limits: Limits,
    pub(crate) home: Uuid,
    /// Whether its network is closed since it was started.
    pub(crate) guarded: Option<Egress>,
    /// What its agent was given, newest last.
    pub(crate) admissions: Vec<Admission>,
}

impl FakeEngine {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panicked with it")
    }

    /// The container of `id`.
    pub(crate) fn found(&self, id: Uuid) -> Option<FakeBox> {
        self.state().boxes.get(&id).cloned()
    }

    fn call<T>(
        &self,
        name: &'static str,
        id: Uuid,
        done: impl FnOnce(&mut State) -> Result<T, EngineError>,
    ) -> Answer<'_, T>
    where
        T: Send + 'static,
    {
        let mut state = self.state();
        let answer = if state.away {
            Err(fault(ErrorKind::Unreachable, "nobody answers"))
        } else if state.refused.contains(name) {
            Err(fault(ErrorKind::Refused, "refused by the test"))
        } else {
            state.calls.push((name, id));
            done(&mut state)
        };
        Box::pin(std::future::ready(answer))
    }
}

fn fault(kind: ErrorKind, said: &str) -> EngineError {
    EngineError { kind, said: said.to_owned() }
}

fn of(state: &mut State, id: Uuid) -> Result<&mut FakeBox, EngineError> {
    state.boxes.get_mut(&id).ok_or_else(|| fault(ErrorKind::NotFound, "no such container"))
}

impl Engine for FakeEngine {
    fn health(&self) -> Answer<'_, Health> {
        self.call("health", Uuid::nil(), |_| {
            Ok(Health { version: "1".to_owned(), cpus: 2, memory_mb: 4_096 })
        })
    }

    fn gateway(&self) -> Answer<'_, IpAddr> {
        self.call("gateway", Uuid::nil(), |_| Ok(IpAddr::from([172, 17, 0, 1])))
    }

    fn has_image<'a>(&'a self, image: &'a str) -> Answer<'a, bool> {
        let image = image.to_owned();
        self.call("has_image", Uuid::nil(), move |state| Ok(!state.missing.contains(&image)))
    }

    fn pull<'a>(&'a self, _: &'a str, _: &'a mut (dyn FnMut(Progress) + Send)) -> Answer<'a, ()> {
        self.call("pull", Uuid::nil(), |_| Err(fault(ErrorKind::ImageMissing, "manifest unknown")))
    }

    fn create<'a>(&'a self, spec: &'a Spec) -> Answer<'a, ()> {
        let (home, limits) = (spec.home, spec.limits);
        self.call("create", spec.id, |state| {
            state.volumes.insert(home);
            let container = Container::Created;
            let made = FakeBox { container, limits, home, guarded: None, admissions: Vec::new() };
            state.boxes.entry(spec.id).or_insert(made);
            Ok(())
        })
    }

    fn start(&self, id: Uuid, limits: Limits) -> Answer<'_, ()> {
        self.call("start", id, move |state| {
            let found = of(state, id)?;
            (found.container, found.guarded, found.limits) = (Container::Running, None, limits);
            Ok(())
        })
    }

    fn guard<'a>(&'a self, id: Uuid, egress: &'a Egress) -> Answer<'a, ()> {
        let egress = egress.clone();
        self.call("guard", id, move |state| {
            of(state, id)?.guarded = Some(egress);
            Ok(())
        })
    }

    fn admit<'a>(&'a self, id: Uuid, admission: &'a Admission) -> Answer<'a, ()> {
        let admission = admission.clone();
        self.call("admit", id, move |state| {
            let found = of(state, id)?;
            assert!(found.guarded.is_some(), "nobody is let in before the network is closed");
            found.admissions.push(admission);
            Ok(())
        })
    }

    fn run<'a>(
        &'a self,
        id: Uuid,
        _: &'a str,
        (_, preset): (&'a str, &'a str),
        told: &'a mut (dyn FnMut(String) + Send),
    ) -> Answer<'a, i64> {
        told("half way".to_owned());
        let code = i64::from(preset.contains("exit 3")) * 3;
        self.call("run", id, move |state| {
            let found = of(state, id)?;
            assert!(found.guarded.is_some(), "nothing of a tenant's runs before the network is closed");
            assert!(found.admissions.is_empty(), "a preset comes before the agent");
            Ok(code)
        })
    }

    fn stop(&self, id: Uuid, _: Duration) -> Answer<'_, ()> {
        self.call("stop", id, move |state| {
            of(state, id)?.container = Container::Ended;
            Ok(())
        })
    }

    fn remove(&self, id: Uuid) -> Answer<'_, ()> {
        self.call("remove", id, move |state| {
            state.boxes.remove(&id);
            Ok(())
        })
    }

    fn update(&self, id: Uuid, limits: Limits) -> Answer<'_, ()> {
        self.call("update", id, move |state| {
            of(state, id)?.limits = limits;
            Ok(())
        })
    }

    fn list(&self) -> Answer<'_, Vec<Found>> {
        self.call("list", Uuid::nil(), |state| {
            let found = state.boxes.iter().map(|(id, found)| Found { id: *id, container: found.container });
            Ok(found.collect())
        })
    }

    fn inspect(&self, id: Uuid) -> Answer<'_, Container> {
        self.call("inspect", id, move |state| {
            Ok(state.boxes.get(&id).map_or(Container::Missing, |found| found.container))
        })
    }

    fn snapshot(&self, sandbox: Uuid, home: Uuid, snapshot: Uuid) -> Answer<'_, SnapshotSize> {
        self.call("snapshot", sandbox, move |state| {
            of(state, sandbox)?;
            assert!(state.volumes.contains(&home), "the home is there");
            state.snapshots.insert(snapshot);
            Ok(SnapshotSize { root: 1_000, home: 10 })
        })
    }

    fn fill_home(&self, snapshot: Uuid, home: Uuid) -> Answer<'_, ()> {
        self.call("fill_home", home, move |state| {
            assert!(state.snapshots.contains(&snapshot), "the snapshot is there");
            state.volumes.insert(home);
            Ok(())
        })
    }

    fn remove_snapshot(&self, snapshot: Uuid) -> Answer<'_, ()> {
        self.call("remove_snapshot", snapshot, move |state| {
            state.snapshots.remove(&snapshot);
            Ok(())
        })
    }

    fn remove_volume(&self, id: Uuid) -> Answer<'_, ()> {
        self.call("remove_volume", id, move |state| {
            assert!(
                state.boxes.values().all(|found| found.home != id),
                "a home is removed under its container"
            );
            state.volumes.remove(&id);
            Ok(())
        })
    }

    fn sweep<'a>(&'a self, _: &'a [Uuid]) -> Answer<'a, ()> {
        self.call("sweep", Uuid::nil(), |_| Ok(()))
    }

    fn changes(&self) -> BoxStream<'_, Result<Uuid, EngineError>> {
        futures_util::stream::pending().boxed()
    }
}
