//! OpenSSH on private ports, with keys made for this run.

use std::fs::create_dir_all;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use rexec_e2e::installation::free_port;
use rexec_e2e::process::Process;
use rexec_e2e::wait;

const SOON: Duration = Duration::from_secs(10);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A server of one's own, reachable on loopback alone.
#[derive(Debug)]
pub(crate) struct Sshd {
    dir: PathBuf,
    port: u16,
    process: Process,
}

/// A server's port as seen at a relay.
#[derive(Debug)]
pub(crate) struct ReverseTunnel {
    port: u16,
    _process: Process,
}

impl ReverseTunnel {
    /// The port at the relay.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Sshd {
    /// Starts a server whose keys and log are in `dir`.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        create_dir_all(dir)?;
        make_key(&dir.join("host"))?;
        make_key(&dir.join("user"))?;
        let port = free_port(Ipv4Addr::LOCALHOST.into())?;
        let config = dir.join("sshd_config");
        std::fs::write(&config, configuration(dir, port))?;
        if Path::new("/run").is_dir() && !Path::new("/run/sshd").is_dir() {
            // Where a server that runs as root locks its unprivileged half in; packages make it when the service starts.
            let _ = create_dir_all("/run/sshd");
        }
        let mut command = Command::new(program("sshd"));
        command.arg("-D").arg("-e").arg("-f").arg(&config);
        let process = Process::start("sshd", command, &dir.join("log"))?;
        let server = Self { dir: dir.into(), port, process };
        server.wait_open(port)?;
        Ok(server)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `ssh` with the key that this server lets in, and nothing of the user's own configuration.
    pub(crate) fn client(&self, port: u16) -> Command {
        let mut command = Command::new(program("ssh"));
        command.args(["-F", "none", "-e", "none", "-p", &port.to_string()]);
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
        let port = free_port(Ipv4Addr::LOCALHOST.into())?;
        let mut command = relay.client(relay.port);
        command.args(["-N", "-o", "ExitOnForwardFailure=yes", "-R"]);
        command.arg(format!("127.0.0.1:{port}:127.0.0.1:{}", self.port)).arg("127.0.0.1");
        let process = Process::start("ssh -R", command, &self.dir.join("tunnel-log"))?;
        self.wait_open(port)?;
        Ok(ReverseTunnel { port, _process: process })
    }

    fn wait_open(&self, port: u16) -> Result<()> {
        wait::until("an OpenSSH port", SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
            .map(drop)
            .map_err(|error| error.context(self.process.log()))
    }
}

fn configuration(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\nPidFile none\n\
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

/// sshd insists on an absolute path of its own.
fn program(name: &str) -> PathBuf {
    let found = PATH.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| name.into())
}
