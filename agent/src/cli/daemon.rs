//! `start --daemon`: an agent that outlives the terminal, and a command that returns when it is online.
//!
//! Two re-executions stand for the classic double fork, without forking a process that has threads: `host --detach` leaves the terminal's
//! session and starts `host`, which is no session leader and so can never gain a terminal. The host's standard output is a pipe to us
//! that it never writes to: its end means that the host died.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rexec_shared::tunnel::{HostStatus, UplinkStatus};

use super::say::say;
use super::{Complaint, EXIT_NOT_ONLINE, Profile, host_link};
use crate::plain_text::plain;

/// How long to wait for the tunnel before saying why there is none yet.
const ONLINE_DEADLINE: Duration = Duration::from_secs(10);
/// Between looks.
const LOOK: Duration = Duration::from_millis(50);
/// How much of the log's end explains a start that failed, bytes.
const LOG_TAIL: u64 = 4096;

/// `start --daemon`
pub(super) fn start(profile: &Profile) -> Result<ExitCode, Complaint> {
    if profile.registration()?.is_none() {
        return Err(Complaint::not_registered());
    }
    // What would stop the host is said here, where somebody reads it.
    profile.key()?;
    profile.link_socket()?;
    if profile.is_running()? {
        return report_running(profile);
    }
    let log = profile.open_log()?;
    let log_start = log.metadata().map_or(0, |meta| meta.len());
    let has_died = spawn(profile, log)?;
    let deadline = Instant::now() + ONLINE_DEADLINE;
    loop {
        let status = host_link::query(profile)?;
        let uplink = status.as_ref().and_then(|status| status.uplink.as_ref());
        if let Some(ready) = uplink.filter(|uplink| uplink.state == "online") {
            say_online(status.as_ref(), ready);
            return Ok(ExitCode::SUCCESS);
        }
        if has_died.load(Ordering::Acquire) {
            return Err(died(&profile.log_path(), log_start));
        }
        if Instant::now() >= deadline || uplink.is_some_and(|uplink| uplink.state == "stopped") {
            return Err(not_online(uplink, profile));
        }
        std::thread::sleep(LOOK);
    }
}

/// `host --detach`
pub(super) fn detach(profile: &Profile) -> Result<ExitCode, Complaint> {
    rustix::process::setsid()
        .map_err(|error| Complaint::new(format!("cannot leave the terminal: {error}")))?;
    itself(profile, &["host"])
        .spawn()
        .map_err(|error| Complaint::new(format!("cannot start the agent: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn itself(profile: &Profile, arguments: &[&str]) -> Command {
    let binary = std::env::current_exe().unwrap_or_else(|_| Path::new("/proc/self/exe").into());
    let mut command = Command::new(binary);
    command.args(["--profile", profile.name()]).args(arguments);
    command
}

/// Starts the detached host; the flag is set when it has died.
fn spawn(profile: &Profile, log: File) -> Result<Arc<AtomicBool>, Complaint> {
    let failed = |error: std::io::Error| Complaint::new(format!("cannot start the agent: {error}"));
    let mut first = itself(profile, &["host", "--detach"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // A directory that nobody wants to unmount.
        .current_dir("/")
        .spawn()
        .map_err(failed)?;
    let lifeline = first.stdout.take();
    let status = first.wait().map_err(failed)?;
    let has_died = Arc::new(AtomicBool::new(!status.success()));
    let flag = Arc::clone(&has_died);
    std::thread::spawn(move || {
        if let Some(mut lifeline) = lifeline {
            let _ = lifeline.read(&mut [0; 1]);
        }
        flag.store(true, Ordering::Release);
    });
    Ok(has_died)
}

fn report_running(profile: &Profile) -> Result<ExitCode, Complaint> {
    let status = host_link::query(profile)?;
    let uplink = status.as_ref().and_then(|status| status.uplink.as_ref());
    match uplink {
        Some(uplink) if uplink.state == "online" => {
            say("The agent runs already, and is online.");
            Ok(ExitCode::SUCCESS)
        }
        Some(_) | None => Err(not_online(uplink, profile)),
    }
}

fn say_online(status: Option<&HostStatus>, uplink: &UplinkStatus) {
    let pid = status.map_or(0, |status| status.pid);
    let broker =
        uplink.broker.as_deref().map_or_else(String::new, |broker| format!(" through {}", plain(broker)));
    say(&format!("Online{broker}; the agent runs in the background (pid {pid})."));
    if !uplink.detail.is_empty() {
        say(&format!("Note: {}", plain(&uplink.detail)));
    }
}

fn not_online(uplink: Option<&UplinkStatus>, profile: &Profile) -> Complaint {
    let is_final = uplink.is_some_and(|uplink| uplink.state == "stopped");
    let why = uplink.map(|uplink| plain(&uplink.detail)).filter(|detail| !detail.is_empty());
    let why = why.unwrap_or_else(|| "it has not said why yet".into());
    let goes_on = if is_final { "it will not try again" } else { "it goes on trying" };
    Complaint::new(format!("the agent runs but is not online, and {goes_on}: {why}"))
        .hint(format!("`rexec-agent status` says how it fares; its log is {}", profile.log_path().display()))
        .exit(EXIT_NOT_ONLINE)
}

fn died(log: &Path, from: u64) -> Complaint {
    let complaint = Complaint::new("the agent ended as soon as it had started");
    match tail(log, from) {
        Some(words) => complaint.hint(format!("it said: {words}")),
        None => complaint.hint(format!("its log is {}", log.display())),
    }
}

/// The last line written to the log since `from`.
fn tail(log: &Path, from: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let end = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(LOG_TAIL)))).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find(|line| line.contains("error:")).or_else(|| text.lines().last()).map(plain)
}
