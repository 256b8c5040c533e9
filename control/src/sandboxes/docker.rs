//! Docker as [`Engine`]: the calls of `rexec_sandbox`, and the agent it puts into every sandbox.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _};
use rexec_sandbox::{
    AgentVolume, Endpoint, EngineError, ErrorKind, HardenedSpec, Limits, SnapshotSize, Wish,
};
use rexec_shared::sandbox::{Admission, Egress, PROXY_ENV};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::engine::{Answer, Engine, Found, Health, Spec};
use super::next::Container;
use super::view::Progress;
use crate::limits::SANDBOX_SET_UP_MAX;

/// A Docker engine.
#[derive(Debug)]
pub struct Docker {
    endpoint: Endpoint,
    installation: Uuid,
    /// Reached once it answers.
    engine: OnceCell<rexec_sandbox::Engine>,
    /// Where agents are, named `rexec-agent-linux-amd64` and so on.
    agents: PathBuf,
}

impl Docker {
    /// The engine at `endpoint`, which need not be there yet, and where the agents for it are.
    pub fn new(endpoint: Endpoint, installation: Uuid, agents: PathBuf) -> Self {
        Self { endpoint, installation, engine: OnceCell::new(), agents }
    }

    async fn engine(&self) -> Result<&rexec_sandbox::Engine, EngineError> {
        let connect = async || rexec_sandbox::Engine::connect(&self.endpoint, self.installation).await;
        self.engine.get_or_try_init(connect).await
    }

    /// The agent on the engine; put there when it is not, or another one is served now.
    async fn agent(&self) -> Result<AgentVolume, EngineError> {
        let engine = self.engine().await?;
        let arch = engine.health().await?.arch;
        let path = self.agents.join(format!("rexec-agent-linux-{arch}"));
        if tokio::fs::metadata(&path).await.is_err() {
            let said = format!("this installation has no agent for linux-{arch}: see REXEC_DOWNLOAD_DIR");
            return Err(EngineError { kind: ErrorKind::Refused, said });
        }
        engine.ensure_agent(&path).await
    }
}

fn container(found: rexec_sandbox::Container) -> Container {
    match found {
        rexec_sandbox::Container::Created => Container::Created,
        rexec_sandbox::Container::Running => Container::Running,
        rexec_sandbox::Container::Ended => Container::Ended,
    }
}

/// Whether it is gone already, which is as good.
fn gone(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl Engine for Docker {
    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async {
            let health = self.engine().await?.health().await?;
            Ok(Health {
                version: health.version,
                cpus: health.cpus,
                memory_mb: health.memory / (1024 * 1024),
            })
        })
    }

    fn gateway(&self) -> Answer<'_, IpAddr> {
        Box::pin(async { self.engine().await?.gateway().await })
    }

    fn has_image<'a>(&'a self, image: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { self.engine().await?.has_image(image).await })
    }

    fn pull<'a>(&'a self, image: &'a str, told: &'a mut (dyn FnMut(Progress) + Send)) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut tell = |pull: rexec_sandbox::Pull| {
                told(Progress { detail: Some(pull.detail), percent: pull.percent });
            };
            self.engine().await?.ensure_image(image, &mut tell).await.map(drop)
        })
    }

    fn create<'a>(&'a self, spec: &'a Spec) -> Answer<'a, ()> {
        Box::pin(async move {
            let wish = Wish {
                id: spec.id,
                image: spec.image.clone(),
                hostname: spec.hostname.clone(),
                limits: spec.limits,
                home: spec.home,
                agent: self.agent().await?,
                dns: spec.dns.clone(),
                env: spec.proxy.iter().map(|proxy| (PROXY_ENV.to_owned(), proxy.expose().clone())).collect(),
            };
            self.engine().await?.create(&HardenedSpec::new(wish)).await
        })
    }

    fn start(&self, id: Uuid, limits: Limits) -> Answer<'_, ()> {
        Box::pin(async move {
            // A resize that the engine was away for, or that came between two steps.
            self.engine().await?.update(id, &limits).await?;
            self.engine().await?.start(id).await
        })
    }

    fn guard<'a>(&'a self, id: Uuid, egress: &'a Egress) -> Answer<'a, ()> {
        Box::pin(async move {
            let agent = self.agent().await?;
            self.engine().await?.guard(id, &agent, egress).await
        })
    }

    fn admit<'a>(&'a self, id: Uuid, admission: &'a Admission) -> Answer<'a, ()> {
        Box::pin(async move { self.engine().await?.admit(id, admission).await })
    }

    fn run<'a>(
        &'a self,
        id: Uuid,
        script: &'a str,
        env: (&'a str, &'a str),
        told: &'a mut (dyn FnMut(String) + Send),
    ) -> Answer<'a, i64> {
        Box::pin(async move {
            let argv = ["/bin/sh", "-c", script];
            self.engine().await?.run(id, &argv, &[env], SANDBOX_SET_UP_MAX, told).await
        })
    }

    fn stop(&self, id: Uuid, grace: Duration) -> Answer<'_, ()> {
        Box::pin(async move { gone(self.engine().await?.stop(id, grace).await) })
    }

    fn remove(&self, id: Uuid) -> Answer<'_, ()> {
        Box::pin(async move { gone(self.engine().await?.remove(id).await) })
    }

    fn update(&self, id: Uuid, limits: Limits) -> Answer<'_, ()> {
        Box::pin(async move { gone(self.engine().await?.update(id, &limits).await) })
    }

    fn list(&self) -> Answer<'_, Vec<Found>> {
        Box::pin(async {
            let found = self
                .engine()
                .await?
                .list()
                .await?
                .into_iter()
                .map(|found| Found { id: found.id, container: container(found.container) });
            Ok(found.collect())
        })
    }

    fn inspect(&self, id: Uuid) -> Answer<'_, Container> {
        Box::pin(async move {
            let found = self.engine().await?.inspect(id).await?;
            Ok(found.map_or(Container::Missing, |found| container(found.container)))
        })
    }

    fn snapshot(&self, sandbox: Uuid, home: Uuid, snapshot: Uuid) -> Answer<'_, SnapshotSize> {
        Box::pin(async move {
            let agent = self.agent().await?;
            self.engine().await?.snapshot(sandbox, home, snapshot, &agent).await
        })
    }

    fn fill_home(&self, snapshot: Uuid, home: Uuid) -> Answer<'_, ()> {
        Box::pin(async move {
            let agent = self.agent().await?;
            self.engine().await?.copy_home(snapshot, home, &agent).await.map(drop)
        })
    }

    fn remove_snapshot(&self, snapshot: Uuid) -> Answer<'_, ()> {
        Box::pin(async move { self.engine().await?.remove_snapshot(snapshot).await })
    }

    fn remove_volume(&self, id: Uuid) -> Answer<'_, ()> {
        Box::pin(async move { gone(self.engine().await?.remove_volume(id).await) })
    }

    fn sweep<'a>(&'a self, keep: &'a [Uuid]) -> Answer<'a, ()> {
        Box::pin(async move { self.engine().await?.sweep(keep).await })
    }

    fn changes(&self) -> BoxStream<'_, Result<Uuid, EngineError>> {
        let stream = async move {
            match self.engine().await {
                Ok(engine) => engine.changes().boxed(),
                Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
            }
        };
        futures_util::stream::once(stream).flatten().boxed()
    }
}
