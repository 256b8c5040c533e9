//! Who is measured, and what of it.

use clap::ValueEnum;
use rexec_e2e::grounds::Need;
use serde::{Deserialize, Serialize};

use crate::place::find;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PeerKind {
    /// Rexec's whole path, its tunnel over QUIC.
    Rexec,
    /// The same, its tunnel over TCP because UDP is blocked.
    RexecTcp,
    /// OpenSSH to the machine.
    Ssh,
    /// OpenSSH to the machine, all sessions on one connection (`ControlMaster`).
    SshShared,
    /// OpenSSH through a relay that the machine dialled (`ssh -R`).
    SshReverse,
    /// OpenSSH through rathole's relay.
    Rathole,
    /// mosh to the machine.
    Mosh,
}

impl PeerKind {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Self; 7] = [
        Self::Rexec,
        Self::RexecTcp,
        Self::Ssh,
        Self::SshShared,
        Self::SshReverse,
        Self::Rathole,
        Self::Mosh,
    ];

    /// What it is called in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rexec => "rexec",
            Self::RexecTcp => "rexec over TCP",
            Self::Ssh => "ssh",
            Self::SshShared => "ssh, shared connection",
            Self::SshReverse => "ssh -R",
            Self::Rathole => "rathole + ssh",
            Self::Mosh => "mosh",
        }
    }

    /// Whether it is ours.
    pub(crate) const fn is_rexec(self) -> bool {
        matches!(self, Self::Rexec | Self::RexecTcp)
    }

    /// What it needs and this machine lacks.
    pub(crate) fn lacks(self) -> Option<String> {
        let programs: &[&str] = match self {
            Self::Rexec => &[],
            Self::RexecTcp => &["nft"],
            Self::Ssh | Self::SshShared | Self::SshReverse => &["sshd", "ssh"],
            Self::Rathole => &["rathole", "sshd", "ssh"],
            Self::Mosh => &["mosh-server", "mosh-client"],
        };
        if self == Self::RexecTcp && !Need::Root.is_met() {
            return Some("only root can block UDP".into());
        }
        let missing: Vec<_> = programs.iter().copied().filter(|name| find(name).is_none()).collect();
        (!missing.is_empty()).then(|| format!("{} is not installed", missing.join(" and ")))
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// Keystrokes.
    Echo,
    /// Keystrokes beside a flood.
    Flood,
    /// `^C` during a flood.
    Interrupt,
    /// Bulk output.
    Bulk,
    /// Resident memory.
    Memory,
    /// A killed relay, a network that is cut.
    Recovery,
}
