//! The agent's binary is replaced as `docs/OPERATIONS.md` says: another file at its place, then the uplink is ended.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{Promise, Scene};
use crate::process::signal;
use crate::traffic::Traffic;
use crate::wait;

const SOON: Duration = Duration::from_secs(10);

impl Scene<'_> {
    pub(super) async fn upgrade(&mut self, traffic: &mut Traffic) -> Result<Duration> {
        let path = self.machine.program().context("no binary of its own")?;
        let old = self.machine.uplink_pid()?;
        replace(path)?;
        signal(old, Signal::SIGTERM)?;
        traffic.type_some()?;
        let back = traffic.until_back().await?;
        let new =
            wait::until("another uplink", SOON, || self.machine.uplink_pid().ok().filter(|pid| *pid != old))?;
        let runs = |pid: u32| is_running(pid, path);
        let (uplink, host) = (runs(new)?, runs(self.machine.host_pid()?)?);
        let word = |is_new| if is_new { "new" } else { "old" };
        self.also.push(Promise::of("file the uplink runs", "new", word(uplink), uplink));
        self.also.push(Promise::of("file the session host runs", "old", word(host), !host));
        Ok(back)
    }
}

/// Puts another file at the place of this one, in one step: the same program, and some bytes that no loader reads.
fn replace(path: &Path) -> Result<()> {
    let staged = path.with_extension("new");
    std::fs::copy(path, &staged)?;
    let mut bytes = std::fs::read(&staged)?;
    bytes.extend(b"another build");
    std::fs::write(&staged, bytes)?;
    Ok(std::fs::rename(staged, path)?)
}

/// Whether a process runs the very file that lies there now.
fn is_running(pid: u32, path: &Path) -> Result<bool> {
    let (runs, lies) = (std::fs::metadata(format!("/proc/{pid}/exe"))?, path.metadata()?);
    Ok((runs.dev(), runs.ino()) == (lies.dev(), lies.ino()))
}
