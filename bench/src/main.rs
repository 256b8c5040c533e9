//! `rexec-bench`: keystroke echo and bulk output through Rexec's whole path, beside OpenSSH, in one run.
//!
//! The three peers run the same programs on the same machine and take turns, round by round, so that whatever else the machine does hits
//! all of them alike. What counts is the ratio; absolute figures belong to the machine.
//!
//! | peer | path |
//! |---|---|
//! | `rexec` | viewer → WebSocket → broker (in control) → QUIC → uplink → session host → PTY |
//! | `ssh` | ssh → sshd → PTY |
//! | `ssh -R` | ssh → sshd of a relay → ssh -R → sshd → PTY |

mod measure;
mod peer;
mod report;
mod ssh;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use rexec_e2e::{Installation, Machine};

use crate::measure::{Plan, bulk, echo};
use crate::peer::Peer;
use crate::report::Report;
use crate::ssh::Sshd;

/// Rexec beside OpenSSH, in one run.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Rounds; the peers take turns in each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Keystrokes per peer and round.
    #[arg(long, default_value_t = 1_000)]
    keystrokes: usize,
    /// Bulk output per peer and round, MB.
    #[arg(long, default_value_t = 100)]
    bulk_mb: usize,
    /// Directory for the figures as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let plan = Plan { rounds: cli.rounds, keystrokes: cli.keystrokes, bulk_bytes: cli.bulk_mb * 1_000_000 };

    let dir = tempfile::Builder::new().prefix("rexec-bench-").tempdir()?;
    let installation = Installation::start().context("an installation")?;
    let machine = Machine::start(&installation, "bench").context("a machine")?;
    let (direct, relay) = (Sshd::start(&dir.path().join("direct"))?, Sshd::start(&dir.path().join("relay"))?);
    let tunnel = direct.behind(&relay)?;
    let peers = [
        Peer::rexec(installation.owner(), &machine, installation.control_pid()?),
        Peer::ssh("ssh", &direct, direct.port(), None),
        Peer::ssh("ssh -R", &direct, tunnel.port(), Some(relay.pid())),
    ];

    let echoes = echo(&peers, &plan).await?;
    let floods = bulk(&peers, &plan, dir.path()).await?;
    let report = Report::new(&plan, &peers, &echoes, &floods);
    report.print();
    if let Some(out) = cli.out {
        report.write(&out)?;
    }
    Ok(())
}
