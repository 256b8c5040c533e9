//! What the server's process uses, as the kernel tells it.

use std::time::Duration;

use anyhow::{Context, Result};
use rexec_e2e::process::resident_kib;

use crate::measure::processor_time;

/// The server's process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pid: u32,
}

/// What it uses at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) resident_kib: f64,
    /// User and system, since it began.
    pub(crate) cpu: Duration,
    /// Open files.
    pub(crate) descriptors: usize,
}

impl Server {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid }
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        let (resident, _) = resident_kib(self.pid).context("the server is gone")?;
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.pid))?.count();
        Ok(Usage { resident_kib: resident as f64, cpu: processor_time(self.pid), descriptors })
    }
}
