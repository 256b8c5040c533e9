//! A `rexec-broker` that stands alone and joins an [`Installation`], with its own data directory and ports.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::api::Api;
use crate::binaries::Program;
use crate::installation::{Installation, free_port};
use crate::process::{self, Process};
use crate::wait;

const READY_DEADLINE: Duration = Duration::from_secs(20);
/// An orderly end, with streams that move to other brokers.
const END_DEADLINE: Duration = Duration::from_secs(40);

/// A broker. Dropping it ends its process and removes its data.
#[derive(Debug)]
pub struct Broker {
    name: String,
    process: Option<Process>,
    host: IpAddr,
    port: u16,
    tunnel_port: u16,
    control: String,
    credential: PathBuf,
    log: String,
    dir: TempDir,
}

impl Broker {
    /// Adds a broker to the installation, starts it and waits until it is ready and linked.
    ///
    /// # Errors
    /// When any of that fails.
    pub fn start(installation: &Installation, name: &str) -> Result<Self> {
        let mut broker = Self::with_credential(installation, name, &installation.broker_credential(name)?)?;
        broker.run()?;
        broker.wait_linked()?;
        Ok(broker)
    }

    /// A broker that has not been started, with the credential in this file.
    ///
    /// # Errors
    /// When there are no ports for it.
    pub fn with_credential(installation: &Installation, name: &str, credential: &Path) -> Result<Self> {
        let host = installation.options().host;
        Ok(Self {
            name: name.into(),
            process: None,
            host,
            port: free_port(host)?,
            tunnel_port: free_port(host)?,
            control: installation.origin().into(),
            credential: credential.into(),
            log: installation.options().log.clone(),
            dir: tempfile::Builder::new().prefix("rexec-b-").tempdir()?,
        })
    }

    /// Where viewers find it.
    pub fn origin(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// What agents dial.
    pub fn tunnel_addr(&self) -> String {
        format!("{}:{}", self.host, self.tunnel_port)
    }

    /// Key, certificate and what else it keeps.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Everything it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts it, on the same ports and data as ever, and waits until it takes tunnels and viewers.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn run(&mut self) -> Result<()> {
        self.begin()?;
        let api = Api::new(&self.origin());
        let process = self.process.as_mut().context("not running")?;
        wait::until("a ready broker", READY_DEADLINE, || {
            if let Some(status) = process.ended() {
                return Some(Err(anyhow::anyhow!("the broker ended with {status}:\n{}", process.log())));
            }
            api.get("/readyz").is_ok_and(|answer| answer.status == 200).then_some(Ok(()))
        })?
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin(&mut self) -> Result<()> {
        let process =
            Process::start(&format!("rexec-broker {}", self.name), self.command()?, &self.log_path())?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until its link to control stands.
    ///
    /// # Errors
    /// When that does not come.
    pub fn wait_linked(&self) -> Result<()> {
        let api = Api::new(&self.origin());
        wait::until(&format!("{} linked", self.name), READY_DEADLINE, || {
            (api.get("/readyz").ok()?.body["checks"]["control"] == "ok").then_some(())
        })
    }

    /// Kills it without a word.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the broker is not running")?.kill_9()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.process.as_ref().context("the broker is not running")?.pid(), signal)
    }

    /// Whether it was started and neither killed nor waited for.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        let process = self.process.as_mut().context("the broker is not running")?;
        let ended = wait::until(&format!("end of {}", self.name), END_DEADLINE, || process.ended());
        self.process = None;
        ended
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it ends in disorder, or not at all.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait_end()?;
        if status.success() { Ok(()) } else { bail!("the broker ended with {status}:\n{}", self.log()) }
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(Program::Broker.path()?);
        command
            .env("PORT", self.port.to_string())
            .env("REXEC_BIND", self.host.to_string())
            .env("REXEC_CONTROL_URL", &self.control)
            .env("REXEC_BROKER_CREDENTIAL_FILE", &self.credential)
            .env("REXEC_PUBLIC_URL", self.origin())
            .env("REXEC_TUNNEL_ADDR", self.tunnel_addr())
            .env_remove("REXEC_TUNNEL_PUBLIC")
            .env("REXEC_DATA_DIR", self.data_dir())
            .env("REXEC_LOG", &self.log)
            .env("REXEC_LOG_FORMAT", "text");
        Ok(command)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("broker.log")
    }
}
