//! The commands that stay: the agent in the foreground, the detached host, the uplink.

use std::os::fd::AsFd;
use std::process::ExitCode;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::{Complaint, Output, Profile, supervisor};
use crate::uplink::{self, Settings};

/// Threads of each process: with one, a flood held its neighbour's echo at 7 ms, with two at 0.4 (docs/TRANSPORT.md).
const THREADS: usize = 2;

pub(super) fn runtime() -> Result<Runtime, Complaint> {
    Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(|error| Complaint::new(format!("cannot start: {error}")))
}

/// `start`
pub(super) fn foreground(profile: Profile) -> Result<ExitCode, Complaint> {
    runtime()?.block_on(supervisor::run(profile, Output::Inherited))?;
    Ok(ExitCode::SUCCESS)
}

/// `host`
pub(super) fn host(profile: Profile) -> Result<ExitCode, Complaint> {
    runtime()?.block_on(supervisor::run(profile, Output::LogFile))?;
    Ok(ExitCode::SUCCESS)
}

/// `uplink`
pub(super) fn uplink(profile: Profile) -> Result<ExitCode, Complaint> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let stop = supervisor::stop_on_signals()?;
        end_with_host(stop.clone())?;
        uplink::run(profile, Settings::from_environment(), stop)
            .await
            .map_err(|error| Complaint::new(error.to_string()))
    });
    // A request to control that is still under way must not hold the end up.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

/// Cancels when the host's end of our standard input closes, which the kernel does however the host ends.
fn end_with_host(stop: CancellationToken) -> Result<(), Complaint> {
    let by_hand =
        |_| Complaint::new("the uplink is started by the agent itself").hint("run `rexec-agent start`");
    let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(by_hand)?;
    let mut lifeline = pipe::Receiver::from_owned_fd(input).map_err(by_hand)?;
    tokio::spawn(async move {
        let mut sink = [0; 16];
        while matches!(lifeline.read(&mut sink).await, Ok(n) if n > 0) {}
        tracing::info!("the session host is gone");
        stop.cancel();
    });
    Ok(())
}
