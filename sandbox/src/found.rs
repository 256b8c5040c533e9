//! What is on an engine, and what happens there.

use std::collections::HashMap;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerStatsResponse, ContainerSummary,
    ContainerSummaryStateEnum,
};
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder, StatsOptionsBuilder,
};
use futures_util::{Stream, StreamExt as _};
use uuid::Uuid;

use crate::engine::{DEADLINE, Engine, Kind, LABEL_SANDBOX, within};
use crate::error::{EngineError, ErrorKind};
use crate::lifecycle::container_name;

/// What a container is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// It never ran.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Ended,
}

/// A sandbox on an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub id: Uuid,
    /// What its container is at.
    pub container: Container,
    /// The image it was made of.
    pub image: String,
    /// How its process ended, where that is known.
    pub exit_code: Option<i64>,
    /// Whether the kernel ended it for want of memory.
    pub oom: bool,
}

/// What a sandbox uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Processor time so far, nanoseconds.
    pub cpu_ns: u64,
    /// Memory now, bytes; what the kernel can take back at once is not in it.
    pub memory: u64,
    /// Received so far, bytes.
    pub rx: u64,
    /// Sent so far, bytes.
    pub tx: u64,
    /// Processes and threads now.
    pub pids: u64,
}

impl Engine {
    /// The installation's sandboxes on this engine.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn list(&self) -> Result<Vec<Found>, EngineError> {
        let options =
            ListContainersOptionsBuilder::default().all(true).filters(&self.filter(Kind::Sandbox)).build();
        let found = within(DEADLINE, self.docker().list_containers(Some(options))).await?;
        Ok(found.into_iter().filter_map(summarised).collect())
    }

    /// The sandbox `id`, if it is on this engine.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn inspect(&self, id: Uuid) -> Result<Option<Found>, EngineError> {
        let name = container_name(id);
        match within(DEADLINE, self.docker().inspect_container(&name, None::<InspectContainerOptions>)).await
        {
            Ok(found) => Ok(Some(inspected(id, found))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says which sandbox's container began or ended. Ends with an error when the engine goes away.
    pub fn changes(&self) -> impl Stream<Item = Result<Uuid, EngineError>> + Send + 'static {
        let mut filters = self.filter(Kind::Sandbox);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        let events = ["start", "die", "oom", "destroy", "create"].map(str::to_owned).to_vec();
        filters.insert("event".to_owned(), events);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let docker = self.docker().clone();
        let ended = futures_util::stream::once(async {
            Err(EngineError::new(ErrorKind::Unreachable, "the engine ended its events"))
        });
        let events = docker.events(Some(options)).filter_map(async |event| match event {
            Ok(event) => event.actor?.attributes?.get(LABEL_SANDBOX)?.parse().ok().map(Ok),
            Err(error) => Some(Err(EngineError::from(error))),
        });
        events.boxed().chain(ended)
    }

    /// What the sandbox `id` uses now.
    ///
    /// # Errors
    /// When it does not run, or the engine does not answer.
    pub async fn sample(&self, id: Uuid) -> Result<Sample, EngineError> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut stats = self.docker().stats(&container_name(id), Some(options));
        let first = async {
            let none = || EngineError::new(ErrorKind::NotFound, "the engine has no figures of it");
            stats.next().await.ok_or_else(none)?.map_err(EngineError::from)
        };
        within(DEADLINE, first).await.map(|stats| sampled(&stats))
    }
}

fn summarised(summary: ContainerSummary) -> Option<Found> {
    let id = summary.labels?.get(LABEL_SANDBOX)?.parse().ok()?;
    let container = match summary.state? {
        ContainerSummaryStateEnum::CREATED => Container::Created,
        ContainerSummaryStateEnum::RUNNING
        | ContainerSummaryStateEnum::PAUSED
        | ContainerSummaryStateEnum::STOPPING
        | ContainerSummaryStateEnum::RESTARTING => Container::Running,
        ContainerSummaryStateEnum::EMPTY
        | ContainerSummaryStateEnum::EXITED
        | ContainerSummaryStateEnum::REMOVING
        | ContainerSummaryStateEnum::DEAD => Container::Ended,
    };
    Some(Found { id, container, image: summary.image.unwrap_or_default(), exit_code: None, oom: false })
}

fn inspected(id: Uuid, found: ContainerInspectResponse) -> Found {
    let state = found.state.unwrap_or_default();
    let container = match state.status {
        Some(ContainerStateStatusEnum::CREATED) => Container::Created,
        _ if state.running == Some(true) => Container::Running,
        _ => Container::Ended,
    };
    let image = found.config.and_then(|config| config.image).unwrap_or_default();
    let exit_code = state.exit_code.filter(|_| container == Container::Ended);
    Found { id, container, image, exit_code, oom: state.oom_killed.unwrap_or(false) }
}

fn sampled(stats: &ContainerStatsResponse) -> Sample {
    let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref());
    let memory = stats.memory_stats.as_ref();
    let reclaimable = memory.and_then(|memory| memory.stats.as_ref()).map_or(0, reclaimable);
    let networks = stats.networks.iter().flat_map(HashMap::values);
    let (rx, tx) = networks.fold((0_u64, 0_u64), |(rx, tx), network| {
        (rx.saturating_add(network.rx_bytes.unwrap_or(0)), tx.saturating_add(network.tx_bytes.unwrap_or(0)))
    });
    Sample {
        cpu_ns: cpu.and_then(|usage| usage.total_usage).unwrap_or(0),
        memory: memory.and_then(|memory| memory.usage).unwrap_or(0).saturating_sub(reclaimable),
        rx,
        tx,
        pids: stats.pids_stats.as_ref().and_then(|pids| pids.current).unwrap_or(0),
    }
}

/// Page cache that nobody has asked for lately: `inactive_file` in cgroup v2, `total_inactive_file` in v1.
fn reclaimable(stats: &HashMap<String, u64>) -> u64 {
    stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_either_kind_of_cgroup_are_read() {
        let of = |said: serde_json::Value| sampled(&serde_json::from_value(said).unwrap());
        let two = of(serde_json::json!({
            "cpu_stats": { "cpu_usage": { "total_usage": 5_000 } },
            "memory_stats": { "usage": 1_000, "stats": { "inactive_file": 300 } },
            "networks": { "eth0": { "rx_bytes": 7, "tx_bytes": 8 } },
            "pids_stats": { "current": 3 },
        }));
        assert_eq!(two, Sample { cpu_ns: 5_000, memory: 700, rx: 7, tx: 8, pids: 3 });
        let one = of(
            serde_json::json!({ "memory_stats": { "usage": 10, "stats": { "total_inactive_file": 30, "inactive_file": 1 } } }),
        );
        assert_eq!(one, Sample::default());
    }
}
