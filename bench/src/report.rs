//! The figures, for a person and for a program.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use crate::measure::{Flood, Plan};

/// What was measured on one ground; one entry for each peer.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The ground.
    pub(crate) name: String,
    /// The peers.
    pub(crate) names: Vec<&'static str>,
    pub(crate) plan: Plan,
    pub(crate) echo: Vec<Vec<Duration>>,
    pub(crate) beside_flood: Vec<Vec<Duration>>,
    pub(crate) interrupt: Vec<Vec<Duration>>,
    pub(crate) bulk: Vec<Flood>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    unix_s: u64,
    grounds: Vec<OnGround>,
}

#[derive(Debug, Serialize)]
struct OnGround {
    name: String,
    rounds: usize,
    keystrokes: usize,
    bulk_bytes: usize,
    peers: Vec<Figures>,
}

/// One peer's figures.
#[derive(Debug, Serialize)]
struct Figures {
    name: &'static str,
    echo: Times,
    echo_beside_flood: Times,
    /// `^C` during `yes` to the prompt.
    interrupt: Times,
    bulk: Option<Bulk>,
}

/// Quantiles, milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Times {
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
}

#[derive(Debug, Serialize)]
struct Bulk {
    /// Median over the rounds.
    mb_per_s: f64,
    slowest_mb_per_s: f64,
    fastest_mb_per_s: f64,
    relay_cpu_ms_per_mb: Option<f64>,
}

impl Report {
    /// Puts the figures together.
    pub(crate) fn new(measured: Vec<Measured>) -> Self {
        Self {
            unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            grounds: measured.into_iter().map(OnGround::new).collect(),
        }
    }

    /// Prints a table for each ground; each figure with its ratio to plain ssh's.
    #[expect(clippy::print_stdout, reason = "this program's purpose")]
    pub(crate) fn print(&self) {
        for ground in &self.grounds {
            println!(
                "\n{}: {} keystrokes each; in brackets the ratio to ssh in this run\n",
                ground.name, ground.keystrokes
            );
            println!("{}", ground.table());
        }
    }

    /// Writes the figures as JSON.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(dir.join(format!("{}.json", self.unix_s)), &text)?;
        Ok(std::fs::write(dir.join("latest.json"), text)?)
    }
}

impl OnGround {
    fn new(measured: Measured) -> Self {
        let Measured { name, names, plan, echo, beside_flood, interrupt, bulk } = measured;
        let mut bulk = bulk.iter().map(|flood| Bulk::new(&plan, flood));
        let times = echo.iter().zip(&beside_flood).zip(&interrupt);
        let peers = names.into_iter().zip(times).map(|(name, ((echo, beside_flood), interrupt))| Figures {
            name,
            echo: Times::of(echo),
            echo_beside_flood: Times::of(beside_flood),
            interrupt: Times::of(interrupt),
            bulk: bulk.next(),
        });
        Self {
            name,
            rounds: plan.rounds,
            keystrokes: plan.keystrokes * plan.rounds,
            bulk_bytes: plan.bulk_bytes,
            peers: peers.collect(),
        }
    }

    /// One column for each peer.
    fn table(&self) -> String {
        let head = self.peers.iter().map(|peer| format!("{:>22}", peer.name)).collect::<String>();
        let mut lines = vec![format!("{:<28}{head}", "")];
        let mut row = |label: &str, of: &dyn Fn(&Figures) -> Option<f64>, unit: &str| {
            let ssh = self.peers.iter().find(|peer| peer.name == "ssh").and_then(of);
            let cells = self.peers.iter().map(|peer| format!("{:>22}", cell(of(peer), ssh, unit)));
            lines.push(format!("{label:<28}{}", cells.collect::<String>()));
        };
        row("echo p50", &|peer| Some(peer.echo.p50_ms), "ms");
        row("echo p90", &|peer| Some(peer.echo.p90_ms), "ms");
        row("echo p99", &|peer| Some(peer.echo.p99_ms), "ms");
        row("echo beside a flood p50", &|peer| Some(peer.echo_beside_flood.p50_ms), "ms");
        row("echo beside a flood p99", &|peer| Some(peer.echo_beside_flood.p99_ms), "ms");
        row("^C during yes p50", &|peer| Some(peer.interrupt.p50_ms), "ms");
        if self.peers.iter().any(|peer| peer.bulk.is_some()) {
            row("bulk", &|peer| Some(peer.bulk.as_ref()?.mb_per_s), "MB/s");
            row("processor time of the relay", &|peer| peer.bulk.as_ref()?.relay_cpu_ms_per_mb, "ms/MB");
        }
        lines.join("\n")
    }
}

fn cell(own: Option<f64>, of: Option<f64>, unit: &str) -> String {
    match (own, of) {
        (Some(own), Some(of)) if of > 0.0 => format!("{own:.2} {unit} ({:.2}×)", own / of),
        (Some(own), _) => format!("{own:.2} {unit}"),
        (None, _) => "–".into(),
    }
}

impl Times {
    fn of(times: &[Duration]) -> Self {
        let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        Self { p50_ms: quantile(&ms, 0.5), p90_ms: quantile(&ms, 0.9), p99_ms: quantile(&ms, 0.99) }
    }
}

impl Bulk {
    fn new(plan: &Plan, flood: &Flood) -> Self {
        let megabytes = plan.bulk_bytes as f64 / 1e6;
        let mut rates: Vec<f64> = flood.times.iter().map(|time| megabytes / time.as_secs_f64()).collect();
        rates.sort_by(f64::total_cmp);
        let all = megabytes * plan.rounds as f64;
        Self {
            mb_per_s: quantile(&rates, 0.5),
            slowest_mb_per_s: quantile(&rates, 0.0),
            fastest_mb_per_s: quantile(&rates, 1.0),
            relay_cpu_ms_per_mb: flood.relay_cpu.map(|time| time.as_secs_f64() * 1e3 / all),
        }
    }
}

/// Nearest rank of sorted figures; 0 of none.
fn quantile(sorted: &[f64], part: f64) -> f64 {
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
}
