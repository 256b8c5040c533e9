//! A pseudo-terminal for a client that draws a screen instead of passing bytes on.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The usual size.
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// The end that a person looks at and types into.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: AsyncFd<OwnedFd>,
}

impl Terminal {
    /// Makes one; returned with it is the end for the client.
    pub(crate) fn open() -> Result<(Self, OwnedFd)> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let client = open(ptsname(&master, Vec::new())?, flags, Mode::empty()).context("a terminal")?;
        tcsetwinsize(&client, SIZE)?;
        fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        Ok((Self { master: watch(master)? }, client))
    }

    /// Takes what the client has drawn since.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.master.async_io(Interest::READABLE, |master| Ok(rustix::io::read(master, &mut *buffer)?)).await
    }

    /// Types.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let write = |master: &OwnedFd| Ok(rustix::io::write(master, rest)?);
            let written = self.master.async_io(Interest::WRITABLE, write).await?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

#[expect(
    unsafe_code,
    reason = "tokio wants to be promised that a descriptor stays open while it is registered"
)]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the `AsyncFd` owns the descriptor, which therefore stays open, and the same, for as long as it is registered.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
