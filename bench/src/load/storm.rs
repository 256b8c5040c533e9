//! The storm: the broker is killed without a word, and started again a second later.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rexec_e2e::Installation;
use rexec_e2e::fleet::{Fleet, Standing};
use rexec_tunnel::Transport;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::figures::{Figures, quantiles};
use super::usage::Server;

/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(1);
/// All are back within this.
const BAR: Duration = Duration::from_secs(15);
/// When to give up waiting.
const GIVE_UP: Duration = Duration::from_secs(120);
/// Between two looks at what control knows.
const LOOK: Duration = Duration::from_millis(100);

/// Raises it, and tells when everybody was back, counted from the moment the server was started again.
pub(crate) async fn run(
    installation: &mut Installation,
    mut fleets: Vec<Fleet>,
    figures: &mut Figures,
) -> Result<()> {
    let count: usize = fleets.iter().map(Fleet::len).sum();
    let killed = Instant::now();
    block_in_place(|| installation.kill_control())?;
    sleep(AWAY).await;
    let began = Instant::now();
    block_in_place(|| installation.start_control())?;
    let mut standing: Vec<Standing> = Vec::new();
    for fleet in &mut fleets {
        standing.extend(fleet.until_all(killed, GIVE_UP).await?);
    }
    let cpu = Server::new(installation.control_pid()?).usage()?.cpu;
    let back: Vec<Duration> = standing.iter().map(|tunnel| tunnel.since - began).collect();
    for (name, value) in quantiles(&back) {
        figures.at_most(format!("storm of {count}: back after, {name}"), value, "s", BAR.as_secs_f64());
    }
    let over_tcp = standing.iter().filter(|tunnel| tunnel.transport == Transport::Tcp).count();
    figures.add(format!("storm of {count}: came back over TCP"), over_tcp as f64, "");
    figures.add(format!("storm of {count}: processor time of the server"), cpu.as_secs_f64(), "s");
    let known = until_known(installation, count).await? - began;
    figures.add(format!("storm of {count}: all shown online after"), known.as_secs_f64(), "s");
    Ok(())
}

/// Waits until control knows of so many machines that they are online.
async fn until_known(installation: &Installation, count: usize) -> Result<Instant> {
    let began = Instant::now();
    loop {
        let online = block_in_place(|| installation.machines_online())?;
        if online >= count {
            return Ok(Instant::now());
        }
        ensure!(began.elapsed() < GIVE_UP, "control knows of {online} of {count}");
        sleep(LOOK).await;
    }
}
