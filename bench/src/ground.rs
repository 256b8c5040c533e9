//! Where is measured: this machine alone, or this machine and another one behind a bad network.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rexec_e2e::installation::Options;
use rexec_e2e::netlab::Netlab;
use rexec_e2e::netlab::line::Shape;
use rexec_e2e::{Installation, Machine};
use tempfile::TempDir;

use crate::peer::Peer;
use crate::ssh::{Place, ReverseTunnel, Sshd};

/// Everything that runs. Fields are dropped in this order: processes before the network they use.
#[derive(Debug)]
pub(crate) struct Ground {
    machine: Machine,
    installation: Installation,
    tunnel: ReverseTunnel,
    direct: Sshd,
    relay: Sshd,
    dir: TempDir,
    _network: Option<Netlab>,
}

impl Ground {
    /// All on loopback.
    pub(crate) fn loopback() -> Result<Self> {
        let here = Place { host: Ipv4Addr::LOCALHOST.into(), namespace: None };
        Self::start(here.clone(), here, None)
    }

    /// The machine and its sshd in a namespace behind a network with this round trip, that loses this part of its packets each way.
    pub(crate) fn bad_network(rtt: Duration, loss: f64) -> Result<Self> {
        let network = Netlab::new().context("a network")?;
        let near = Place { host: IpAddr::V4(network.host()), namespace: None };
        let far = Place { host: IpAddr::V4(network.guest()), namespace: Some(network.name().to_owned()) };
        // Set up on a perfect network, so that what is measured is not the setting up.
        let ground = Self::start(near, far, Some(network))?;
        if let Some(network) = &ground._network {
            network.shape(Shape::half_of(rtt, loss));
        }
        Ok(ground)
    }

    fn start(near: Place, far: Place, network: Option<Netlab>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rexec-bench-").tempdir()?;
        let options = Options { host: near.host, ..Options::default() };
        let installation = Installation::start_with(options).context("an installation")?;
        let machine =
            Machine::start_in(&installation, "bench", far.namespace.as_deref()).context("a machine")?;
        let direct = Sshd::start(&dir.path().join("direct"), far)?;
        let relay = Sshd::start(&dir.path().join("relay"), near)?;
        let tunnel = direct.behind(&relay)?;
        Ok(Self { machine, installation, tunnel, direct, relay, dir, _network: network })
    }

    /// The ways to the machine.
    pub(crate) fn peers(&self) -> Result<[Peer<'_>; 3]> {
        Ok([
            Peer::rexec(self.installation.owner(), &self.machine, self.installation.control_pid()?),
            Peer::ssh("ssh", &self.direct, self.direct.address(), None),
            Peer::ssh("ssh -R", &self.direct, self.tunnel.address(), Some(self.relay.pid())),
        ])
    }

    /// A place for files.
    pub(crate) fn scratch(&self) -> &Path {
        self.dir.path()
    }
}
