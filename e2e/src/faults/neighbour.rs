//! What others do, each in a task of its own.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::Rng;
use uuid::Uuid;

use super::Promise;
use crate::counter::sha256;
use crate::process::kill_9;
use crate::viewer::{ViewerClient, terminal};
use crate::{Api, Machine, wait};

/// Something that takes its time, and what its victim was promised.
pub(super) type Harm = Pin<Box<dyn Future<Output = Result<Vec<Promise>>> + Send>>;

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(5);
/// How long one lasts before its agent dies.
const BEFORE_DEATH: Duration = Duration::from_secs(2);
/// How soon a dead machine is known to be dead: its uplink sees its host end and says goodbye.
const OFFLINE: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(60);
/// More than a megabyte per second of a person's patience.
const PASTE: usize = 8_000_000;

async fn flood(api: &Api, machine: Uuid) -> Result<ViewerClient> {
    let yes = ["/usr/bin/yes", "the quick brown fox jumps over the lazy dog"].map(str::to_owned);
    ViewerClient::open(api, machine, terminal(Some(yes.into()))).await
}

/// Reads as fast as it can, and counts.
async fn read_for(viewer: &mut ViewerClient, time: Duration) -> usize {
    let (began, mut bytes) = (Instant::now(), 0);
    while let Some(left) = time.checked_sub(began.elapsed()) {
        if !matches!(tokio::time::timeout(left, viewer.next()).await, Ok(Ok(_))) {
            break;
        }
        bytes += viewer.take_output().len();
    }
    bytes
}

/// Megabytes a second.
pub(super) fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

/// A session floods its viewer.
pub(super) async fn floods(api: Api, machine: Uuid) -> Result<Vec<Promise>> {
    let mut viewer = flood(&api, machine).await?;
    let bytes = read_for(&mut viewer, FLOOD).await;
    let rate = rate(bytes, FLOOD);
    Ok(vec![Promise::of("the flood", "> 1 MB/s", format!("{rate:.1} MB/s"), rate > 1.0)])
}

/// A session floods its viewer through a thin line, and is interrupted there.
pub(super) async fn floods_slowly(api: Api, machine: Machine) -> Result<Vec<Promise>> {
    let mut viewer = flood(&api, machine.id()).await?;
    let bytes = read_for(&mut viewer, FLOOD).await;
    let rate = rate(bytes, FLOOD);
    let kept = (0.05..0.13).contains(&rate);
    Ok(vec![Promise::of(
        "the flood on its line of 0.125 MB/s",
        "0.05–0.13 MB/s",
        format!("{rate:.3} MB/s"),
        kept,
    )])
}

/// Somebody pastes a lot into a session.
pub(super) async fn pastes(api: Api, machine: Uuid, dir: PathBuf) -> Result<Vec<Promise>> {
    let file = dir.join("pasted");
    let script = format!(
        "stty raw -echo opost onlcr; echo READY; head -c {PASTE} > '{}'; echo DONE; sleep 600",
        file.display()
    );
    let command = ["/bin/bash".into(), "-c".into(), script];
    let mut viewer = ViewerClient::open(&api, machine, terminal(Some(command.into()))).await?;
    viewer.wait_for("READY", SOON).await?;
    let mut paste = vec![0; PASTE];
    rand::rng().fill_bytes(&mut paste);
    let began = Instant::now();
    viewer.type_bytes(&paste)?;
    viewer.wait_for("DONE", SOON).await?;
    let rate = rate(PASTE, began.elapsed());
    let is_equal = sha256(&std::fs::read(&file)?) == sha256(&paste);
    let word = if is_equal { "equal" } else { "DIFFERS" };
    Ok(vec![Promise::of("the paste, hashed", "equal", format!("{word}, {rate:.1} MB/s"), is_equal)])
}

/// A machine's agent is killed, its session host first, while it floods a viewer.
pub(super) async fn dies(api: Api, machine: Machine) -> Result<Vec<Promise>> {
    let mut viewer = flood(&api, machine.id()).await?;
    let bytes = read_for(&mut viewer, BEFORE_DEATH).await;
    ensure!(bytes > 1_000_000, "no flood: {bytes} bytes");
    kill_9(machine.host_pid()?)?;
    let killed = Instant::now();
    let reading = tokio::spawn(async move {
        while viewer.next().await.is_ok() {
            viewer.take_output();
        }
    });
    let seen = || (machine.seen_by_control().ok()?["online"] == false).then(|| killed.elapsed());
    let gone = wait::until_async("the dead machine offline", SOON, seen).await?;
    reading.abort();
    Ok(vec![Promise::within("the dead machine is shown as offline", OFFLINE, gone)])
}
