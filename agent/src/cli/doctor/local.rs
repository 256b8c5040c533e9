//! What lies on this machine: the registration, the directories, the agent that runs.

use std::os::unix::net::UnixStream;
use std::path::Path;

use rexec_shared::tunnel::{HostStatus, UplinkStatus};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::DEADLINE;
use super::report::Check;
use crate::cli::register::profile_option;
use crate::cli::status::ago;
use crate::cli::{Profile, host_link};
use crate::clock::unix_ms;
use crate::plain_text::plain;
use crate::state::{Directory, Registration, StateError};

/// Less room than this is not enough for a new certificate and a line in the log, bytes.
const ROOM_LEAST: u64 = 1024 * 1024;
/// Less than this does not hold the agent's two logs, bytes.
const ROOM_LOW: u64 = 16 * 1024 * 1024;

/// Who this machine is; none when it is nobody yet.
pub(super) fn registration(profile: &Profile) -> (Option<Registration>, Check) {
    const NAME: &str = "registration";
    match profile.registration() {
        Ok(Some(known)) => {
            let (name, server) = (plain(&known.name), &known.server);
            let found =
                format!("profile {}: \"{name}\", machine {}, with {server}", profile.name(), known.machine);
            let check = Check::ok(NAME, found)
                .fact("name", known.name.as_str())
                .fact("machine", known.machine.to_string())
                .fact("server", known.server.as_str());
            (Some(known), check)
        }
        Ok(None) => {
            let found = format!("profile \"{}\" of this user is not registered", profile.name());
            let hint = format!("run `rexec-agent{} register --name NAME`", profile_option(profile));
            (None, Check::failed(NAME, found).hint(hint))
        }
        Err(error) => (None, Check::failed(NAME, error.to_string())),
    }
}

/// The directories of keys, sockets and log; none where there are none yet.
pub(super) fn directories(profile: &Profile) -> Option<Check> {
    match profile.directories().and_then(|found| profile.link_socket().map(|_| found)) {
        // Told of the one that is worst off.
        Ok(found) => found.into_iter().map(directory).max_by_key(|check| check.verdict),
        Err(error) => Some(refused(&error)),
    }
}

const STATE: &str = "state";

fn refused(error: &StateError) -> Check {
    Check::failed(STATE, error.to_string())
}

fn directory((path, dir): (&Path, Directory)) -> Check {
    let room = dir.free_bytes / (1024 * 1024);
    let found = format!("{}: mode {:04o}, {room} MiB free", path.display(), dir.mode);
    let check = if dir.free_bytes < ROOM_LEAST {
        Check::failed(STATE, found)
            .hint("make room: nothing can be kept there, a renewed certificate included")
    } else if dir.is_open() {
        Check::warning(STATE, found).hint(format!("run `chmod 700 {}`: others can look in", path.display()))
    } else if dir.free_bytes < ROOM_LOW {
        Check::warning(STATE, found).hint("make room: the agent's log takes 8 MiB")
    } else {
        Check::ok(STATE, found)
    };
    check
        .fact("path", path.to_string_lossy().into_owned())
        .fact("mode", format!("{:04o}", dir.mode))
        .fact("free_bytes", dir.free_bytes)
}

const AGENT: &str = "agent";

/// The agent that runs: its sockets, and how its tunnel fares.
pub(super) async fn agent(profile: &Profile) -> Check {
    let asked = profile.clone();
    let asking = timeout(DEADLINE, spawn_blocking(move || ask(&asked)));
    match asking.await {
        Ok(Ok(Ok(Some(status)))) => running(&status, profile),
        Ok(Ok(Ok(None))) => Check::warning(AGENT, "it does not run")
            .hint(format!("run `rexec-agent{} start --daemon`", profile_option(profile))),
        Ok(Ok(Err(found))) => silent(found, profile),
        Ok(Err(_)) | Err(_) => silent("it runs, but does not answer".into(), profile),
    }
}

/// `None` when there is no agent, an error when it runs and is out of reach.
fn ask(profile: &Profile) -> Result<Option<HostStatus>, String> {
    if !profile.is_running().map_err(|error| error.to_string())? {
        return Ok(None);
    }
    let status = host_link::query(profile).ok().flatten();
    let status = status.ok_or("it runs, but does not answer at link.sock")?;
    let viewers = profile.viewer_socket().map_err(|error| error.to_string())?;
    UnixStream::connect(viewers)
        .map_err(|error| format!("viewers cannot reach it at viewer.sock: {error}"))?;
    Ok(Some(status))
}

fn silent(found: String, profile: &Profile) -> Check {
    let log = profile.log_path();
    Check::failed(AGENT, found).hint(format!("see its log ({}), then restart it", log.display()))
}

fn running(status: &HostStatus, profile: &Profile) -> Check {
    let Some(uplink) = &status.uplink else {
        return silent("it runs, and its uplink has said nothing yet".into(), profile);
    };
    let since = ago(unix_ms().saturating_sub(uplink.since) / 1000);
    let check = if uplink.state == "online" {
        let found = format!("online for {since}{}", way(uplink));
        let ours = env!("CARGO_PKG_VERSION");
        if status.version == ours {
            Check::ok(AGENT, found)
        } else {
            Check::warning(AGENT, format!("{found}; it is of version {}, this is {ours}", status.version))
                .hint("restart it for the new one; that ends its sessions")
        }
    } else {
        Check::failed(AGENT, format!("{} for {since}: {}", uplink.state, uplink.detail))
    };
    check
        .fact("state", uplink.state.as_str())
        .fact("tunnel", uplink.tunnel)
        .fact("transport", uplink.transport.as_deref())
        .fact("transport_reason", uplink.why.as_deref())
}

fn way(uplink: &UplinkStatus) -> String {
    let transport = uplink.transport.as_deref().map_or_else(String::new, |name| format!(" over {name}"));
    let why = uplink.why.as_deref().map_or_else(String::new, |why| format!(" ({why})"));
    let rtt = uplink.rtt_ms.map_or_else(String::new, |rtt| format!(", round trip {rtt:.1} ms"));
    format!("{transport}{why}{rtt}")
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn a_directory_without_room_or_open_to_others_is_told() {
        let path = Path::new("/home/ada/.local/state/rexec-agent/default");
        let verdict = |mode, free_bytes| directory((path, Directory { mode, free_bytes })).verdict;
        assert_eq!(verdict(0o700, ROOM_LOW), Verdict::Ok);
        assert_eq!(verdict(0o700, ROOM_LOW - 1), Verdict::Warning);
        assert_eq!(verdict(0o750, u64::MAX), Verdict::Warning);
        assert_eq!(verdict(0o700, ROOM_LEAST - 1), Verdict::Failed);
        assert_eq!(verdict(0o755, 0), Verdict::Failed, "the worse of two");
    }
}
