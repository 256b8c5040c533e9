//! rathole: a port of the machine's, reachable at a relay through a tunnel that the machine dials.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rexec_e2e::installation::free_port;
use rexec_e2e::process::Process;
use rexec_e2e::wait;

use crate::place::{Place, program};

const SOON: Duration = Duration::from_secs(15);

/// Server and client.
#[derive(Debug)]
pub(crate) struct Rathole {
    near: Place,
    dir: PathBuf,
    address: SocketAddr,
    server: Process,
    _client: Process,
}

impl Rathole {
    /// Makes `target`, at the far place, reachable at the near one.
    pub(crate) fn start(dir: &Path, near: Place, far: &Place, target: SocketAddr) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let here = Ipv4Addr::LOCALHOST.into();
        let address = SocketAddr::new(here, free_port(here)?);
        let relay = SocketAddr::new(near.host, free_port(near.host)?);
        let server = format!(
            "[server]\nbind_addr = \"{relay}\"\ndefault_token = \"bench\"\n[server.services.ssh]\nbind_addr = \"{address}\"\n"
        );
        let client = format!(
            "[client]\nremote_addr = \"{relay}\"\ndefault_token = \"bench\"\n[client.services.ssh]\nlocal_addr = \"{target}\"\n"
        );
        std::fs::write(dir.join("server.toml"), server)?;
        std::fs::write(dir.join("client.toml"), client)?;
        let server = run(&near, dir, "server")?;
        let client = run(far, dir, "client")?;
        let made = Self { near, dir: dir.into(), address, server, _client: client };
        made.wait_open()?;
        Ok(made)
    }

    /// Where the tunnel begins.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The relay's process.
    pub(crate) fn relay(&self) -> u32 {
        self.server.pid()
    }

    /// Kills the relay without a word.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.server.kill_9()
    }

    /// Starts the relay again; its client comes back by itself.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.server = run(&self.near, &self.dir, "server")?;
        self.wait_open()
    }

    fn wait_open(&self) -> Result<()> {
        wait::until("rathole's port", SOON, || TcpStream::connect(self.address).ok())
            .map(drop)
            .map_err(|error| error.context(self.server.log()))
    }
}

fn run(place: &Place, dir: &Path, side: &str) -> Result<Process> {
    let mut command = place.command(program("rathole"));
    command.arg(format!("--{side}")).arg(dir.join(format!("{side}.toml")));
    Process::start(&format!("rathole --{side}"), command, &dir.join(format!("{side}-log")))
}
