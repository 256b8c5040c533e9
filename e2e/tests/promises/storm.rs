//! A broker that is killed under many agents finds all of them back, and not all at one moment.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rexec_e2e::Installation;
use rexec_e2e::fleet::{Fleet, Recruit, Way};
use rexec_e2e::wait::until_async;
use tokio::time::sleep;

/// Enough to crowd a gate that is too narrow; `make load` has 2,000.
const AGENTS: usize = 300;
const OVER_TCP: usize = 60;
/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(1);
/// All are back within this, counted from the moment it is started again.
const BAR: Duration = Duration::from_secs(15);
/// Agents on their way in at first.
const AT_ONCE: usize = 32;
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_agents_of_a_killed_broker_are_back_within_15_s_and_shown_online() -> Result<()> {
    let mut installation = Installation::start()?;
    let mut recruits = Recruit::enrol(&installation, AGENTS)?;
    let over_tcp = recruits.split_off(AGENTS - OVER_TCP);
    let mut fleets = [
        Fleet::start(recruits, Way::Raced, AT_ONCE, SOON).await?,
        Fleet::start(over_tcp, Way::Tcp, AT_ONCE, SOON).await?,
    ];
    until_online(&installation, AGENTS).await?;

    let killed = Instant::now();
    installation.kill_control()?;
    sleep(AWAY).await;
    let began = Instant::now();
    installation.start_control()?;
    let mut back = Vec::new();
    for fleet in &mut fleets {
        let standing = fleet.until_all(killed, BAR.saturating_sub(began.elapsed())).await?;
        back.extend(standing.into_iter().map(|tunnel| tunnel.since));
    }
    back.sort_unstable();
    let [.., last] = back.as_slice() else { unreachable!("there are agents") };
    let busiest = back.windows(AGENTS / 2).map(|half| half[half.len() - 1] - half[0]).min();
    ensure!(*last - began <= BAR, "the last of {AGENTS} was back after {:?}", *last - began);
    ensure!(busiest > Some(Duration::from_millis(100)), "half of them came within {busiest:?}");
    until_online(&installation, AGENTS).await
}

/// Waits until control shows so many machines online.
async fn until_online(installation: &Installation, count: usize) -> Result<()> {
    until_async("all of them shown online", SOON, || {
        (installation.machines_online().ok()? == count).then_some(())
    })
    .await
}
