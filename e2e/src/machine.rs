//! A machine: a real `rexec-agent`, enrolled with an [`Installation`], in a directory of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::api::Api;
use crate::binaries::Program;
use crate::disk::Disk;
use crate::installation::Installation;
use crate::process::{self, Process};
use crate::wait;

/// A change of presence is seen by the dashboard within this, generously.
pub const PRESENCE_DEADLINE: Duration = Duration::from_secs(20);

/// An enrolled machine. Dropping it ends its agent, and the shells with it.
#[derive(Debug)]
pub struct Machine {
    id: Uuid,
    name: String,
    agent: Option<Process>,
    /// Network namespace the agent runs in.
    namespace: Option<String>,
    log: String,
    /// Further environment of the agent.
    environment: Vec<(String, String)>,
    /// Its agent's binary; none is the one that was built.
    program: Option<PathBuf>,
    api: Api,
    disk: Option<Disk>,
    dir: TempDir,
}

impl Machine {
    /// Enrols a machine, starts its agent and waits until it is online.
    ///
    /// # Errors
    /// When any of that fails.
    pub fn start(installation: &Installation, name: &str) -> Result<Self> {
        Self::start_in(installation, name, None)
    }

    /// As [`Machine::start`], with the agent in a network namespace.
    ///
    /// # Errors
    /// When any of that fails.
    pub fn start_in(installation: &Installation, name: &str, namespace: Option<&str>) -> Result<Self> {
        let mut machine = Self::unregistered(installation, name, namespace)?;
        machine.join(installation)?;
        Ok(machine)
    }

    /// Enrols it, starts its agent and waits until it is online.
    ///
    /// # Errors
    /// When any of that fails.
    pub fn join(&mut self, installation: &Installation) -> Result<()> {
        let token = installation.join_token()?;
        self.register(installation, &token)?;
        self.start_agent()?;
        self.wait_online(true)
    }

    /// A machine whose agent has not registered yet.
    ///
    /// # Errors
    /// When there is no room for its directory.
    pub fn unregistered(installation: &Installation, name: &str, namespace: Option<&str>) -> Result<Self> {
        Ok(Self {
            id: Uuid::nil(),
            name: name.into(),
            agent: None,
            namespace: namespace.map(str::to_owned),
            log: installation.options().log.clone(),
            // A test does not wait for half a minute until a tunnel over TCP looks for QUIC.
            environment: vec![("REXEC_TEST_QUIC_PROBE_MS".into(), "2000".into())],
            program: None,
            api: installation.owner().clone(),
            disk: None,
            dir: tempfile::Builder::new().prefix("rexec-m-").tempdir()?,
        })
    }

    /// Registers with a join token.
    ///
    /// # Errors
    /// With what the agent said.
    pub fn register(&mut self, installation: &Installation, token_file: &std::path::Path) -> Result<()> {
        let mut command = self.command()?;
        command.args(["register", "--name", &self.name, "--server", installation.origin(), "--token-file"]);
        let output = command.arg(token_file).output()?;
        if !output.status.success() {
            bail!("register: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.learn_id()
    }

    /// Reads the id that enrolment gave.
    ///
    /// # Errors
    /// When there is none.
    pub fn learn_id(&mut self) -> Result<()> {
        let text = std::fs::read_to_string(self.profile_dir().join("registration.json"))?;
        let registration: Value = serde_json::from_str(&text)?;
        self.id = registration["machine"].as_str().context("no machine in the registration")?.parse()?;
        Ok(())
    }

    /// Sets a variable of the agent's environment, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Gives it a disk of its own of this many bytes, before anything is on it.
    ///
    /// # Errors
    /// When this is not root on Linux.
    pub fn put_on_disk(&mut self, bytes: u64) -> Result<()> {
        self.disk = Some(Disk::mount(self.dir.path(), bytes)?);
        Ok(())
    }

    /// Its own disk.
    ///
    /// # Errors
    /// When it has none.
    pub fn disk(&self) -> Result<&Disk> {
        self.disk.as_ref().context("no disk of its own")
    }

    /// Gives it a copy of the agent's binary of its own, which may be replaced; it is run from there from the agent's next start on.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn install_agent(&mut self) -> Result<()> {
        let own = self.dir.path().join("rexec-agent");
        std::fs::copy(Program::Agent.path()?, &own)?;
        self.program = Some(own);
        Ok(())
    }

    /// That copy.
    pub fn program(&self) -> Option<&std::path::Path> {
        self.program.as_deref()
    }

    /// Starts the agent, in the foreground of a process of its own.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_agent(&mut self) -> Result<()> {
        let mut command = self.command()?;
        command.arg("start");
        self.agent = Some(Process::start(&format!("rexec-agent {}", self.name), command, &self.log_path())?);
        Ok(())
    }

    /// Asks the agent to end, with its shells.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop_agent(&mut self) -> Result<()> {
        self.agent.take().context("the agent is not running")?.terminate().map(drop)
    }

    /// `rexec-agent` of this machine.
    ///
    /// # Errors
    /// When the binary is missing.
    pub fn command(&self) -> Result<Command> {
        let program = self.program.clone().map_or_else(|| Program::Agent.path(), Ok)?;
        let mut command = match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("REXEC_AGENT_DIR", self.dir.path()).env("REXEC_LOG", &self.log);
        Ok(command)
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Everything its agent has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Key, certificate, registration and sockets of its profile.
    pub fn profile_dir(&self) -> PathBuf {
        self.dir.path().join("default")
    }

    /// Directory of the whole agent.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The process that talks to the broker.
    ///
    /// # Errors
    /// When none runs within the deadline.
    pub fn uplink_pid(&self) -> Result<u32> {
        let host = self.host_pid()?;
        let is_uplink = |pid: &u32| process::command_line(*pid).iter().any(|argument| argument == "uplink");
        wait::until("the agent's uplink", Duration::from_secs(5), || {
            process::children(host).into_iter().find(is_uplink)
        })
    }

    /// The process that owns the shells, and is the uplink's parent.
    ///
    /// # Errors
    /// When the agent is not running.
    pub fn host_pid(&self) -> Result<u32> {
        self.agent.as_ref().map(Process::pid).context("the agent is not running")
    }

    /// The shells: what the session host runs beside its uplink.
    ///
    /// # Errors
    /// When the agent is not running.
    pub fn shells(&self) -> Result<Vec<u32>> {
        let uplink = self.uplink_pid()?;
        Ok(process::children(self.host_pid()?).into_iter().filter(|pid| *pid != uplink).collect())
    }

    /// What its agent says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.command()?.args(["status", "--json"]).output()?.stdout)?)
    }

    /// The machine as control's API tells it.
    ///
    /// # Errors
    /// When control does not answer, or knows no such machine.
    pub fn seen_by_control(&self) -> Result<Value> {
        self.api.get(&format!("/api/machines/{}", self.id))?.ok()
    }

    /// Waits until control says that it is online, or offline.
    ///
    /// # Errors
    /// When that does not come.
    pub fn wait_online(&self, online: bool) -> Result<()> {
        wait::until(&format!("{} online: {online}", self.name), PRESENCE_DEADLINE, || {
            (self.seen_by_control().ok()?["online"] == online).then_some(())
        })
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("agent-under-test.log")
    }
}
