//! The stable parent: runs the session host in this process and keeps an uplink as its child.
//!
//! The uplink may crash, be killed or be replaced by a newer binary; the shells live here and do not notice. Its standard input is a pipe
//! that we hold, so it cannot outlive us; its own process group keeps a terminal's Ctrl-C to us, who then end it in order.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rexec_shared::backoff::Backoff;
use rexec_shared::ticket::PublicKey;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::host::{self, HostConfig, HostError};
use crate::state::{Profile, StateError};
use crate::uplink::GOODBYE;

/// First ceiling of the pause before another uplink is spawned; the first after a good run comes at once.
const RESPAWN_BASE: Duration = Duration::from_millis(250);
/// Longest pause.
const RESPAWN_CAP: Duration = Duration::from_secs(30);
/// A run this long was a good one.
const RESPAWN_STABLE: Duration = Duration::from_secs(5);
/// Runs in a row that were not, after which the file at our place is suspected to be no good, and our own binary takes turns with it.
const BAD_RUNS: u32 = 2;
/// Size at which a detached agent's log is set aside, bytes; one older log is kept.
const LOG_MAX: u64 = 4 * 1024 * 1024;
/// How often its size is looked at.
const LOG_LOOK: Duration = Duration::from_secs(10);

/// Why no agent runs.
#[derive(Debug, Error)]
pub enum SupervisorError {
    /// Another process has the profile.
    #[error("it runs already")]
    AlreadyRunning,
    /// Nothing to run.
    #[error("this machine is not registered")]
    NotRegistered,
    /// What is on disk.
    #[error(transparent)]
    State(#[from] StateError),
    /// The pinned ticket key.
    #[error("the registration's ticket key cannot be read")]
    TicketKey,
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signals(#[source] std::io::Error),
    /// The session host.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The terminal, or whatever a service manager gave us.
    Inherited,
    /// The profile's log file, whose size we keep bounded.
    LogFile,
}

/// Runs an agent until it is stopped, by a signal or over the link.
pub async fn run(profile: Profile, output: Output) -> Result<(), SupervisorError> {
    profile.try_lock()?.ok_or(SupervisorError::AlreadyRunning)?.hold_until_exit();
    let config = host_config(&profile)?;
    let stop_host = stop_on_signals()?;
    let stop_uplink = CancellationToken::new();
    let uplink = tokio::spawn(keep_uplink(UplinkProgram::of(&profile), stop_uplink.clone()));
    let log = (output == Output::LogFile).then(|| tokio::spawn(keep_log_short(profile.log_path())));
    tracing::info!(pid = std::process::id(), profile = profile.name(), "agent started");
    let ended = host::run(config, stop_host).await;
    // The host goes first, so that its last words still find a way out.
    stop_uplink.cancel();
    let _ = uplink.await;
    if let Some(log) = log {
        log.abort();
    }
    tracing::info!("agent ended");
    Ok(ended?)
}

fn host_config(profile: &Profile) -> Result<HostConfig, SupervisorError> {
    let registration = profile.registration()?.ok_or(SupervisorError::NotRegistered)?;
    let ticket_key =
        PublicKey::parse(&registration.tunnel.ticket_key).map_err(|_| SupervisorError::TicketKey)?;
    Ok(HostConfig {
        viewer_socket: profile.viewer_socket()?,
        link_socket: profile.link_socket()?,
        machine: registration.machine,
        org: registration.org,
        ticket_key,
        version: env!("CARGO_PKG_VERSION").into(),
        files_root: "/".into(),
    })
}

/// A token that SIGTERM, SIGINT and SIGHUP cancel.
pub fn stop_on_signals() -> Result<CancellationToken, SupervisorError> {
    let token = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let mut stream = signal(kind).map_err(SupervisorError::Signals)?;
        let token = token.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                token.cancel();
            }
        });
    }
    Ok(token)
}

/// How an uplink is started.
#[derive(Debug, Clone)]
pub struct UplinkProgram {
    /// Where our binary was when we started; a newer one may have taken its place since, and is welcome.
    binary: Option<PathBuf>,
    profile: String,
}

impl UplinkProgram {
    fn of(profile: &Profile) -> Self {
        Self { binary: std::env::current_exe().ok(), profile: profile.name().into() }
    }

    /// Starts the file at our place, or the binary that runs us: when that place is empty, when what is there cannot be started, or when `choice` says so.
    fn spawn(&self, choice: Choice) -> std::io::Result<Child> {
        let ours = Path::new("/proc/self/exe");
        let placed = self.binary.as_deref().filter(|path| choice == Choice::Placed && path.exists());
        let Some(placed) = placed else { return self.start(ours) };
        self.start(placed).or_else(|error| {
            tracing::warn!(%error, path = %placed.display(), "this cannot be started; the uplink stays the old one");
            self.start(ours)
        })
    }

    fn start(&self, binary: &Path) -> std::io::Result<Child> {
        Command::new(binary)
            .args(["--profile", &self.profile, "uplink"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Which binary the next uplink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// What lies at our place now.
    Placed,
    /// What runs us.
    Own,
}

/// Decides how long to wait before the next uplink, and which binary it is.
#[derive(Debug)]
struct Respawn {
    backoff: Backoff,
    is_first: bool,
    /// Runs in a row that ended soon.
    bad: u32,
}

impl Respawn {
    fn new() -> Self {
        Self { backoff: Backoff::new(RESPAWN_BASE, RESPAWN_CAP, RESPAWN_STABLE), is_first: true, bad: 0 }
    }

    fn pause(&mut self, started: Instant, ended: Instant, random: u32) -> Duration {
        self.bad = if ended.saturating_duration_since(started) < RESPAWN_STABLE {
            self.bad.saturating_add(1)
        } else {
            0
        };
        self.backoff.succeeded(started);
        let pause = self.backoff.failed(ended, random);
        if std::mem::take(&mut self.is_first) { Duration::ZERO } else { pause }
    }

    /// An upgrade that does not run must not make a machine unreachable.
    fn choice(&self) -> Choice {
        if self.bad >= BAD_RUNS && self.bad.is_multiple_of(2) { Choice::Own } else { Choice::Placed }
    }
}

async fn keep_uplink(program: UplinkProgram, stop: CancellationToken) {
    let mut respawn = Respawn::new();
    while !stop.is_cancelled() {
        let started = Instant::now();
        match program.spawn(respawn.choice()) {
            Ok(mut child) => {
                // Held open for as long as the child may live; `wait` would close it.
                let lifeline = child.stdin.take();
                tokio::select! {
                    status = child.wait() => {
                        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                        tracing::warn!(%status, "the uplink ended; starting another");
                    }
                    () = stop.cancelled() => return end(child).await,
                }
                drop(lifeline);
            }
            Err(error) => tracing::error!(%error, "the uplink cannot be started"),
        }
        let pause = respawn.pause(started, Instant::now(), rand::random());
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Asks first, so that the broker is told, and does not ask twice.
async fn end(mut child: Child) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(GOODBYE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Sets a log aside when it has grown. It is emptied in place: both processes append to it, and go on at its new end.
async fn keep_log_short(path: PathBuf) {
    let mut look = interval(LOG_LOOK);
    loop {
        look.tick().await;
        if path.metadata().is_ok_and(|meta| meta.len() > LOG_MAX)
            && let Err(error) = set_aside(&path)
        {
            tracing::warn!(%error, "the log cannot be set aside");
        }
    }
}

fn set_aside(path: &Path) -> std::io::Result<()> {
    let older = path.with_extension("log.1");
    let staged = path.with_extension("log.2");
    let moved = std::fs::copy(path, &staged).and_then(|_| std::fs::rename(&staged, older));
    if moved.is_err() {
        // A disk that is full needs no half of a log on it.
        let _ = std::fs::remove_file(&staged);
    }
    moved?;
    std::fs::OpenOptions::new().write(true).open(path)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_respawn_and_the_one_after_a_good_run_come_at_once() {
        let start = Instant::now();
        let mut respawn = Respawn::new();
        assert_eq!(respawn.pause(start, start, u32::MAX), Duration::ZERO);
        assert!(respawn.pause(start, start, u32::MAX) > Duration::ZERO);
        assert_eq!(respawn.pause(start, start + RESPAWN_STABLE, u32::MAX), Duration::ZERO);
    }

    #[test]
    fn an_uplink_that_cannot_start_is_not_hammered() {
        let start = Instant::now();
        let mut respawn = Respawn::new();
        let total: Duration = (0..20).map(|_| respawn.pause(start, start, u32::MAX)).sum();
        assert!(total > Duration::from_secs(120), "{total:?}");
    }

    #[test]
    fn a_new_binary_that_does_not_run_takes_turns_with_the_one_that_does() {
        let start = Instant::now();
        let mut respawn = Respawn::new();
        let mut choices = vec![respawn.choice()];
        for _ in 0..4 {
            respawn.pause(start, start, 0);
            choices.push(respawn.choice());
        }
        assert_eq!(choices, [Choice::Placed, Choice::Placed, Choice::Own, Choice::Placed, Choice::Own]);
        respawn.pause(start, start + RESPAWN_STABLE, 0);
        assert_eq!(respawn.choice(), Choice::Placed, "after a good run");
    }

    #[test]
    fn a_log_is_set_aside_while_its_writers_go_on() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.log");
        let mut writer = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        writer.write_all(b"old").unwrap();
        set_aside(&path).unwrap();
        writer.write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read(dir.path().join("agent.log.1")).unwrap(), b"old");
    }
}
