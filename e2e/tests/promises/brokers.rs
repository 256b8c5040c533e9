//! Brokers that stand alone: sessions go on while control is down, and move to another broker when theirs is gone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use rexec_e2e::installation::Options;
use rexec_e2e::process::{family, kill_9, signal};
use rexec_e2e::traffic::Traffic;
use rexec_e2e::viewer::shell;
use rexec_e2e::{Api, Broker, Installation, Machine, ViewerClient, wait};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);
/// How long control is away before anything else happens here; the fault matrix has it away for a minute.
const AWAY: Duration = Duration::from_secs(3);

/// One control that is no broker, and two brokers.
struct Ground {
    installation: Installation,
    a: Broker,
    b: Broker,
}

impl Ground {
    fn new() -> Result<Self> {
        let options = Options { embedded_broker: false, ..Options::default() };
        let installation = Installation::start_with(options)?;
        let (a, b) = (Broker::start(&installation, "a")?, Broker::start(&installation, "b")?);
        Ok(Self { installation, a, b })
    }

    /// The broker that the viewer is at, and the other one.
    fn of(&mut self, viewer: &ViewerClient) -> Result<(&mut Broker, &mut Broker)> {
        let at = viewer.broker().context("nowhere")?.to_string();
        let is_a = at.starts_with(&self.a.origin().replacen("http", "ws", 1));
        Ok(if is_a { (&mut self.a, &mut self.b) } else { (&mut self.b, &mut self.a) })
    }
}

fn is_at(viewer: &ViewerClient, broker: &Broker) -> bool {
    let origin = broker.origin().replacen("http", "ws", 1);
    viewer.broker().is_some_and(|url| url.as_str().starts_with(&origin))
}

async fn says(viewer: &mut ViewerClient, word: &str) -> Result<()> {
    let (first, rest) = word.split_at(2);
    viewer.type_bytes(format!("echo {first}''{rest}\n").as_bytes())?;
    viewer.wait_for(word, SOON).await
}

#[tokio::test]
async fn a_terminal_opens_at_the_broker_that_has_the_machine() -> Result<()> {
    let ground = Ground::new()?;
    let machine = Machine::start(&ground.installation, "m")?;
    let mut viewer = ViewerClient::open(ground.installation.owner(), machine.id(), shell()).await?;
    says(&mut viewer, "ready").await?;
    ensure!(is_at(&viewer, &ground.a) || is_at(&viewer, &ground.b), "{:?}", viewer.broker());
    Ok(())
}

#[tokio::test]
async fn control_down_interrupts_nothing_and_kills_meanwhile_are_survived() -> Result<()> {
    let mut ground = Ground::new()?;
    let machine = Machine::start(&ground.installation, "m")?;
    let mut traffic = Traffic::start(&ground.installation, &machine).await?;
    let streams = traffic.viewer().streams();

    ground.installation.kill_control()?;
    traffic.type_some()?;
    traffic.until_back().await?;
    traffic.drive_for(AWAY).await?;
    ensure!(traffic.viewer().streams() == streams, "the stream was interrupted");
    let asked = Instant::now();
    let refused = ViewerClient::open(ground.installation.owner(), machine.id(), shell());
    let refused = tokio::time::timeout(Duration::from_secs(5), refused).await;
    ensure!(!matches!(refused, Ok(Ok(_))), "a ticket while control is down");
    ensure!(asked.elapsed() < Duration::from_secs(6));

    kill_9(machine.uplink_pid()?)?;
    traffic.type_some()?;
    traffic.until_back().await?;
    let (mine, _) = ground.of(traffic.viewer())?;
    mine.kill()?;
    traffic.type_some()?;
    mine.run()?;
    traffic.until_back().await?;

    ground.installation.start_control()?;
    let back = Instant::now();
    machine.wait_online(true)?;
    ensure!(back.elapsed() < Duration::from_secs(8), "presence took {:?}", back.elapsed());
    let outcome = traffic.finish().await?;
    ensure!(outcome.is_whole(), "{outcome:?}");
    let mut fresh = ViewerClient::open(ground.installation.owner(), machine.id(), shell()).await?;
    says(&mut fresh, "again").await
}

#[tokio::test]
async fn a_broker_killed_for_good_costs_no_byte_and_its_machines_move_to_another() -> Result<()> {
    let mut ground = Ground::new()?;
    let machine = Machine::start(&ground.installation, "m")?;
    let mut traffic = Traffic::start(&ground.installation, &machine).await?;
    let (mine, _) = ground.of(traffic.viewer())?;
    mine.kill()?;
    traffic.type_some()?;
    let back = traffic.until_back().await?;
    // An agent finds out within five seconds that nobody answers, and dials the next after another one and a half.
    ensure!(back < Duration::from_secs(12), "typing works again after {back:?}");
    let (_, gone) = ground.of(traffic.viewer())?;
    ensure!(gone.ended().is_none() && !gone.is_running(), "the viewer is at the other broker");
    let outcome = traffic.finish().await?;
    ensure!(outcome.is_whole(), "{outcome:?}");
    let mut fresh = ViewerClient::open(ground.installation.owner(), machine.id(), shell()).await?;
    says(&mut fresh, "again").await
}

#[tokio::test]
async fn a_broker_that_drains_sends_everybody_to_another_and_costs_no_byte() -> Result<()> {
    let mut ground = Ground::new()?;
    let machine = Machine::start(&ground.installation, "m")?;
    let mut traffic = Traffic::start(&ground.installation, &machine).await?;
    let (mine, _) = ground.of(traffic.viewer())?;
    let began = Instant::now();
    mine.signal(Signal::SIGTERM)?;
    traffic.type_some()?;
    traffic.until_back().await?;
    ensure!(began.elapsed() < Duration::from_secs(5), "typing works again after {:?}", began.elapsed());
    // It ends when the last stream has moved, long before its grace is over.
    while ground.a.ended().is_none() && ground.b.ended().is_none() {
        ensure!(began.elapsed() < Duration::from_secs(15), "it does not end");
        traffic.drive_for(Duration::from_millis(100)).await?;
    }
    let status = ground.a.ended().or(ground.b.ended()).context("ended")?;
    ensure!(status.success(), "{status}");
    ensure!(machine.seen_by_control()?["online"] == true, "it is at the other broker");
    let outcome = traffic.finish().await?;
    ensure!(outcome.is_whole(), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn a_broker_told_twice_ends_at_once() -> Result<()> {
    let mut ground = Ground::new()?;
    let machine = Machine::start(&ground.installation, "m")?;
    let mut viewer = ViewerClient::open(ground.installation.owner(), machine.id(), shell()).await?;
    says(&mut viewer, "ready").await?;
    let agent = family(machine.host_pid()?);
    // An agent that stands still cannot move, so the drain would last for its whole grace.
    agent.iter().try_for_each(|pid| signal(*pid, Signal::SIGSTOP))?;
    let (mine, _) = ground.of(&viewer)?;
    mine.signal(Signal::SIGTERM)?;
    wait::until("a broker that drains", SOON, || mine.log().contains("ending").then_some(()))?;
    ensure!(mine.ended().is_none(), "it drains");
    mine.signal(Signal::SIGTERM)?;
    let began = Instant::now();
    let status = mine.wait_end()?;
    ensure!(!status.success() && began.elapsed() < Duration::from_secs(2), "{status} {:?}", began.elapsed());
    agent.iter().rev().try_for_each(|pid| signal(*pid, Signal::SIGCONT))?;
    says(&mut viewer, "moved").await
}

#[tokio::test]
async fn br_06_a_broker_that_is_removed_is_cut_off_and_its_credential_is_worth_nothing() -> Result<()> {
    let mut ground = Ground::new()?;
    let machine = Machine::start(&ground.installation, "m")?;
    let mut viewer = ViewerClient::open(ground.installation.owner(), machine.id(), shell()).await?;
    says(&mut viewer, "ready").await?;
    let is_a = is_at(&viewer, &ground.a);
    ground.installation.remove_broker(if is_a { "a" } else { "b" })?;
    let removed = if is_a { &mut ground.a } else { &mut ground.b };
    wait::until("the end of the link", Duration::from_secs(10), || {
        removed.log().contains("ending").then_some(())
    })?;
    says(&mut viewer, "moved").await?;
    let removed = if is_a { &mut ground.a } else { &mut ground.b };
    let status = removed.wait_end()?;
    ensure!(!status.success() && removed.log().contains("was removed"), "{status}");
    ensure!(!removed.data_dir().join("welcome.json").exists(), "its identity is forgotten");

    removed.begin()?;
    let refused = || removed.log().contains("refuses this broker's credential").then_some(());
    wait::until("a refusal", SOON, refused)?;
    let ready = Api::new(&removed.origin()).get("/readyz")?;
    ensure!(ready.status == 503, "{}", ready.body);
    ensure!(Api::new(&removed.origin()).get("/viewer")?.code() == "not_ready");
    Ok(())
}

#[test]
fn nw_01_a_broker_starts_without_control_only_if_it_was_welcomed_once() -> Result<()> {
    let options = Options { embedded_broker: false, ..Options::default() };
    let mut installation = Installation::start_with(options)?;
    let credential = installation.broker_credential("a")?;
    let mut broker = Broker::with_credential(&installation, "a", &credential)?;
    installation.kill_control()?;
    broker.begin()?;
    let asks = || broker.log().contains("control cannot be reached").then_some(());
    wait::until("a broker that asks", SOON, asks)?;
    let api = Api::new(&broker.origin());
    ensure!(api.get("/healthz")?.status == 200 && api.get("/readyz")?.status == 503);
    installation.start_control()?;
    broker.wait_linked()?;
    ensure!(api.get("/readyz")?.status == 200);
    let figures = String::from_utf8(api.get_bytes("/metrics")?)?;
    ensure!(figures.contains("rexec_broker_control_linked 1"), "{figures}");

    installation.kill_control()?;
    broker.kill()?;
    broker.run()?;
    let ready = api.get("/readyz")?;
    ensure!(ready.body["checks"] == json!({ "broker": "ok", "control": "failed" }), "{}", ready.body);
    let log = broker.log();
    let secret = std::fs::read_to_string(credential)?;
    ensure!(!log.contains(secret.trim()) && !log.contains("rexec_broker_"), "the credential is in the log");
    Ok(())
}
