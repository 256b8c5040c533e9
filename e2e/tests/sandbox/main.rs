//! Sandboxes on a real Docker engine, typed into through the broker like any other machine.
//!
//! | module | promises |
//! |---|---|
//! | [`life`] | made, typed into, stopped, started, deleted; what lies in its home stays |
//! | [`isolation`] | what a sandbox is not, cannot do and cannot reach |
//! | [`packaged`] | the installation as an image makes them, too |
//! | [`preset`] | set up once, seen as it goes |
//! | [`restricted`] | a network that is a list |
//! | [`snapshots`] | root and home of a moment, and new ones made of them |
//! | [`crash`] | control killed at any step: reality is right again soon after |

mod crash;
mod isolation;
mod life;
mod packaged;
mod preset;
mod restricted;
mod snapshots;

use std::time::Duration;

use anyhow::Result;
use rexec_e2e::ViewerClient;
use rexec_e2e::sandbox::Ground;
use rexec_e2e::viewer::terminal;
use uuid::Uuid;

/// An answer in a shell, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A shell in a sandbox.
async fn shell_in(ground: &Ground, id: Uuid) -> Result<ViewerClient> {
    ViewerClient::open(ground.owner(), id, terminal(None)).await
}

/// Types a line and returns what was printed between two marks that the line itself does not hold.
async fn run(viewer: &mut ViewerClient, line: &str) -> Result<String> {
    viewer.take_output();
    viewer.type_bytes(format!("echo be''gin; {line}; echo e''nd-$?-\n").as_bytes())?;
    viewer.wait_for("\nend-", SOON).await?;
    let output = String::from_utf8_lossy(viewer.output()).replace('\r', "");
    let between = output.split("begin\n").nth(1).unwrap_or_default();
    Ok(between.split("end-").next().unwrap_or_default().trim_end().to_owned())
}
