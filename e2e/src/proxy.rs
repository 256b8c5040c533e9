//! An HTTP proxy as offices have them: a real tinyproxy that lets CONNECT pass.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::installation::free_port;
use crate::process::Process;
use crate::wait;

const SOON: Duration = Duration::from_secs(10);

/// A proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    configuration: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Proxy {
    /// Starts one at an address of this machine.
    ///
    /// # Errors
    /// When tinyproxy is not there or does not start.
    pub fn start(host: Ipv4Addr, dir: &Path) -> Result<Self> {
        let address = SocketAddr::new(host.into(), free_port(host.into())?);
        let configuration = dir.join("tinyproxy.conf");
        let text =
            format!("Port {}\nListen {host}\nTimeout 600\nMaxClients 50\nLogLevel Connect\n", address.port());
        std::fs::write(&configuration, text)?;
        let mut proxy = Self { address, configuration, log: dir.join("tinyproxy.log"), process: None };
        proxy.run()?;
        Ok(proxy)
    }

    /// Its address, as `HTTPS_PROXY` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it, and with it every connection through it.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("the proxy does not run")?.kill_9()
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run(&mut self) -> Result<()> {
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&self.configuration);
        let process = Process::start("tinyproxy", command, &self.log)?;
        wait::until("the proxy's port", SOON, || TcpStream::connect(self.address).ok())
            .with_context(|| process.log())?;
        self.process = Some(process);
        Ok(())
    }
}
