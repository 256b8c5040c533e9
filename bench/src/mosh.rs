//! mosh: a server that keeps a screen, and a client that draws what of it has changed.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rexec_e2e::installation::free_port;
use rexec_e2e::process::kill_9;
use tokio::process::{Child, Command};

use crate::place::{Place, program};
use crate::terminal::Terminal;

/// Drawn at once at most, bytes.
const DRAWN: usize = 64 * 1024;
/// Both ends insist on a locale of UTF-8.
const LOCALE: (&str, &str) = ("LC_ALL", "C.UTF-8");

/// A program behind mosh. Dropping it ends client and server.
#[derive(Debug)]
pub(crate) struct MoshLine {
    terminal: Terminal,
    server: u32,
    buffer: Vec<u8>,
    /// Ends with the line.
    _client: Child,
}

impl MoshLine {
    /// Runs a shell script behind a server of its own at this place.
    pub(crate) fn start(place: &Place, script: &str) -> Result<Self> {
        let port = free_port(Ipv4Addr::LOCALHOST.into())?.to_string();
        let host = place.host.to_string();
        let mut command = place.command(program("mosh-server"));
        command.args(["new", "-i", &host, "-p", &port, "--", "/bin/sh", "-c", script]);
        // A server whose bench was killed ends by itself.
        command.env(LOCALE.0, LOCALE.1).env("MOSH_SERVER_NETWORK_TMOUT", "120");
        let output = command.output().context("mosh-server does not start")?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let server = number_after(&said, "detached, pid = ").with_context(|| said.to_string())?;
        let key = said.lines().find_map(|line| line.strip_prefix(&format!("MOSH CONNECT {port} ")));
        let (terminal, end) = Terminal::open()?;
        let client = client(&host, &port, key.with_context(|| said.to_string())?, end)?;
        Ok(Self { terminal, server, buffer: vec![0; DRAWN], _client: client })
    }

    /// The server's process.
    pub(crate) fn server(&self) -> u32 {
        self.server
    }

    /// Types.
    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<()> {
        Ok(self.terminal.write(bytes).await?)
    }

    /// What the client draws next.
    pub(crate) async fn read_some(&mut self) -> Result<&[u8]> {
        let drawn = self.terminal.read(&mut self.buffer).await?;
        ensure!(drawn > 0, "mosh-client ended");
        Ok(self.buffer.get(..drawn).unwrap_or_default())
    }
}

impl Drop for MoshLine {
    fn drop(&mut self) {
        let _ = kill_9(self.server);
    }
}

fn client(host: &str, port: &str, key: &str, terminal: OwnedFd) -> Result<Child> {
    let mut command = Command::new(program("mosh-client"));
    command
        .args([host, port])
        .env("MOSH_KEY", key.trim())
        .env(LOCALE.0, LOCALE.1)
        .env("TERM", "xterm-256color");
    // What is guessed before the machine has echoed it is not what is measured.
    command.env("MOSH_PREDICTION_DISPLAY", "never");
    let (input, output) = (terminal.try_clone()?, terminal.try_clone()?);
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(terminal));
    command.kill_on_drop(true).spawn().context("mosh-client does not start")
}

fn number_after(text: &str, label: &str) -> Option<u32> {
    let rest = text.get(text.find(label)? + label.len()..)?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}
