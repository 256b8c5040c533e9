//! Kill it, cut it, move it: the shell lives, the viewer comes back by itself, and no byte is lost or doubled in either direction.
//!
//! Each test runs the same traffic through a different fault: numbers one way, hashed typing the other.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rexec_e2e::counter::{Counter, check_output, sha256};
use rexec_e2e::grounds::{Need, can_run};
use rexec_e2e::installation::Options;
use rexec_e2e::network::Namespace;
use rexec_e2e::process::{is_alive, kill_9};
use rexec_e2e::viewer::shell;
use rexec_e2e::{Installation, Machine, ViewerClient, wait};

const SOON: Duration = Duration::from_secs(20);
/// A person waits this long and no longer, once what was broken is whole again.
const BACK_MAX: Duration = Duration::from_secs(4);
const TYPED_BYTES: usize = 600_000;
const NETWORK: [Need; 3] = [Need::Namespaces, Need::Program("ip"), Need::Program("nft")];

/// Numbers and typing under way.
struct Traffic {
    counter: Counter,
    viewer: ViewerClient,
    typed: Vec<u8>,
    at: usize,
}

impl Traffic {
    async fn start(installation: &Installation, machine: &Machine) -> Result<Self> {
        let counter = Counter::new(installation.scratch(), TYPED_BYTES);
        let viewer = counter.start(installation.owner(), machine.id()).await?;
        let mut typed = vec![0; TYPED_BYTES];
        rand::rng().fill_bytes(&mut typed);
        let mut traffic = Self { counter, viewer, typed, at: 0 };
        traffic.type_third()?;
        traffic.viewer.wait_for("n50\r", SOON).await?;
        Ok(traffic)
    }

    /// Queues a third of the typing: more than fits into a window, so that some is always on its way.
    fn type_third(&mut self) -> Result<()> {
        let end = (self.at + TYPED_BYTES / 3).min(TYPED_BYTES);
        let part = self.typed.get(self.at..end).context("typed too much")?;
        self.viewer.type_bytes(part)?;
        self.at = end;
        Ok(())
    }

    /// Waits for a number printed after this moment; how long that took.
    async fn until_fresh(&mut self) -> Result<Duration> {
        let (began, before) = (Instant::now(), self.viewer.streams());
        let known = self.viewer.output().len();
        let back = |viewer: &ViewerClient| viewer.streams() > before && viewer.output().len() > known;
        self.viewer.until("a number after the fault", SOON, back).await?;
        Ok(began.elapsed())
    }

    /// Ends both directions and checks every byte of them.
    async fn finish(mut self) -> Result<ViewerClient> {
        while self.at < TYPED_BYTES {
            self.type_third()?;
        }
        self.viewer.until_typed(SOON).await?;
        self.counter.stop()?;
        self.viewer.wait_for("OVER", SOON).await?;
        let (count, hash) = check_output(self.viewer.output())?;
        ensure!(hash == Some(sha256(&self.typed)), "the typing differs");
        ensure!(count > 50 && self.viewer.gaps() == 0, "{count} numbers, {} gaps", self.viewer.gaps());
        Ok(self.viewer)
    }
}

#[tokio::test]
async fn a_broker_killed_and_started_again_costs_no_byte_and_the_viewer_is_back_within_seconds() -> Result<()>
{
    let mut installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let mut traffic = Traffic::start(&installation, &machine).await?;
    let shells = machine.shells()?;
    for _ in 0..2 {
        installation.kill_control()?;
        traffic.type_third()?;
        wait::until("a second without a broker", SOON, still_alive_after(&shells, Duration::from_secs(1)))?;
        installation.start_control()?;
        let back = traffic.until_fresh().await?;
        assert!(back < BACK_MAX, "back after {back:?}");
    }
    assert_eq!(machine.shells()?, shells);
    traffic.finish().await.map(drop)
}

#[tokio::test]
async fn an_uplink_killed_costs_no_byte_and_another_takes_over_within_seconds() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let mut traffic = Traffic::start(&installation, &machine).await?;
    let shells = machine.shells()?;
    let uplink = machine.uplink_pid()?;
    kill_9(uplink)?;
    traffic.type_third()?;
    let back = traffic.until_fresh().await?;
    assert!(back < BACK_MAX, "back after {back:?}");
    assert_ne!(machine.uplink_pid()?, uplink);
    assert_eq!(machine.shells()?, shells);
    traffic.finish().await.map(drop)
}

#[tokio::test]
async fn a_network_cut_for_5_s_costs_no_byte_and_the_viewer_goes_on_within_seconds() -> Result<()> {
    if !can_run(&NETWORK) {
        return Ok(());
    }
    let (network, installation) = in_a_network_of_its_own()?;
    let machine = Machine::start_in(&installation, "m", Some(network.name()))?;
    let mut traffic = Traffic::start(&installation, &machine).await?;
    network.cut()?;
    traffic.type_third()?;
    traffic.viewer.drive_for(Duration::from_secs(5)).await?;
    let known = traffic.viewer.output().len();
    network.mend()?;
    let mended = Instant::now();
    traffic.viewer.until("a number after the cut", SOON, |viewer| viewer.output().len() > known).await?;
    let back = mended.elapsed();
    assert!(back < BACK_MAX, "back after {back:?}");
    traffic.finish().await.map(drop)
}

#[tokio::test]
async fn a_machine_that_moves_to_another_network_keeps_its_session_and_goes_on_within_seconds() -> Result<()>
{
    if !can_run(&NETWORK) {
        return Ok(());
    }
    let (network, installation) = in_a_network_of_its_own()?;
    let machine = Machine::start_in(&installation, "m", Some(network.name()))?;
    let mut traffic = Traffic::start(&installation, &machine).await?;
    let known = traffic.viewer.output().len();
    network.move_away()?;
    let moved = Instant::now();
    traffic.type_third()?;
    traffic.viewer.until("numbers from there", SOON, |viewer| viewer.output().len() > known + 2_000).await?;
    assert!(moved.elapsed() < BACK_MAX + Duration::from_secs(4), "back after {:?}", moved.elapsed());
    traffic.finish().await.map(drop)
}

#[tokio::test]
async fn an_agent_that_is_stopped_ends_its_shells_and_viewers_are_told() -> Result<()> {
    let installation = Installation::start()?;
    let mut machine = Machine::start(&installation, "m")?;
    let mut viewer = ViewerClient::open(installation.owner(), machine.id(), shell()).await?;
    viewer.type_bytes(b"echo re''ady\n")?;
    viewer.wait_for("ready", SOON).await?;
    let shells = machine.shells()?;
    machine.stop_agent()?;
    assert!(shells.iter().all(|pid| !is_alive(*pid)), "a shell outlived its host");

    machine.start_agent()?;
    let told = async {
        while viewer.exit().is_none() && viewer.next().await.is_ok() {}
        viewer.exit().is_some() || viewer.refusal().is_some_and(|refusal| refusal.code == "session_not_found")
    };
    assert!(tokio::time::timeout(SOON, told).await?, "{:?}", viewer.refusal());
    Ok(())
}

/// An installation that answers on the host's end of a network's cable.
fn in_a_network_of_its_own() -> Result<(Namespace, Installation)> {
    let network = Namespace::new()?;
    let options = Options { host: IpAddr::V4(network.host()), ..Options::default() };
    let installation = Installation::start_with(options)?;
    Ok((network, installation))
}

/// True once the time has passed; the processes must be alive all the while.
fn still_alive_after(pids: &[u32], time: Duration) -> impl FnMut() -> Option<()> {
    let began = Instant::now();
    move || {
        assert!(pids.iter().all(|pid| is_alive(*pid)), "a shell died");
        (began.elapsed() > time).then_some(())
    }
}
