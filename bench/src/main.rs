//! `rexec-bench`: what a person feels of Rexec's whole path, beside OpenSSH and others, in one run.
//!
//! The peers run the same programs on the same machine and take turns, round by round, so that whatever else the machine does hits
//! all of them alike. What counts is the ratio; absolute figures belong to the machine.
//!
//! | peer | path |
//! |---|---|
//! | `rexec` | viewer → WebSocket → broker (in control) → QUIC → uplink → session host → PTY |
//! | `rexec-tcp` | the same over TLS on TCP, because no datagram gets through |
//! | `ssh` | ssh → sshd → PTY |
//! | `ssh-shared` | the same, all sessions on one connection (`ControlMaster`) |
//! | `ssh-reverse` | ssh → sshd of a relay → ssh -R → sshd → PTY |
//! | `rathole` | ssh → rathole's relay → rathole → sshd → PTY |
//! | `mosh` | mosh-client → UDP → mosh-server → PTY |
//!
//! They are measured on two grounds: loopback, and a network of 30 ms round trip that loses 1 % of its packets, between the machine and
//! everything else ([`rexec_e2e::netlab`]). A run is kept as JSON, from which tables ([`table`]) and chart ([`chart`]) are made.

mod bars;
mod chart;
mod faults;
mod ground;
mod kind;
mod load;
mod measure;
mod memory;
mod mosh;
mod page;
mod panels;
mod peer;
mod place;
mod rathole;
mod recovery;
mod report;
#[cfg(test)]
mod sample;
mod ssh;
mod table;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use rexec_e2e::grounds::{Need, can_run};

use crate::ground::Ground;
use crate::kind::{Part, PeerKind};
use crate::load::Load;
use crate::measure::{Plan, bulk, echo, echo_beside_flood, interrupt};
use crate::report::{LeftOut, Measured, Network, OnGround, Report};

/// Needed for a network between the machine and everything else.
const NETWORK: &[Need] = &[Need::Root, Need::Namespaces, Need::Tun, Need::Program("ip")];

/// Rexec beside OpenSSH and others, in one run.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Rounds; the peers take turns in each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measure only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Measure only these peers.
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<PeerKind>,
    /// Keystrokes per peer and round; a tenth of them where a round trip takes 30 ms.
    #[arg(long, default_value_t = 1_000)]
    keystrokes: usize,
    /// Longest time for the keystrokes of a peer and round, seconds; a slow peer types fewer.
    #[arg(long, default_value_t = 4)]
    typing_max_s: u64,
    /// Bulk output per peer and round, MB.
    #[arg(long, default_value_t = 100)]
    bulk_mb: usize,
    /// Round trip of the bad network, milliseconds.
    #[arg(long, default_value_t = 30)]
    rtt_ms: u64,
    /// Packets the bad network loses, percent.
    #[arg(long, default_value_t = 1.0)]
    loss_percent: f64,
    /// Leave the bad network out.
    #[arg(long)]
    loopback_only: bool,
    /// Directory for the figures as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write the chart docs/bench.svg and the tables in docs/PERFORMANCE.md.
    #[arg(long)]
    docs: bool,
    /// Measure nothing; take the figures of this run, kept by `--out`.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Instead of measuring speed, break what can break and print what that cost.
    #[arg(long)]
    faults: bool,
    /// Of the faults, those with this in their name.
    #[arg(long, default_value = "", requires = "faults")]
    fault: String,
    #[command(subcommand)]
    what: Option<What>,
}

/// What is measured instead.
#[derive(Debug, Subcommand)]
enum What {
    /// One broker at scale: thousands of idle agents, live sessions beside them, storms.
    Load(Load),
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "this program's purpose")]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if cli.faults {
        return faults::matrix(&cli.fault, cli.out.as_deref()).await;
    }
    if let Some(What::Load(load)) = cli.what {
        return load::run(load, cli.out.as_deref()).await;
    }
    let report = match &cli.from {
        Some(file) => Report::read(file)?,
        None => cli.measure().await?,
    };
    println!("{}\n\n{}", table::origin(&report), table::tables(&report, &bars::bars(&report)));
    if let Some(out) = cli.out.filter(|_| cli.from.is_none()) {
        report.write(&out)?;
    }
    if cli.docs {
        page::write(&report)?;
    }
    Ok(())
}

impl Cli {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Those that are wanted and can be measured here, and those that cannot.
    fn choose(&self) -> (Vec<PeerKind>, Vec<LeftOut>) {
        let wanted =
            PeerKind::ALL.into_iter().filter(|kind| self.peers.is_empty() || self.peers.contains(kind));
        let (mut kinds, mut left_out) = (Vec::new(), Vec::new());
        for kind in wanted {
            match kind.lacks() {
                None => kinds.push(kind),
                Some(why) => left_out.push(LeftOut { name: kind.name().into(), why }),
            }
        }
        (kinds, left_out)
    }

    async fn measure(&self) -> Result<Report> {
        let (kinds, left_out) = self.choose();
        let mut report = Report::new(left_out);
        let has_network = !self.loopback_only && can_run(NETWORK);
        if [Part::Echo, Part::Flood, Part::Interrupt, Part::Bulk].into_iter().any(|part| self.wants(part)) {
            report.grounds.push(self.speed(&kinds, None).await?);
            if has_network && self.only != [Part::Bulk] {
                let network = Network { rtt_ms: self.rtt_ms, loss_percent: self.loss_percent };
                report.grounds.push(self.speed(&kinds, Some(network)).await?);
            }
        }
        if self.wants(Part::Memory) {
            progress("resident memory");
            report.memory = memory::memory(&kinds).await?;
        }
        if self.wants(Part::Recovery) {
            progress("relays are killed");
            report.relay_killed = recovery::relay_killed(&kinds, self.rounds).await?;
            if has_network {
                progress("the network is cut");
                report.network_cut = recovery::network_cut(&kinds, self.rounds).await?;
            }
        }
        Ok(report)
    }

    /// Bulk output is measured on loopback only.
    async fn speed(&self, kinds: &[PeerKind], network: Option<Network>) -> Result<OnGround> {
        let plan = Plan {
            rounds: self.rounds,
            keystrokes: if network.is_some() { self.keystrokes.div_ceil(10) } else { self.keystrokes },
            typing_max: Duration::from_secs(self.typing_max_s),
            bulk_bytes: self.bulk_mb * 1_000_000,
        };
        let ground = match network {
            None => Ground::loopback(kinds)?,
            Some(Network { rtt_ms, loss_percent }) => {
                Ground::bad_network(kinds, Duration::from_millis(rtt_ms), loss_percent / 100.0)?
            }
        };
        let peers = ground.peers()?;
        let mut measured = Measured::new(network, kinds, plan);
        if self.wants(Part::Echo) {
            progress(&format!("keystrokes, {}", measured.name()));
            measured.echo = echo(&peers, &plan).await?;
        }
        if self.wants(Part::Flood) {
            progress(&format!("keystrokes beside a flood, {}", measured.name()));
            measured.beside_flood = echo_beside_flood(&peers, &plan).await?;
        }
        if self.wants(Part::Interrupt) {
            progress(&format!("interrupts, {}", measured.name()));
            measured.interrupt = interrupt(&peers, &plan).await?;
        }
        if self.wants(Part::Bulk) && network.is_none() {
            progress("bulk output");
            measured.bulk = bulk(&peers, &plan, ground.scratch()).await?;
        }
        Ok(OnGround::new(&measured))
    }
}

/// What takes its minutes says what it is at.
#[expect(clippy::print_stderr, reason = "this program's purpose")]
fn progress(what: &str) {
    eprintln!("measuring: {what}");
}
