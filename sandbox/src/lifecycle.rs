//! A sandbox's life, step by step. Each step finds what an earlier try of it left behind.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::container::LogOutput;
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
    WaitContainerOptions,
};
use futures_util::StreamExt as _;
use rexec_shared::sandbox::{ADMISSION_MAX, Admission, EGRESS_ENV, Egress};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::agent::{AgentVolume, IN_HELPER};
use crate::engine::{DEADLINE, Engine, Kind, LABEL_SANDBOX, gone, within};
use crate::error::{EngineError, ErrorKind};
use crate::spec::{HardenedSpec, Limits};

/// What the guard may say before it is cut off, bytes.
const GUARD_SAID_MAX: usize = 2_000;
/// A helper takes a second or two; one that is older and does not run was left behind.
const HELPER_LIFE: Duration = Duration::from_secs(60);
/// Longest grace of a stop, seconds.
const GRACE_MAX_S: i32 = 60;

/// A sandbox's container.
pub(crate) fn container_name(id: Uuid) -> String {
    format!("rexec-{id}")
}

impl Engine {
    /// Makes a sandbox's network, home and container. The image must be there.
    ///
    /// # Errors
    /// When the image is missing or the engine refuses.
    pub async fn create(&self, spec: &HardenedSpec) -> Result<(), EngineError> {
        if self.inspect(spec.id()).await?.is_some() {
            return Ok(());
        }
        let network = self.ensure_network(spec.id()).await?;
        self.ensure_home(spec.home()).await?;
        let options = CreateContainerOptionsBuilder::default().name(&container_name(spec.id())).build();
        match within(DEADLINE, self.docker().create_container(Some(options), spec.body(self, &network))).await
        {
            Ok(_) => Ok(()),
            // Another try made it a moment ago.
            Err(error) if error.kind == ErrorKind::Conflict => Ok(()),
            Err(error) if error.is_not_found() => Err(error.of_pull()),
            Err(error) => Err(error),
        }
    }

    /// Starts a sandbox's container; its agent waits to be admitted.
    ///
    /// # Errors
    /// When there is none, or it does not start.
    pub async fn start(&self, id: Uuid) -> Result<(), EngineError> {
        within(DEADLINE, self.docker().start_container(&container_name(id), None::<StartContainerOptions>))
            .await
    }

    /// Puts rules into a running sandbox's network namespace, by a container of ours that joins it for a moment. The sandbox lacks the right
    /// to change them, and whoever admits its agent does so after this.
    ///
    /// # Errors
    /// When the rules do not stand.
    pub async fn guard(&self, id: Uuid, agent: &AgentVolume, egress: &Egress) -> Result<(), EngineError> {
        let rules = serde_json::to_string(egress)
            .map_err(|error| EngineError::new(ErrorKind::Refused, &format!("the rules: {error}")))?;
        let name = format!("rexec-guard-{id}-{}", Uuid::new_v4().simple());
        let body = self.guard_body(id, agent, rules);
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        within(DEADLINE, self.docker().create_container(Some(options), body)).await?;
        let guarded = self.run_helper(&name, DEADLINE).await;
        let removal = RemoveContainerOptionsBuilder::default().force(true).build();
        gone(within(DEADLINE, self.docker().remove_container(&name, Some(removal))).await)?;
        let refused = |said| {
            EngineError::new(ErrorKind::Refused, &format!("the sandbox's network was not closed: {said}"))
        };
        guarded?.map(drop).map_err(refused)
    }

    fn guard_body(&self, id: Uuid, agent: &AgentVolume, rules: String) -> ContainerCreateBody {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        ContainerCreateBody {
            image: Some(agent.image()),
            user: Some("0:0".to_owned()),
            entrypoint: names(&[IN_HELPER]),
            cmd: names(&["guard"]),
            env: Some(vec![format!("{EGRESS_ENV}={rules}")]),
            labels: Some(self.labels(Kind::Guard, &[(LABEL_SANDBOX, id.to_string())])),
            host_config: Some(HostConfig {
                network_mode: Some(format!("container:{}", container_name(id))),
                cap_drop: names(&["ALL"]),
                cap_add: names(&["NET_ADMIN"]),
                security_opt: names(&["no-new-privileges:true"]),
                readonly_rootfs: Some(true),
                pids_limit: Some(16),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::NO),
                    maximum_retry_count: None,
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Starts a helper and waits for its end: what it said if it ended well, or as the inner error if it did not.
    pub(crate) async fn run_helper(
        &self,
        name: &str,
        most: Duration,
    ) -> Result<Result<String, String>, EngineError> {
        within(DEADLINE, self.docker().start_container(name, None::<StartContainerOptions>)).await?;
        let mut waiting = self.docker().wait_container(name, None::<WaitContainerOptions>);
        let ended = async { Ok::<_, EngineError>(waiting.next().await) };
        match within(most, ended).await? {
            Some(Ok(exit)) if exit.status_code == 0 => Ok(Ok(self.said_by(name).await)),
            // bollard makes an error of an exit code that is not 0.
            Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) | None => {
                Ok(Err(self.said_by(name).await))
            }
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// What a helper said.
    async fn said_by(&self, name: &str) -> String {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail("10").build();
        let mut logs = self.docker().logs(name, Some(options));
        let mut said = String::new();
        let reading = async {
            while let Some(Ok(line)) = logs.next().await {
                let (LogOutput::StdErr { message }
                | LogOutput::StdOut { message }
                | LogOutput::StdIn { message }
                | LogOutput::Console { message }) = line;
                said.push_str(&String::from_utf8_lossy(&message));
                if said.len() > GUARD_SAID_MAX {
                    break;
                }
            }
            Ok::<(), EngineError>(())
        };
        // What it says is worth no failure of its own.
        within(DEADLINE, reading).await.ok();
        said
    }

    /// Hands a waiting agent its admission, on the standard input of its container.
    ///
    /// # Errors
    /// When the container does not run or does not take it.
    pub async fn admit(&self, id: Uuid, admission: &Admission) -> Result<(), EngineError> {
        let mut line = serde_json::to_vec(admission)
            .map_err(|error| EngineError::new(ErrorKind::Refused, &format!("the admission: {error}")))?;
        line.push(b'\n');
        if line.len() > ADMISSION_MAX {
            return Err(EngineError::new(ErrorKind::Refused, "the admission is too long"));
        }
        let name = container_name(id);
        if !self.runs(&name).await? {
            return Err(EngineError::new(ErrorKind::Conflict, "the container does not run"));
        }
        let options = AttachContainerOptionsBuilder::default().stream(true).stdin(true).build();
        let mut attached = within(DEADLINE, self.docker().attach_container(&name, Some(options))).await?;
        let written = async {
            attached.input.write_all(&line).await?;
            attached.input.flush().await?;
            attached.input.shutdown().await
        };
        let written = tokio::time::timeout(DEADLINE, written).await;
        let failed = |error: &str| {
            EngineError::new(ErrorKind::Unreachable, &format!("the admission was not taken: {error}"))
        };
        written.map_err(|_| failed("not in time"))?.map_err(|error| failed(&error.to_string()))
    }

    /// Asks a sandbox's processes to end, and ends them after `grace`. One that does not run is no error.
    ///
    /// # Errors
    /// When there is no such container, or the engine does not answer.
    pub async fn stop(&self, id: Uuid, grace: Duration) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(GRACE_MAX_S).min(GRACE_MAX_S);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        within(DEADLINE + grace, self.docker().stop_container(&container_name(id), Some(options))).await
    }

    /// Removes a sandbox's container and network, whatever they are at. Its home stays. What is not there is no error.
    ///
    /// # Errors
    /// When the engine refuses or does not answer.
    pub async fn remove(&self, id: Uuid) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removed =
            within(DEADLINE, self.docker().remove_container(&container_name(id), Some(options))).await;
        match removed {
            // A removal that is under way already.
            Err(error) if error.kind == ErrorKind::Conflict => return Err(error),
            other => gone(other)?,
        }
        self.remove_network(id).await
    }

    /// Removes what a control that was stopped in the middle left behind: networks whose sandbox has no container and is not among `keep`, and helpers that have
    /// ended.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn sweep(&self, keep: &[Uuid]) -> Result<(), EngineError> {
        for kind in [Kind::Guard, Kind::Agent] {
            self.remove_ended(kind).await?;
        }
        let with_container: Vec<Uuid> = self.list().await?.into_iter().map(|found| found.id).collect();
        for id in self.networks().await? {
            if !keep.contains(&id) && !with_container.contains(&id) {
                self.remove_network(id).await?;
            }
        }
        Ok(())
    }

    /// A helper that runs has its owner; one that has ended, or was never started, and is still there has lost it.
    async fn remove_ended(&self, kind: Kind) -> Result<(), EngineError> {
        let mut filters = self.filter(kind);
        let statuses = ["exited", "dead", "created"].map(str::to_owned).to_vec();
        filters.insert("status".to_owned(), statuses);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        for found in within(DEADLINE, self.docker().list_containers(Some(options))).await? {
            let made = found.created.and_then(|made| u64::try_from(made).ok()).unwrap_or(0);
            let Some(id) = found.id.filter(|_| now.saturating_sub(made) > HELPER_LIFE.as_secs()) else {
                continue;
            };
            let removal = RemoveContainerOptionsBuilder::default().force(true).build();
            gone(within(DEADLINE, self.docker().remove_container(&id, Some(removal))).await)?;
        }
        Ok(())
    }

    /// Resizes a sandbox, running or not.
    ///
    /// # Errors
    /// When there is none, or the engine refuses.
    pub async fn update(&self, id: Uuid, limits: &Limits) -> Result<(), EngineError> {
        let body = ContainerUpdateBody {
            nano_cpus: Some(limits.nano_cpus()),
            memory: Some(limits.memory()),
            memory_swap: Some(limits.memory()),
            pids_limit: Some(i64::from(limits.pids)),
            ..ContainerUpdateBody::default()
        };
        within(DEADLINE, self.docker().update_container(&container_name(id), body)).await
    }
}
