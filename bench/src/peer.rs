//! One way to a remote program: what is typed goes in, what it prints comes out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rexec_e2e::viewer::{find, terminal};
use rexec_e2e::{Api, Machine, ViewerClient};
use rexec_shared::message::ViewerMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::kind::PeerKind;
use crate::mosh::MoshLine;
use crate::place::Place;
use crate::ssh::Sshd;

/// A program begins within this on the worst of networks.
const DEADLINE: Duration = Duration::from_secs(30);
/// A line discipline turns its line feed into two bytes.
const READY: &[u8] = b"READY";
/// What is typed to measure an echo; the control sequences of a screen hold none.
pub(crate) const TYPED: u8 = b'x';
/// Read from ssh at once, bytes.
const READ: usize = 256 * 1024;

/// A way to the machine.
#[derive(Debug)]
pub(crate) struct Peer<'a> {
    kind: PeerKind,
    way: Way<'a>,
    /// The process between the two ends, whose work is counted.
    relay: Option<u32>,
}

/// How the way is gone.
#[derive(Debug)]
pub(crate) enum Way<'a> {
    /// Rexec's whole path.
    Rexec {
        /// Whose sessions.
        api: &'a Api,
        /// Where to.
        machine: &'a Machine,
    },
    /// OpenSSH to an address that leads to `server`.
    Ssh {
        /// The server at the end.
        server: &'a Sshd,
        /// Where the way begins.
        address: SocketAddr,
        /// Socket of a connection that is there already, to share.
        shared: Option<&'a Path>,
    },
    /// mosh to servers at this place.
    Mosh {
        /// The place.
        place: &'a Place,
    },
}

impl<'a> Peer<'a> {
    /// A way, and the process between its ends.
    pub(crate) fn new(kind: PeerKind, way: Way<'a>, relay: Option<u32>) -> Self {
        Self { kind, way, relay }
    }

    /// What it is called in the report.
    pub(crate) fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// The process between the ends, if there is one.
    pub(crate) fn relay(&self) -> Option<u32> {
        self.relay
    }

    /// Whether every byte printed comes, not only what a screen shows in the end.
    pub(crate) fn carries_every_byte(&self) -> bool {
        !matches!(self.way, Way::Mosh { .. })
    }

    /// Runs a shell script in a new terminal without line discipline, and waits until it has begun.
    pub(crate) async fn run(&self, script: &str) -> Result<Line> {
        self.start(&format!("stty raw -echo; echo READY; {script}")).await
    }

    /// Runs a shell script in a new terminal as it is, and waits until it has said `READY`.
    pub(crate) async fn start(&self, script: &str) -> Result<Line> {
        match &self.way {
            Way::Rexec { api, machine } => {
                let command = Some(vec!["/bin/sh".into(), "-c".into(), script.to_owned()]);
                Line::rexec(ViewerClient::open(api, machine.id(), terminal(command)).await?).await
            }
            Way::Ssh { server, address, shared } => {
                Line::ssh(server, *address, *shared, script)?.ready().await
            }
            Way::Mosh { place } => Line::Mosh(Box::new(MoshLine::start(place, script)?)).ready().await,
        }
    }
}

/// A running program.
#[derive(Debug)]
pub(crate) enum Line {
    /// Through Rexec; `read` bytes of its output were taken.
    Rexec {
        /// The viewer.
        viewer: Box<ViewerClient>,
        /// Bytes of output taken.
        read: usize,
    },
    /// Through ssh.
    Ssh(Box<SshLine>),
    /// Through mosh.
    Mosh(Box<MoshLine>),
}

/// A program behind ssh.
#[derive(Debug)]
pub(crate) struct SshLine {
    /// Ends with the line.
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// Room to read into.
    buffer: Vec<u8>,
}

impl Line {
    /// A viewer of a session just opened, whose program says `READY` first.
    pub(crate) async fn rexec(viewer: ViewerClient) -> Result<Self> {
        Self::Rexec { viewer: Box::new(viewer), read: 0 }.ready().await
    }

    async fn ready(mut self) -> Result<Self> {
        timeout(DEADLINE, self.read_ready()).await.context("the program did not begin")??;
        Ok(self)
    }

    fn ssh(server: &Sshd, address: SocketAddr, shared: Option<&Path>, script: &str) -> Result<Self> {
        let here = Place { host: address.ip(), namespace: None };
        let mut command = tokio::process::Command::from(server.client(&here, address));
        if let Some(socket) = shared {
            command.arg("-S").arg(socket);
        }
        command.args(["-tt", &address.ip().to_string(), script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().context("ssh does not start")?;
        let (input, output) = (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
        Ok(Self::Ssh(Box::new(SshLine { _child: child, input, output, buffer: vec![0; READ] })))
    }

    /// Types.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Rexec { viewer, .. } => viewer.type_bytes(bytes),
            Self::Ssh(line) => Ok(line.input.write_all(bytes).await?),
            Self::Mosh(line) => line.write(bytes).await,
        }
    }

    /// Waits until this many more `x` were printed. mosh draws screens: one of them is all that can be waited for.
    pub(crate) async fn read(&mut self, bytes: usize) -> Result<()> {
        match self {
            Self::Rexec { viewer, read } => {
                *read += bytes;
                while viewer.output().len() < *read {
                    viewer.next().await?;
                }
            }
            Self::Ssh(line) => line.read(bytes).await?,
            Self::Mosh(line) => while !line.read_some().await?.contains(&TYPED) {},
        }
        Ok(())
    }

    /// Ends the program. One behind Rexec would live on without its viewer, and take processor time from what is measured next.
    pub(crate) async fn end(self) -> Result<()> {
        match self {
            Self::Rexec { mut viewer, .. } => {
                viewer.send(&ViewerMessage::Close);
                let ended = async {
                    while viewer.exit().is_none() && viewer.next().await.is_ok() {
                        viewer.take_output();
                    }
                };
                timeout(DEADLINE, ended).await.context("the session did not end")
            }
            Self::Ssh(_) | Self::Mosh(_) => Ok(()),
        }
    }

    /// The process of its own that serves it on the machine, if it is mosh's.
    pub(crate) fn mosh_server(&self) -> Option<u32> {
        match self {
            Self::Mosh(line) => Some(line.server()),
            Self::Rexec { .. } | Self::Ssh(_) => None,
        }
    }

    /// Reads whatever comes, for ever.
    pub(crate) async fn drain(&mut self) -> Result<Infallible> {
        loop {
            self.read_some().await?;
        }
    }

    /// Waits until `text` has been printed, from here on.
    pub(crate) async fn read_until(&mut self, text: &[u8]) -> Result<()> {
        let mut tail = Vec::new();
        while find(&tail, text).is_none() {
            let keep = tail.len().saturating_sub(text.len());
            tail.drain(..keep);
            tail.extend(self.read_some().await?);
        }
        Ok(())
    }

    async fn read_some(&mut self) -> Result<Vec<u8>> {
        match self {
            Self::Rexec { viewer, read } => {
                while viewer.output().is_empty() {
                    viewer.next().await?;
                }
                *read = 0;
                Ok(viewer.take_output())
            }
            Self::Ssh(line) => {
                let taken = line.output.read(&mut line.buffer).await?;
                ensure!(taken > 0, "ssh ended");
                Ok(line.buffer.get(..taken).unwrap_or_default().to_vec())
            }
            Self::Mosh(line) => Ok(line.read_some().await?.to_vec()),
        }
    }

    async fn read_ready(&mut self) -> Result<()> {
        match self {
            Self::Rexec { viewer, read } => {
                while find(viewer.output(), READY).is_none() || !viewer.output().ends_with(b"\n") {
                    viewer.next().await?;
                }
                viewer.take_output();
                *read = 0;
            }
            Self::Ssh(line) => {
                let mut seen = Vec::new();
                while find(&seen, READY).is_none() || seen.last() != Some(&b'\n') {
                    seen.push(line.output.read_u8().await?);
                }
            }
            Self::Mosh(_) => self.read_until(READY).await?,
        }
        Ok(())
    }
}

impl SshLine {
    async fn read(&mut self, bytes: usize) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let room = left.min(self.buffer.len());
            match self.output.read(self.buffer.get_mut(..room).unwrap_or_default()).await? {
                0 => bail!("ssh ended with {left} bytes to come"),
                taken => left -= taken,
            }
        }
        Ok(())
    }
}
