//! Snapshots: what a sandbox's container is, as an image, and its home beside it, as a volume of its own.

use std::time::Duration;

use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::agent::{AgentVolume, IN_HELPER};
use crate::engine::{DEADLINE, Engine, Kind, LABEL_VOLUME, gone, within};
use crate::error::{EngineError, ErrorKind};
use crate::lifecycle::container_name;
use crate::volume::home_name;

/// Repository of the images.
const REPOSITORY: &str = "rexec-snapshot";
/// Longest copy of a home, and longest commit.
const COPY_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// How long it is tried to make a container stand still, and how often.
const FREEZE_DEADLINE: Duration = Duration::from_secs(20);
const FREEZE_AGAIN: Duration = Duration::from_millis(100);
/// What a copy needs of root: to read everything, and to make it over again with its owners and modes.
const COPY_CAPABILITIES: [&str; 4] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"];

/// How large a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotSize {
    /// The image with everything it is made on, bytes.
    pub root: u64,
    /// The home, bytes.
    pub home: u64,
}

/// The reference of a snapshot's image.
pub fn snapshot_image(id: Uuid) -> String {
    format!("{REPOSITORY}:{id}")
}

impl Engine {
    /// Makes the snapshot `id` of the sandbox `sandbox` and its home; what an earlier try of it left is made over. The sandbox stands still meanwhile.
    ///
    /// # Errors
    /// When there is no such container, or the engine refuses. The sandbox goes on in either case.
    pub async fn snapshot(
        &self,
        sandbox: Uuid,
        home: Uuid,
        id: Uuid,
        agent: &AgentVolume,
    ) -> Result<SnapshotSize, EngineError> {
        let name = container_name(sandbox);
        let runs = self.runs(&name).await?;
        if runs {
            self.pause(&name).await?;
        }
        let made = self.save(&name, home, id, agent).await;
        if runs {
            match within(DEADLINE, self.docker().unpause_container(&name)).await {
                Err(error) if error.said.contains("not paused") => {}
                other => gone(other)?,
            }
        }
        made
    }

    /// Makes a container stand still. The kernel fails to freeze one whose processes come and go just then, so that is tried again.
    async fn pause(&self, name: &str) -> Result<(), EngineError> {
        let deadline = Instant::now() + FREEZE_DEADLINE;
        loop {
            match within(DEADLINE, self.docker().pause_container(name)).await {
                // It stands still already where a control was killed in the middle of this.
                Err(error) if error.said.contains("already paused") => return Ok(()),
                Err(error) if error.said.contains("freeze") && Instant::now() < deadline => {
                    sleep(FREEZE_AGAIN).await;
                }
                other => return other,
            }
        }
    }

    async fn save(
        &self,
        container: &str,
        home: Uuid,
        id: Uuid,
        agent: &AgentVolume,
    ) -> Result<SnapshotSize, EngineError> {
        let options = CommitContainerOptionsBuilder::default()
            .container(container)
            .repo(REPOSITORY)
            .tag(&id.to_string())
            .pause(false)
            .build();
        let labels = Some(self.labels(Kind::Snapshot, &[]));
        let config = ContainerConfig { labels, ..ContainerConfig::default() };
        within(COPY_DEADLINE, self.docker().commit_container(options, config)).await?;
        let image = within(DEADLINE, self.docker().inspect_image(&snapshot_image(id))).await?;
        let home = self.copy_home(home, id, agent).await?;
        Ok(SnapshotSize { root: image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0), home })
    }

    /// Makes the home `to` what the home `from` is; how many bytes that is.
    ///
    /// # Errors
    /// When something in it cannot be copied, or the engine refuses.
    pub async fn copy_home(&self, from: Uuid, to: Uuid, agent: &AgentVolume) -> Result<u64, EngineError> {
        // A copy that a control which has ended since began would write beside this one.
        self.remove_copies(to).await?;
        self.ensure_home(from).await?;
        self.ensure_home(to).await?;
        let name = format!("rexec-copy-{to}-{}", Uuid::new_v4().simple());
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        within(DEADLINE, self.docker().create_container(Some(options), self.copy_body(from, to, agent)))
            .await?;
        let ended = self.run_helper(&name, COPY_DEADLINE).await;
        let removal = RemoveContainerOptionsBuilder::default().force(true).build();
        gone(within(DEADLINE, self.docker().remove_container(&name, Some(removal))).await)?;
        let said = ended?.map_err(|said| {
            EngineError::new(ErrorKind::Refused, &format!("the home was not copied: {said}"))
        })?;
        Ok(said.trim().parse().unwrap_or(0))
    }

    fn copy_body(&self, from: Uuid, to: Uuid, agent: &AgentVolume) -> ContainerCreateBody {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let volume = |id, target: &str, read_only| Mount {
            typ: Some(MountType::VOLUME),
            source: Some(home_name(id)),
            target: Some(target.to_owned()),
            read_only: Some(read_only),
            ..Mount::default()
        };
        ContainerCreateBody {
            image: Some(agent.image()),
            user: Some("0:0".to_owned()),
            entrypoint: names(&[IN_HELPER]),
            cmd: names(&["copy-home"]),
            labels: Some(self.labels(Kind::Guard, &[(LABEL_VOLUME, to.to_string())])),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                cap_drop: names(&["ALL"]),
                cap_add: names(&COPY_CAPABILITIES),
                security_opt: names(&["no-new-privileges:true"]),
                readonly_rootfs: Some(true),
                pids_limit: Some(16),
                memory: Some(256 * 1024 * 1024),
                mounts: Some(vec![volume(from, "/from", true), volume(to, "/to", false)]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Helpers that copy into the home `to`, whatever they are at.
    pub(crate) async fn remove_copies(&self, to: Uuid) -> Result<(), EngineError> {
        let mut filters = self.filter(Kind::Guard);
        filters.entry("label".to_owned()).or_default().push(format!("{LABEL_VOLUME}={to}"));
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        for found in within(DEADLINE, self.docker().list_containers(Some(options))).await? {
            let Some(id) = found.id else { continue };
            let removal = RemoveContainerOptionsBuilder::default().force(true).build();
            gone(within(DEADLINE, self.docker().remove_container(&id, Some(removal))).await)?;
        }
        Ok(())
    }

    /// Removes a snapshot; what is not there is no error.
    ///
    /// # Errors
    /// When a container is still of it, or the engine does not answer.
    pub async fn remove_snapshot(&self, id: Uuid) -> Result<(), EngineError> {
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        let removed =
            within(DEADLINE * 4, self.docker().remove_image(&snapshot_image(id), Some(options), None)).await;
        gone(removed.map(drop))?;
        self.remove_volume(id).await
    }
}
