//! OpenSSH on private ports, with keys made for this run.

use std::fs::create_dir_all;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use rexec_e2e::installation::free_port;
use rexec_e2e::process::{Process, family, kill_9};
use rexec_e2e::wait;

use crate::place::{Place, program};

const SOON: Duration = Duration::from_secs(10);

/// A server of one's own.
#[derive(Debug)]
pub(crate) struct Sshd {
    dir: PathBuf,
    address: SocketAddr,
    place: Place,
    process: Process,
}

/// One connection to a server that sessions share, as `ControlMaster` makes it.
#[derive(Debug)]
pub(crate) struct Master {
    socket: PathBuf,
    _process: Process,
}

impl Master {
    /// Where sessions ask for a place on it.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

/// A server's port as seen at a relay.
#[derive(Debug)]
pub(crate) struct ReverseTunnel {
    address: SocketAddr,
    _process: Process,
}

impl ReverseTunnel {
    /// Where it begins, at the relay.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Sshd {
    /// Starts a server whose keys and log are in `dir`.
    pub(crate) fn start(dir: &Path, place: Place) -> Result<Self> {
        create_dir_all(dir)?;
        make_key(&dir.join("host"))?;
        make_key(&dir.join("user"))?;
        // A namespace of its own has every port free that is free here.
        let address = SocketAddr::new(place.host, free_port(Ipv4Addr::LOCALHOST.into())?);
        let config = dir.join("sshd_config");
        std::fs::write(&config, configuration(dir, address))?;
        if Path::new("/run").is_dir() && !Path::new("/run/sshd").is_dir() {
            // Where a server that runs as root locks its unprivileged half in; packages make it when the service starts.
            let _ = create_dir_all("/run/sshd");
        }
        let process = serve(&place, dir)?;
        let server = Self { dir: dir.into(), address, place, process };
        server.wait_open(address)?;
        Ok(server)
    }

    /// Kills it without a word, with every connection it has.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let own = family(self.pid());
        // Those that a child of a child was killed with are gone already.
        own.into_iter().skip(1).for_each(|pid| drop(kill_9(pid)));
        self.process.kill_9()
    }

    /// Starts it again where it was.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.process = serve(&self.place, &self.dir)?;
        self.wait_open(self.address)
    }

    /// Where it is found.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `ssh` with the key that this server lets in, and nothing of the user's own configuration; the host and what to run are still to come.
    pub(crate) fn client(&self, from: &Place, to: SocketAddr) -> Command {
        let mut command = from.command(program("ssh"));
        command.args(["-F", "none", "-e", "none", "-p", &to.port().to_string()]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
            "IdentitiesOnly=yes",
        ] {
            command.args(["-o", option]);
        }
        command.arg("-i").arg(self.dir.join("user"));
        command
    }

    /// Makes this server reachable at a port of the relay, by a tunnel that it dials itself.
    pub(crate) fn behind(&self, relay: &Self) -> Result<ReverseTunnel> {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port(Ipv4Addr::LOCALHOST.into())?);
        let mut command = relay.client(&self.place, relay.address);
        command.args(["-N", "-o", "ExitOnForwardFailure=yes", "-R"]);
        command.arg(format!("{address}:{}", self.address)).arg(relay.address.ip().to_string());
        let process = Process::start("ssh -R", command, &self.dir.join("tunnel-log"))?;
        self.wait_open(address)?;
        Ok(ReverseTunnel { address, _process: process })
    }

    /// Opens a connection from here that sessions can share.
    pub(crate) fn master(&self, from: &Place) -> Result<Master> {
        let socket = self.dir.join("master");
        let mut command = self.client(from, self.address);
        command.arg("-M").arg("-N").arg("-S").arg(&socket).arg(self.address.ip().to_string());
        let process = Process::start("ssh -M", command, &self.dir.join("master-log"))?;
        wait::until("a shared connection", SOON, || socket.exists().then_some(()))
            .map_err(|error| error.context(process.log()))?;
        Ok(Master { socket, _process: process })
    }

    fn wait_open(&self, address: SocketAddr) -> Result<()> {
        wait::until("an OpenSSH port", SOON, || TcpStream::connect(address).ok())
            .map(drop)
            .map_err(|error| error.context(self.process.log()))
    }
}

fn serve(place: &Place, dir: &Path) -> Result<Process> {
    let mut command = place.command(program("sshd"));
    command.arg("-D").arg("-e").arg("-f").arg(dir.join("sshd_config"));
    Process::start("sshd", command, &dir.join("log"))
}

fn configuration(dir: &Path, address: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        "ListenAddress {address}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\nPidFile none\n\
         StrictModes no\nUsePAM no\nUseDNS no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
         MaxStartups 100\nMaxSessions 100\nPrintMotd no\nPrintLastLog no\n"
    )
}

fn make_key(path: &Path) -> Result<()> {
    let output = Command::new(program("ssh-keygen"))
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .output()?;
    if output.status.success() {
        Ok(())
    } else {
        bail!("ssh-keygen: {}", String::from_utf8_lossy(&output.stderr))
    }
}
