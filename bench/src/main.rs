//! `rexec-bench`: what a person feels of Rexec's whole path, beside OpenSSH, in one run.
//!
//! The peers run the same programs on the same machine and take turns, round by round, so that whatever else the machine does hits
//! all of them alike. What counts is the ratio; absolute figures belong to the machine.
//!
//! | peer | path |
//! |---|---|
//! | `rexec` | viewer → WebSocket → broker (in control) → QUIC → uplink → session host → PTY |
//! | `ssh` | ssh → sshd → PTY |
//! | `ssh -R` | ssh → sshd of a relay → ssh -R → sshd → PTY |
//!
//! They are measured on two grounds: loopback, and a network of 30 ms round trip that loses 1 % of its packets, between the machine and
//! everything else ([`rexec_e2e::netlab`]).

mod faults;
mod ground;
mod measure;
mod peer;
mod report;
mod ssh;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use rexec_e2e::grounds::{Need, can_run};

use crate::ground::Ground;
use crate::measure::{Plan, bulk, echo, echo_beside_flood, interrupt};
use crate::report::{Measured, Report};

/// Rexec beside OpenSSH, in one run.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Rounds; the peers take turns in each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Keystrokes per peer and round; a tenth of them where a round trip takes 30 ms.
    #[arg(long, default_value_t = 1_000)]
    keystrokes: usize,
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
    /// Instead of measuring speed, break what can break and print what that cost.
    #[arg(long)]
    faults: bool,
    /// Of the faults, those with this in their name.
    #[arg(long, default_value = "", requires = "faults")]
    only: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if cli.faults {
        return faults::matrix(&cli.only, cli.out.as_deref()).await;
    }
    let plan = Plan { rounds: cli.rounds, keystrokes: cli.keystrokes, bulk_bytes: cli.bulk_mb * 1_000_000 };

    let mut measured = vec![on_loopback(&plan).await?];
    if !cli.loopback_only && can_run(&[Need::Root, Need::Namespaces, Need::Tun, Need::Program("ip")]) {
        let plan = Plan { keystrokes: cli.keystrokes.div_ceil(10), ..plan };
        let rtt = Duration::from_millis(cli.rtt_ms);
        measured.push(on_bad_network(&plan, rtt, cli.loss_percent).await?);
    }
    let report = Report::new(measured);
    report.print();
    if let Some(out) = cli.out {
        report.write(&out)?;
    }
    Ok(())
}

async fn on_loopback(plan: &Plan) -> Result<Measured> {
    let ground = Ground::loopback()?;
    let (peers, name) = (ground.peers()?, "loopback".to_owned());
    Ok(Measured {
        names: peers.iter().map(|peer| peer.name()).collect(),
        plan: *plan,
        echo: echo(&peers, plan).await?,
        beside_flood: echo_beside_flood(&peers, plan).await?,
        interrupt: interrupt(&peers, plan).await?,
        bulk: bulk(&peers, plan, ground.scratch()).await?,
        name,
    })
}

async fn on_bad_network(plan: &Plan, rtt: Duration, loss_percent: f64) -> Result<Measured> {
    let ground = Ground::bad_network(rtt, loss_percent / 100.0)?;
    let peers = ground.peers()?;
    Ok(Measured {
        name: format!("{} ms round trip, {loss_percent} % loss", rtt.as_millis()),
        names: peers.iter().map(|peer| peer.name()).collect(),
        plan: *plan,
        echo: echo(&peers, plan).await?,
        beside_flood: echo_beside_flood(&peers, plan).await?,
        interrupt: interrupt(&peers, plan).await?,
        bulk: Vec::new(),
    })
}
