//! The figures, for a person and for a program.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use crate::measure::{Flood, Plan};
use crate::peer::Peer;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    unix_s: u64,
    rounds: usize,
    keystrokes: usize,
    bulk_bytes: usize,
    peers: Vec<Figures>,
}

/// One peer's figures.
#[derive(Debug, Serialize)]
struct Figures {
    name: &'static str,
    echo_p50_us: f64,
    echo_p90_us: f64,
    echo_p99_us: f64,
    /// Median over the rounds.
    bulk_mb_per_s: f64,
    /// Slowest and fastest round.
    bulk_range_mb_per_s: [f64; 2],
    relay_cpu_ms_per_mb: Option<f64>,
}

impl Report {
    /// Puts the figures together.
    pub(crate) fn new(plan: &Plan, peers: &[Peer<'_>], echoes: &[Vec<Duration>], floods: &[Flood]) -> Self {
        let figures = peers.iter().zip(echoes).zip(floods);
        Self {
            unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            rounds: plan.rounds,
            keystrokes: plan.keystrokes * plan.rounds,
            bulk_bytes: plan.bulk_bytes,
            peers: figures.map(|((peer, echoes), flood)| Figures::new(plan, peer, echoes, flood)).collect(),
        }
    }

    /// Prints a table; each figure with its ratio to plain ssh's.
    #[expect(clippy::print_stdout, reason = "this program's purpose")]
    pub(crate) fn print(&self) {
        let Some(ssh) = self.peers.iter().find(|peer| peer.name == "ssh") else { return };
        println!(
            "\n{} keystrokes each, {} rounds of {} MB each; in brackets the ratio to ssh in this run\n",
            self.keystrokes,
            self.rounds,
            self.bulk_bytes / 1_000_000
        );
        println!(
            "{:<8} {:>18} {:>18} {:>18} {:>20} {:>14} {:>12}",
            "", "echo p50", "echo p90", "echo p99", "bulk", "range", "relay CPU"
        );
        for peer in &self.peers {
            let us = |own: f64, of: f64| format!("{own:.0} µs ({:.2}×)", own / of);
            let [slowest, fastest] = peer.bulk_range_mb_per_s;
            println!(
                "{:<8} {:>18} {:>18} {:>18} {:>20} {:>14} {:>12}",
                peer.name,
                us(peer.echo_p50_us, ssh.echo_p50_us),
                us(peer.echo_p90_us, ssh.echo_p90_us),
                us(peer.echo_p99_us, ssh.echo_p99_us),
                format!("{:.1} MB/s ({:.2}×)", peer.bulk_mb_per_s, peer.bulk_mb_per_s / ssh.bulk_mb_per_s),
                format!("{slowest:.0}–{fastest:.0}"),
                peer.relay_cpu_ms_per_mb.map_or("–".into(), |cost| format!("{cost:.1} ms/MB")),
            );
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

impl Figures {
    fn new(plan: &Plan, peer: &Peer<'_>, echoes: &[Duration], flood: &Flood) -> Self {
        let mut us: Vec<f64> = echoes.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        us.sort_by(f64::total_cmp);
        let megabytes = plan.bulk_bytes as f64 / 1e6;
        let mut rates: Vec<f64> = flood.times.iter().map(|time| megabytes / time.as_secs_f64()).collect();
        rates.sort_by(f64::total_cmp);
        let all = megabytes * plan.rounds as f64;
        Self {
            name: peer.name(),
            echo_p50_us: quantile(&us, 0.5),
            echo_p90_us: quantile(&us, 0.9),
            echo_p99_us: quantile(&us, 0.99),
            bulk_mb_per_s: quantile(&rates, 0.5),
            bulk_range_mb_per_s: [quantile(&rates, 0.0), quantile(&rates, 1.0)],
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
