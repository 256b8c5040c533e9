//! A PTY and the process that leads it.
//!
//! [`spawn`] starts a session's leader in a session and process group of its own, with the PTY as controlling terminal, descriptors 0, 1 and
//! 2 and no others (THREATS LO-04), default signals, umask 022 and the environment of [`super::environment`]. [`Pty`] is the master: reads and
//! writes never block. [`Leader`] is the process: it is reaped, hung up, killed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rexec_shared::message::{SignalName, Size, Spec};
use rexec_shared::sandbox::PROXY_ENV;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use uuid::Uuid;

use super::account::{Account, is_executable};
use super::environment::{environment, proxied};
use super::sys;

/// One read from the PTY, bytes: the kernel hands out at most 4 KiB at a time.
const READ_SIZE: usize = 8 * 1024;

/// The master side of a session's PTY.
#[derive(Debug)]
pub(super) struct Pty {
    fd: AsyncFd<OwnedFd>,
}

/// What a batch of reads ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// There is more.
    Budget,
    /// Nothing more for now.
    Drained,
    /// Nobody has the other side open.
    HungUp,
}

impl Pty {
    /// Resolves when there may be something to read.
    pub(super) async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.fd.readable().await
    }

    /// Resolves when something may be written.
    pub(super) async fn writable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.fd.writable().await
    }

    /// Watches the descriptor anew. The runtime never forgets that a descriptor was hung up, and a terminal can be opened again.
    pub(super) fn rearm(&mut self) {
        let copy = rustix::io::fcntl_dupfd_cloexec(self.fd.get_ref(), 3);
        match copy.map_err(io::Error::from).and_then(sys::watch) {
            Ok(fd) => self.fd = fd,
            Err(error) => tracing::warn!(%error, "a PTY could not be watched anew"),
        }
    }

    /// Reads what there is, at most about `budget` bytes, and appends it to `out`.
    pub(super) fn read_batch(&self, out: &mut Vec<u8>, budget: usize) -> ReadEnd {
        let begin = out.len();
        while out.len() - begin < budget {
            out.reserve(READ_SIZE);
            match rustix::io::read(self.fd.get_ref(), spare_capacity(out)) {
                Ok(0) | Err(Errno::IO) => return ReadEnd::HungUp,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return ReadEnd::Drained,
            }
        }
        ReadEnd::Budget
    }

    /// Writes as much as the PTY takes now; 0 when it takes nothing.
    pub(super) fn try_write(&self, bytes: &[u8]) -> usize {
        rustix::io::write(self.fd.get_ref(), bytes).unwrap_or(0)
    }

    /// Sets the size; the kernel tells the foreground group with SIGWINCH.
    pub(super) fn resize(&self, size: Size) {
        let winsize =
            rustix::termios::Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        if let Err(error) = rustix::termios::tcsetwinsize(self.fd.get_ref(), winsize) {
            tracing::debug!(%error, "the PTY took no size");
        }
    }

    /// Signals the foreground process group.
    pub(super) fn signal_foreground(&self, name: SignalName) {
        if let Ok(group) = rustix::termios::tcgetpgrp(self.fd.get_ref()) {
            let _ = killpg(Pid::from_raw(group.as_raw_nonzero().get()), signal_of(name));
        }
    }
}

fn signal_of(name: SignalName) -> Signal {
    match name {
        SignalName::Int => Signal::SIGINT,
        SignalName::Term => Signal::SIGTERM,
        SignalName::Hup => Signal::SIGHUP,
        SignalName::Kill => Signal::SIGKILL,
        SignalName::Quit => Signal::SIGQUIT,
        SignalName::Usr1 => Signal::SIGUSR1,
        SignalName::Usr2 => Signal::SIGUSR2,
    }
}

/// The process a session began with. Dropped unreaped, it and its group are killed and waited for.
#[derive(Debug)]
pub(super) struct Leader {
    /// `None` once reaped.
    child: Option<Child>,
    pid: Pid,
}

/// How a leader ended: exit code or signal number, one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaderExit {
    /// Exit code.
    pub(super) code: Option<i32>,
    /// Signal that killed it.
    pub(super) signal: Option<i32>,
}

impl Leader {
    /// No process at all: for tests of what needs none.
    #[cfg(test)]
    pub(super) fn nobody() -> Self {
        Self { child: None, pid: Pid::from_raw(i32::MAX) }
    }

    /// Its process id, which is also the id of its process group and of its session.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Reaps it if it has ended.
    pub(super) fn try_reap(&mut self) -> Option<LeaderExit> {
        let status = match self.child.as_mut()?.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => LeaderExit { code: status.code(), signal: status.signal() },
            Err(error) => {
                tracing::warn!(%error, pid = self.pid(), "the leader cannot be waited for");
                LeaderExit { code: None, signal: None }
            }
        };
        self.child = None;
        Some(status)
    }

    /// Hangs up its process group and the foreground one: shells pass it on to their jobs.
    pub(super) fn hang_up(&self, pty: &Pty) {
        pty.signal_foreground(SignalName::Hup);
        let _ = killpg(self.pid, Signal::SIGHUP);
        let _ = killpg(self.pid, Signal::SIGCONT);
    }

    /// Kills every process of its session, in whatever group.
    pub(super) fn kill_session(&self) {
        let _ = killpg(self.pid, Signal::SIGKILL);
        for pid in processes_of_session(self.pid.as_raw()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.kill_session();
        // Only a session that ended abnormally comes here; a thread of its own keeps the zombie from outliving it.
        std::thread::spawn(move || child.wait());
    }
}

/// Processes whose session id is `session`, read from `/proc`.
fn processes_of_session(session: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| session_of(*pid) == Some(session))
        .collect()
}

fn session_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; after it come state, parent, group, session.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// Opens a PTY and starts the leader of `session` in it.
pub(super) fn spawn(session: Uuid, spec: &Spec, size: Size) -> anyhow::Result<(Pty, Leader)> {
    sys::reset_ignored_signals();
    let account = Account::of_this_process();
    let host_lang = std::env::var("LANG").ok();
    let mut env = environment(&account, session, &spec.env, host_lang.as_deref());
    if let Ok(proxy) = std::env::var(PROXY_ENV) {
        env.extend(proxied(&proxy));
    }
    let command = command(spec, &account, &env)?;
    let pair = native_pty_system()
        .openpty(PtySize { rows: size.rows, cols: size.cols, pixel_width: 0, pixel_height: 0 })
        .context("opening a PTY")?;
    let raw = pair.master.as_raw_fd().context("the PTY has no descriptor")?;
    let fd = sys::duplicate_nonblocking(raw).context("duplicating the PTY's descriptor")?;
    let child = pair.slave.spawn_command(command).context("starting the shell")?;
    // The trait object without `Send` is the one that can be taken back to what it is.
    let child: Box<dyn portable_pty::Child> = child;
    let child =
        child.downcast::<Child>().map_err(|_| anyhow::anyhow!("the PTY library started no process"))?;
    let pid = Pid::from_raw(i32::try_from(child.id()).context("the shell's process id")?);
    let leader = Leader { child: Some(*child), pid };
    let pty = Pty { fd: sys::watch(fd).context("watching the PTY")? };
    Ok((pty, leader))
}

fn command(spec: &Spec, account: &Account, env: &BTreeMap<String, String>) -> anyhow::Result<CommandBuilder> {
    let mut command = match &spec.command {
        None => CommandBuilder::new_default_prog(),
        Some(argv) => {
            let Some(program) = argv.first() else { bail!("the command is empty") };
            if resolve(program, env.get("PATH").map_or("", String::as_str)).is_none() {
                bail!("{program:?} is not an executable file on this machine");
            }
            CommandBuilder::from_argv(argv.iter().map(Into::into).collect())
        }
    };
    command.env_clear();
    for (name, value) in env {
        command.env(name, value);
    }
    command.cwd(directory(spec.cwd.as_deref(), &account.home));
    command.umask(Some(0o022));
    Ok(command)
}

fn directory(asked: Option<&str>, home: &Path) -> PathBuf {
    let asked = asked.map(PathBuf::from).filter(|path| path.is_absolute());
    asked
        .into_iter()
        .chain([home.to_owned()])
        .find(|path| path.is_dir())
        .unwrap_or_else(|| PathBuf::from("/"))
}

fn resolve(program: &str, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|file| is_executable(file));
    }
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_directory_that_is_not_there_is_the_home_directory() {
        assert_eq!(directory(Some("/nowhere"), Path::new("/tmp")), Path::new("/tmp"));
        assert_eq!(directory(Some("tmp"), Path::new("/nowhere")), Path::new("/"));
        assert_eq!(directory(Some("/"), Path::new("/tmp")), Path::new("/"));
    }

    #[test]
    fn a_command_must_be_an_executable_file() {
        assert!(resolve("sh", "/nowhere:/bin").is_some());
        assert!(resolve("/etc/passwd", "").is_none());
        assert!(resolve("sh", "/nowhere").is_none());
    }

    #[test]
    fn this_process_is_found_in_its_session() {
        let me = i32::try_from(std::process::id()).unwrap();
        let session = session_of(me).unwrap();
        assert!(processes_of_session(session).contains(&me));
    }
}
