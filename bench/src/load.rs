//! One broker at scale: thousands of agents that idle, live sessions beside them, what all of them cost the server, and storms.
//!
//! The server is a `rexec-control` with its embedded broker, in a process of its own. The agents are those of [`rexec_e2e::fleet`]: they enrol
//! with join tokens and speak the tunnel by the agent's own code. Live sessions are real: agents' processes, PTYs, and viewers on WebSockets.

mod figures;
mod sessions;
mod storm;
mod usage;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rexec_e2e::fleet::{Fleet, Recruit, Way};
use rexec_e2e::{Installation, Machine};

use self::figures::Figures;
use self::sessions::Desk;
use self::usage::{Server, Usage};
use crate::kind::PeerKind;
use crate::measure::{Plan, bulk};
use crate::peer::{Peer, Way as WayTo};

/// What is put on one broker.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Load {
    /// Tunnels that stand, over QUIC and TCP together.
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
    /// Of those, how many over TCP.
    #[arg(long, default_value_t = 1_000)]
    tcp: usize,
    /// Live sessions beside them, each with a viewer that types; none leaves out idling and pumping, too.
    #[arg(long, default_value_t = 1_000)]
    sessions: usize,
    /// Agents that come back in the storm that has a bar; none leaves it out.
    #[arg(long, default_value_t = 2_000)]
    storm: usize,
    /// Also a storm of all tunnels.
    #[arg(long)]
    great_storm: bool,
}

/// Sessions on one machine: it takes 256.
const PER_MACHINE: usize = 250;
/// Agents on their way in at once: as many as keep the broker busy.
const AT_ONCE: usize = 128;
/// Everything of one kind is there within this.
const DEADLINE: Duration = Duration::from_secs(180);
/// What a handshake allocated is free again after this, and presence is written.
const SETTLE: Duration = Duration::from_secs(6);
/// How long the idle server is watched: longer than the time between two feeds.
const WATCH: Duration = Duration::from_secs(35);
/// Bytes pumped through one session.
const BULK: Plan = Plan { rounds: 3, keystrokes: 0, typing_max: Duration::ZERO, bulk_bytes: 50_000_000 };
/// Resident memory of an idle tunnel, at most (DESIGN §11).
const TUNNEL_KIB: f64 = 64.0;

/// Puts the load on a server, and prints each figure as it is known. Fails when one of them misses its bar.
pub(crate) async fn run(load: Load, out: Option<&Path>) -> Result<()> {
    let mut figures = Figures::default();
    let mut installation = Installation::start().context("an installation")?;
    // An organisation has at most 10,000 machines; those that carry sessions count.
    let carrying = load.sessions.div_ceil(PER_MACHINE);
    let idle = load.agents.saturating_sub(carrying);
    let began = Instant::now();
    let recruits = Recruit::enrol(&installation, idle.max(load.storm))?;
    figures.add("machines enrolled", recruits.len() as f64 / began.elapsed().as_secs_f64(), "/s");

    if load.storm > 0 {
        let calm = recruits.iter().take(load.storm).cloned().collect();
        let fleet = Fleet::start(calm, Way::Raced, AT_ONCE, DEADLINE).await?;
        storm::run(&mut installation, vec![fleet], &mut figures).await?;
    }
    if load.agents > 0 {
        let recruits = recruits.into_iter().take(idle).collect();
        stand(&mut installation, recruits, carrying, &load, &mut figures).await?;
    }
    if let Some(out) = out {
        figures.write(out)?;
    }
    let missed = figures.missed();
    ensure!(missed.is_empty(), "missed: {}", missed.join(", "));
    Ok(())
}

/// All tunnels stand, and whatever there is happens beside them.
async fn stand(
    installation: &mut Installation,
    mut recruits: Vec<Recruit>,
    carrying: usize,
    load: &Load,
    figures: &mut Figures,
) -> Result<()> {
    // A fresh process: what enrolment has left in its memory is not what a tunnel costs.
    installation.kill_control()?;
    installation.start_control()?;
    let machines: Vec<Machine> = (0..carrying)
        .map(|number| Machine::start(installation, &format!("live-{number}")))
        .collect::<Result<_>>()?;
    let server = Server::new(installation.control_pid()?);
    if let Some(machine) = machines.first() {
        figures.times("echo, no other tunnel", &sessions::paced_echo(installation, machine, SETTLE).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let empty = server.usage()?;
    figures.add("server without tunnels: resident", empty.resident_kib / 1024.0, "MiB");

    let over_tcp = recruits.split_off(recruits.len().saturating_sub(load.tcp));
    let mut fleets = Vec::new();
    for (name, recruits, way) in [("QUIC", recruits, Way::Quic), ("TCP", over_tcp, Way::Tcp)] {
        if !recruits.is_empty() {
            fleets.push(arrive(&server, name, recruits, way, figures).await?);
        }
    }
    let full = server.usage()?;
    figures.add("server with all tunnels: resident", full.resident_kib / 1024.0, "MiB");
    figures.add("server with all tunnels: descriptors", full.descriptors as f64, "");
    if let Some(machine) = machines.first() {
        beside(installation, &server, machine, figures).await?;
        live(installation, &server, &machines, load.sessions, figures).await?;
    }
    let standing: usize = fleets.iter().map(|fleet| fleet.standing().len()).sum();
    let all: usize = fleets.iter().map(Fleet::len).sum();
    figures.at_most("tunnels that fell meanwhile", (all - standing) as f64, "", 0.0);
    if load.great_storm {
        storm::run(installation, fleets, figures).await?;
    }
    Ok(())
}

/// A fleet arrives as fast as the broker takes it.
async fn arrive(
    server: &Server,
    name: &str,
    recruits: Vec<Recruit>,
    way: Way,
    figures: &mut Figures,
) -> Result<Fleet> {
    let (count, before, began) = (recruits.len() as f64, server.usage()?, Instant::now());
    let fleet = Fleet::start(recruits, way, AT_ONCE, DEADLINE).await?;
    let took = began.elapsed();
    let busy = server.usage()?;
    tokio::time::sleep(SETTLE).await;
    let after = server.usage()?;
    figures.add(format!("tunnels accepted over {name}"), count / took.as_secs_f64(), "/s");
    figures.add(
        format!("processor time of one accept over {name}"),
        (busy.cpu - before.cpu).as_secs_f64() * 1e3 / count,
        "ms",
    );
    let each = (after.resident_kib - before.resident_kib) / count;
    figures.at_most(format!("idle tunnel over {name}: resident"), each, "KiB", TUNNEL_KIB);
    Ok(fleet)
}

/// What the server does while nothing happens, and what one person feels and floods beside all of it.
async fn beside(
    installation: &Installation,
    server: &Server,
    machine: &Machine,
    figures: &mut Figures,
) -> Result<()> {
    let (before, began) = (server.usage()?, Instant::now());
    tokio::time::sleep(WATCH).await;
    let cpu = (server.usage()?.cpu - before.cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    figures.add("idle, all tunnels standing: of one processor", cpu * 100.0, "%");
    figures.times("echo, all tunnels standing", &sessions::paced_echo(installation, machine, WATCH).await?);
    let way = WayTo::Rexec { api: installation.owner(), machine };
    let peers = [Peer::new(PeerKind::Rexec, way, Some(installation.control_pid()?))];
    let floods = bulk(&peers, &BULK, installation.scratch()).await?;
    let cpu: Duration = floods.iter().filter_map(|flood| flood.relay_cpu).sum();
    let megabytes = (BULK.bulk_bytes * BULK.rounds) as f64 / 1e6;
    let time: Duration = floods.iter().flat_map(|flood| &flood.times).sum();
    figures.add("pumped, all tunnels standing", megabytes / time.as_secs_f64(), "MB/s");
    figures.add("pumped: processor time of the server", cpu.as_secs_f64() * 1e3 / megabytes, "ms/MB");
    Ok(())
}

/// Live sessions, each with a viewer: idle at first, then all typing.
async fn live(
    installation: &Installation,
    server: &Server,
    machines: &[Machine],
    count: usize,
    figures: &mut Figures,
) -> Result<()> {
    let (before, began) = (server.usage()?, Instant::now());
    let viewers = sessions::open(&Desk::new(installation)?, machines, count).await?;
    figures.add("live sessions", count as f64, "");
    figures.add("sessions opened", count as f64 / began.elapsed().as_secs_f64(), "/s");
    tokio::time::sleep(SETTLE).await;
    let Usage { resident_kib, descriptors, .. } = server.usage()?;
    let count = count as f64;
    figures.add("idle viewer: resident", (resident_kib - before.resident_kib) / count, "KiB");
    figures.add("idle viewer: descriptors", (descriptors - before.descriptors) as f64 / count, "");
    let (before, began) = (server.usage()?, Instant::now());
    let echoes = sessions::type_all(viewers).await?;
    let cpu = (server.usage()?.cpu - before.cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    figures.times("echo, every session typing once a second", &echoes);
    figures.add("every session typing once a second: of one processor", cpu * 100.0, "%");
    Ok(())
}
