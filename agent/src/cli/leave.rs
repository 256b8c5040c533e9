//! `stop` and `unregister`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rexec_shared::enrol::{UnregisterRequest, unregister_text};

use super::say::say;
use super::{Complaint, EXIT_NOT_RUNNING, Profile, host_link};
use crate::clock::unix_ms;
use crate::control_api::ControlApi;

/// How long sessions, uplink and host may take to end.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// Between looks.
const LOOK: Duration = Duration::from_millis(50);

/// `stop`
pub(super) fn stop(profile: &Profile) -> Result<ExitCode, Complaint> {
    if !profile.is_running()? {
        return Err(Complaint::new("the agent does not run").exit(EXIT_NOT_RUNNING));
    }
    let pid = host_link::query(profile)?.map(|status| status.pid);
    let asked = host_link::stop(profile)?;
    let deadline = Instant::now() + STOP_DEADLINE;
    while profile.is_running()? {
        if Instant::now() >= deadline {
            let what =
                asked.err().map_or_else(|| "it was asked to, and has not".into(), |error| error.to_string());
            let by_pid = pid
                .map_or_else(|| "find its process and end it".into(), |pid| format!("`kill {pid}` ends it"));
            return Err(Complaint::new(format!("the agent does not stop: {what}")).hint(by_pid));
        }
        std::thread::sleep(LOOK);
    }
    say("Stopped.");
    Ok(ExitCode::SUCCESS)
}

/// `unregister`
pub(super) fn unregister(profile: &Profile, is_local: bool) -> Result<ExitCode, Complaint> {
    if profile.is_running()? {
        return Err(
            Complaint::new("the agent runs, perhaps with sessions on it").hint("`rexec-agent stop` first")
        );
    }
    if is_local {
        profile.forget()?;
        say(
            "Key and registration are forgotten here. If the machine is still in the dashboard, remove it there.",
        );
        return Ok(ExitCode::SUCCESS);
    }
    let registration = profile.registration()?.ok_or_else(Complaint::not_registered)?;
    let time = unix_ms();
    let signature = profile
        .key()?
        .sign(&unregister_text(registration.machine, time))
        .map_err(|error| Complaint::new(error.to_string()))?;
    let request = UnregisterRequest { machine: registration.machine, time, signature };
    match ControlApi::new(registration.server).unregister(&request) {
        Ok(()) => {}
        // Gone already: what we wanted.
        Err(error) if matches!(error.code(), Some("machine_revoked" | "machine_unknown")) => {}
        Err(error) => {
            let is_refusal = error.code().is_some();
            let complaint = Complaint::from(error);
            return Err(if is_refusal {
                complaint
            } else {
                complaint.hint("try again later, or `rexec-agent unregister --local` and remove the machine in the dashboard")
            });
        }
    }
    profile.forget()?;
    say("This machine is no longer part of Rexec.");
    Ok(ExitCode::SUCCESS)
}
