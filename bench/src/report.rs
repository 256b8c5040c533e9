//! The figures of a run, as they are kept: [`Report`] is what `bench/out` holds as JSON, and what tables and chart are made from.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rexec_e2e::binaries::repository;
use serde::{Deserialize, Serialize};

use crate::kind::PeerKind;
use crate::measure::{Flood, Plan};
use crate::memory::Memory;
use crate::recovery::Recovery;

/// What was measured on one ground; one entry for each peer, or none at all.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The ground.
    pub(crate) network: Option<Network>,
    /// The peers.
    pub(crate) kinds: Vec<PeerKind>,
    pub(crate) plan: Plan,
    pub(crate) echo: Vec<Vec<Duration>>,
    pub(crate) beside_flood: Vec<Vec<Duration>>,
    pub(crate) interrupt: Vec<Vec<Duration>>,
    pub(crate) bulk: Vec<Flood>,
}

impl Measured {
    /// Nothing yet.
    pub(crate) fn new(network: Option<Network>, kinds: &[PeerKind], plan: Plan) -> Self {
        Self {
            network,
            kinds: kinds.to_vec(),
            plan,
            echo: Vec::new(),
            beside_flood: Vec::new(),
            interrupt: Vec::new(),
            bulk: Vec::new(),
        }
    }

    /// The ground's name.
    pub(crate) fn name(&self) -> String {
        name(self.network)
    }
}

fn name(network: Option<Network>) -> String {
    match network {
        None => "loopback".into(),
        Some(Network { rtt_ms, loss_percent }) => format!("{rtt_ms} ms round trip, {loss_percent} % loss"),
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// When.
    pub(crate) unix_s: u64,
    /// On what.
    pub(crate) host: Host,
    /// Of what: the commit, with a `+` when something was not committed.
    pub(crate) commit: String,
    /// Who is not in it.
    pub(crate) left_out: Vec<LeftOut>,
    /// How fast.
    pub(crate) grounds: Vec<OnGround>,
    /// Resident memory.
    pub(crate) memory: Vec<Memory>,
    /// The agent's stripped binary as `make dist` builds it.
    pub(crate) agent_bytes: Option<u64>,
    /// After the relay was killed.
    pub(crate) relay_killed: Vec<Recovery>,
    /// After the network was cut.
    pub(crate) network_cut: Vec<Recovery>,
}

/// The machine that measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Host {
    /// Processors.
    pub(crate) cores: usize,
    /// Kernel release.
    pub(crate) kernel: String,
}

/// A peer that was not measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    /// The peer.
    pub(crate) name: String,
    /// Why.
    pub(crate) why: String,
}

/// A bad network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// Round trip.
    pub(crate) rtt_ms: u64,
    /// Packets lost each way.
    pub(crate) loss_percent: f64,
}

/// What was measured on one ground.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OnGround {
    /// The bad network; none is loopback.
    pub(crate) network: Option<Network>,
    /// Rounds; the peers took turns in each.
    pub(crate) rounds: usize,
    /// Keystrokes per peer at most.
    pub(crate) keystrokes: usize,
    /// Bulk output per peer and round.
    pub(crate) bulk_bytes: usize,
    /// The peers.
    pub(crate) peers: Vec<Figures>,
}

/// One peer's figures.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// The peer.
    pub(crate) peer: PeerKind,
    /// Keystroke to echo.
    pub(crate) echo: Option<Times>,
    /// The same while another session floods.
    pub(crate) echo_beside_flood: Option<Times>,
    /// `^C` during `yes` to the prompt.
    pub(crate) interrupt: Option<Times>,
    /// Bulk output.
    pub(crate) bulk: Option<Bulk>,
}

/// Quantiles, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) samples: usize,
    pub(crate) min_ms: f64,
    pub(crate) p10_ms: f64,
    pub(crate) p25_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p75_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// Bulk output.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bulk {
    /// Median over the rounds.
    pub(crate) mb_per_s: f64,
    /// The slowest round.
    pub(crate) slowest_mb_per_s: f64,
    /// The fastest round.
    pub(crate) fastest_mb_per_s: f64,
    /// Processor time of the process between the ends.
    pub(crate) relay_cpu_ms_per_mb: Option<f64>,
}

impl Report {
    /// An empty one of now and here.
    pub(crate) fn new(left_out: Vec<LeftOut>) -> Self {
        Self {
            unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            host: Host::here(),
            commit: commit().unwrap_or_else(|| "unknown".into()),
            left_out,
            grounds: Vec::new(),
            memory: Vec::new(),
            agent_bytes: agent_bytes(),
            relay_killed: Vec::new(),
            network_cut: Vec::new(),
        }
    }

    /// One that was written earlier.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Writes the figures as JSON.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(dir.join(format!("{}.json", self.unix_s)), &text)?;
        Ok(std::fs::write(dir.join("latest.json"), text)?)
    }

    /// The ground without a network, or the one with it.
    pub(crate) fn ground(&self, bad_network: bool) -> Option<&OnGround> {
        self.grounds.iter().find(|ground| ground.network.is_some() == bad_network)
    }
}

impl Host {
    fn here() -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: kernel.trim().to_owned(),
        }
    }
}

/// The commit that is checked out, with a `+` when files that git knows have changed since.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(repository()).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(git(&["rev-parse", "--short", "HEAD"])? + if changed { "+" } else { "" })
}

/// Cargo puts the profiles side by side.
fn agent_bytes() -> Option<u64> {
    let own = std::env::current_exe().ok()?;
    let agent = own.parent()?.parent()?.join("dist").join("rexec-agent");
    Some(agent.metadata().ok()?.len())
}

impl OnGround {
    /// Puts the figures of one ground together.
    pub(crate) fn new(measured: &Measured) -> Self {
        let Measured { network, kinds, plan, echo, beside_flood, interrupt, bulk } = measured;
        let times = |of: &[Vec<Duration>], at: usize| of.get(at).and_then(|times| Times::of(times));
        let figures = |(at, peer): (usize, &PeerKind)| Figures {
            peer: *peer,
            echo: times(echo, at),
            echo_beside_flood: times(beside_flood, at),
            interrupt: times(interrupt, at),
            bulk: bulk.get(at).and_then(|flood| Bulk::new(plan, flood)),
        };
        Self {
            network: *network,
            rounds: plan.rounds,
            keystrokes: plan.keystrokes * plan.rounds,
            bulk_bytes: plan.bulk_bytes,
            peers: kinds.iter().enumerate().map(figures).collect(),
        }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> String {
        name(self.network)
    }

    /// One peer's figures.
    pub(crate) fn of(&self, peer: PeerKind) -> Option<&Figures> {
        self.peers.iter().find(|figures| figures.peer == peer)
    }
}

impl Times {
    fn of(times: &[Duration]) -> Option<Self> {
        let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let at = |part| quantile(&ms, part);
        (!ms.is_empty()).then(|| Self {
            samples: ms.len(),
            min_ms: at(0.0),
            p10_ms: at(0.1),
            p25_ms: at(0.25),
            p50_ms: at(0.5),
            p75_ms: at(0.75),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: at(1.0),
        })
    }
}

impl Bulk {
    fn new(plan: &Plan, flood: &Flood) -> Option<Self> {
        let megabytes = plan.bulk_bytes as f64 / 1e6;
        let mut rates: Vec<f64> = flood.times.iter().map(|time| megabytes / time.as_secs_f64()).collect();
        rates.sort_by(f64::total_cmp);
        let all = megabytes * rates.len() as f64;
        (!rates.is_empty()).then(|| Self {
            mb_per_s: quantile(&rates, 0.5),
            slowest_mb_per_s: quantile(&rates, 0.0),
            fastest_mb_per_s: quantile(&rates, 1.0),
            relay_cpu_ms_per_mb: flood.relay_cpu.map(|time| time.as_secs_f64() * 1e3 / all),
        })
    }
}

/// Nearest rank of sorted figures; 0 of none.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_figure_that_was_measured() {
        let figures: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            (quantile(&figures, 0.5), quantile(&figures, 0.99), quantile(&figures, 1.0)),
            (50.0, 99.0, 100.0)
        );
        assert_eq!((quantile(&figures, 0.0), quantile(&[], 0.5)), (1.0, 0.0));
    }

    #[test]
    fn what_was_not_measured_has_no_figures() {
        assert_eq!(Times::of(&[]), None);
        let plan = Plan { rounds: 2, keystrokes: 1, typing_max: Duration::MAX, bulk_bytes: 10_000_000 };
        assert_eq!(Bulk::new(&plan, &Flood::default()), None);
        let flood = Flood {
            times: vec![Duration::from_millis(100), Duration::from_millis(50)],
            relay_cpu: Some(Duration::from_millis(40)),
        };
        let bulk = Bulk::new(&plan, &flood).unwrap();
        assert_eq!((bulk.mb_per_s, bulk.fastest_mb_per_s), (100.0, 200.0));
        assert_eq!(bulk.relay_cpu_ms_per_mb, Some(2.0));
    }
}
