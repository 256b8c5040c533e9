//! Where is measured: this machine alone, or this machine and another one behind a bad network.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rexec_e2e::installation::Options;
use rexec_e2e::netlab::Netlab;
use rexec_e2e::netlab::line::Shape;
use rexec_e2e::{Installation, Machine};
use tempfile::TempDir;

use crate::kind::PeerKind;
use crate::peer::{Peer, Way};
use crate::place::{Place, program};
use crate::rathole::Rathole;
use crate::ssh::{Master, ReverseTunnel, Sshd};

/// Everything that runs. Fields are dropped in this order: processes before the network they use.
#[derive(Debug)]
pub(crate) struct Ground {
    kinds: Vec<PeerKind>,
    rexec: Option<Rexec>,
    rexec_tcp: Option<Rexec>,
    shared: Option<Master>,
    reverse: Option<Reverse>,
    rathole: Option<Rathole>,
    direct: Sshd,
    far: Place,
    dir: TempDir,
    network: Option<Netlab>,
}

/// An installation of Rexec with one machine.
#[derive(Debug)]
struct Rexec {
    machine: Machine,
    installation: Installation,
    _wall: Option<Wall>,
}

/// A relay that the machine has dialled.
#[derive(Debug)]
struct Reverse {
    tunnel: ReverseTunnel,
    relay: Sshd,
}

impl Ground {
    /// All on loopback.
    pub(crate) fn loopback(kinds: &[PeerKind]) -> Result<Self> {
        let here = Place { host: Ipv4Addr::LOCALHOST.into(), namespace: None };
        Self::start(kinds, here.clone(), here, None)
    }

    /// The machine and its servers in a namespace, behind a network that is perfect until told otherwise.
    pub(crate) fn network(kinds: &[PeerKind]) -> Result<Self> {
        let network = Netlab::new().context("a network")?;
        let near = Place { host: IpAddr::V4(network.host()), namespace: None };
        let far = Place { host: IpAddr::V4(network.guest()), namespace: Some(network.name().to_owned()) };
        Self::start(kinds, near, far, Some(network))
    }

    /// As [`Ground::network`], with this round trip and this part of the packets lost each way.
    pub(crate) fn bad_network(kinds: &[PeerKind], rtt: Duration, loss: f64) -> Result<Self> {
        // Set up on a perfect network, so that what is measured is not the setting up.
        let ground = Self::network(kinds)?;
        ground.line()?.shape(Shape::half_of(rtt, loss));
        Ok(ground)
    }

    fn start(kinds: &[PeerKind], near: Place, far: Place, network: Option<Netlab>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rexec-bench-").tempdir()?;
        let direct = Sshd::start(&dir.path().join("direct"), far.clone())?;
        let mut ground = Self {
            kinds: kinds.to_vec(),
            rexec: None,
            rexec_tcp: None,
            shared: None,
            reverse: None,
            rathole: None,
            direct,
            far,
            dir,
            network,
        };
        for kind in kinds {
            ground.add(*kind, &near).with_context(|| kind.name())?;
        }
        Ok(ground)
    }

    fn add(&mut self, kind: PeerKind, near: &Place) -> Result<()> {
        let dir = self.dir.path();
        match kind {
            PeerKind::Rexec => self.rexec = Some(Rexec::start(near, &self.far)?),
            PeerKind::RexecTcp => self.rexec_tcp = Some(Rexec::start_over_tcp(near, &self.far)?),
            PeerKind::SshShared => self.shared = Some(self.direct.master(near)?),
            PeerKind::SshReverse => {
                let relay = Sshd::start(&dir.join("relay"), near.clone())?;
                self.reverse = Some(Reverse { tunnel: self.direct.behind(&relay)?, relay });
            }
            PeerKind::Rathole => {
                let (dir, target) = (dir.join("rathole"), self.direct.address());
                self.rathole = Some(Rathole::start(&dir, near.clone(), &self.far, target)?);
            }
            PeerKind::Ssh | PeerKind::Mosh => {}
        }
        Ok(())
    }

    /// The ways to the machine.
    pub(crate) fn peers(&self) -> Result<Vec<Peer<'_>>> {
        self.kinds.iter().map(|kind| self.peer(*kind)).collect()
    }

    /// One of the ways.
    pub(crate) fn peer(&self, kind: PeerKind) -> Result<Peer<'_>> {
        let direct = self.direct.address();
        let ssh = |address, shared| Way::Ssh { server: &self.direct, address, shared };
        let missing = || format!("{} was not started", kind.name());
        let (way, relay) = match kind {
            PeerKind::Rexec => self.rexec.as_ref().with_context(missing)?.way()?,
            PeerKind::RexecTcp => self.rexec_tcp.as_ref().with_context(missing)?.way()?,
            PeerKind::Ssh => (ssh(direct, None), None),
            PeerKind::SshShared => {
                (ssh(direct, Some(self.shared.as_ref().with_context(missing)?.socket())), None)
            }
            PeerKind::SshReverse => {
                let reverse = self.reverse.as_ref().with_context(missing)?;
                (ssh(reverse.tunnel.address(), None), Some(reverse.relay.pid()))
            }
            PeerKind::Rathole => {
                let rathole = self.rathole.as_ref().with_context(missing)?;
                (ssh(rathole.address(), None), Some(rathole.relay()))
            }
            PeerKind::Mosh => (Way::Mosh { place: &self.far }, None),
        };
        Ok(Peer::new(kind, way, relay))
    }

    /// The agent's two processes: session host and uplink.
    pub(crate) fn agent(&self) -> Result<[u32; 2]> {
        let machine = &self.rexec.as_ref().context("no agent")?.machine;
        Ok([machine.host_pid()?, machine.uplink_pid()?])
    }

    /// The server of plain ssh.
    pub(crate) fn sshd(&self) -> u32 {
        self.direct.pid()
    }

    /// The network between here and the machine.
    pub(crate) fn line(&self) -> Result<&Netlab> {
        self.network.as_ref().context("no network")
    }

    /// Kills the relay of a way without a word. False when the way has none.
    pub(crate) fn kill_relay(&mut self, kind: PeerKind) -> Result<bool> {
        match kind {
            PeerKind::Rexec => self.rexec.as_mut().context("no installation")?.installation.kill_control()?,
            PeerKind::RexecTcp => {
                self.rexec_tcp.as_mut().context("no installation")?.installation.kill_control()?;
            }
            PeerKind::SshReverse => self.reverse.as_mut().context("no relay")?.relay.kill()?,
            PeerKind::Rathole => self.rathole.as_mut().context("no relay")?.kill()?,
            PeerKind::Ssh | PeerKind::SshShared | PeerKind::Mosh => return Ok(false),
        }
        Ok(true)
    }

    /// Starts the relay again.
    pub(crate) fn start_relay(&mut self, kind: PeerKind) -> Result<()> {
        match kind {
            PeerKind::Rexec => self.rexec.as_mut().context("no installation")?.installation.start_control(),
            PeerKind::RexecTcp => {
                self.rexec_tcp.as_mut().context("no installation")?.installation.start_control()
            }
            PeerKind::SshReverse => {
                let reverse = self.reverse.as_mut().context("no relay")?;
                reverse.relay.start_again()?;
                reverse.tunnel = self.direct.behind(&reverse.relay)?;
                Ok(())
            }
            PeerKind::Rathole => self.rathole.as_mut().context("no relay")?.start_again(),
            PeerKind::Ssh | PeerKind::SshShared | PeerKind::Mosh => bail!("{} has no relay", kind.name()),
        }
    }

    /// A place for files.
    pub(crate) fn scratch(&self) -> &Path {
        self.dir.path()
    }
}

impl Rexec {
    fn start(near: &Place, far: &Place) -> Result<Self> {
        let installation = Self::install(near)?;
        let machine = Machine::start_in(&installation, "bench", far.namespace.as_deref())?;
        Ok(Self { machine, installation, _wall: None })
    }

    /// With a machine from which no datagram gets through to the broker.
    fn start_over_tcp(near: &Place, far: &Place) -> Result<Self> {
        let installation = Self::install(near)?;
        let wall = Wall::start(far, installation.tunnel_port())?;
        let mut machine = Machine::unregistered(&installation, "bench", far.namespace.as_deref())?;
        // It would look for QUIC every few seconds, as in the tests; a day is as good as never.
        machine.set("REXEC_TEST_QUIC_PROBE_MS", "86400000");
        machine.register(&installation, &installation.join_token()?)?;
        machine.start_agent()?;
        machine.wait_online(true)?;
        ensure!(machine.seen_by_control()?["transport"] == "tcp", "the tunnel is not over TCP");
        Ok(Self { machine, installation, _wall: Some(wall) })
    }

    fn install(near: &Place) -> Result<Installation> {
        Installation::start_with(Options { host: near.host, ..Options::default() }).context("an installation")
    }

    fn way(&self) -> Result<(Way<'_>, Option<u32>)> {
        let way = Way::Rexec { api: self.installation.owner(), machine: &self.machine };
        Ok((way, Some(self.installation.control_pid()?)))
    }
}

/// Swallows the datagrams to one port. Dropping it lets them pass.
#[derive(Debug)]
struct Wall {
    place: Place,
    table: String,
}

impl Wall {
    fn start(place: &Place, port: u16) -> Result<Self> {
        let wall = Self { place: place.clone(), table: format!("rexecbench{port}") };
        wall.nft(&format!(
            "add table inet {table}; \
             add chain inet {table} out {{ type filter hook output priority 0; }}; \
             add rule inet {table} out udp dport {port} drop",
            table = wall.table
        ))?;
        Ok(wall)
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let output = Command::output(self.place.command(program("nft")).arg(rules))?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Drop for Wall {
    fn drop(&mut self) {
        let _ = self.nft(&format!("delete table inet {}", self.table));
    }
}
