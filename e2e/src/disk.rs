//! A disk that is full: a small tmpfs, mounted over a directory.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What takes the room.
const BALLAST: &str = "ballast";

/// The disk. Dropping it takes it away, and all that is on it.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one of this many bytes over an empty directory.
    ///
    /// # Errors
    /// When this is not root on Linux.
    pub fn mount(path: &Path, bytes: u64) -> Result<Self> {
        let size = format!("size={bytes},mode=0700");
        command("mount", &["-t", "tmpfs", "-o", &size, "rexec-e2e", &path.to_string_lossy()])?;
        Ok(Self { path: path.into() })
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// When it cannot be filled.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.path.join(BALLAST))?;
        let mut chunk = 64 * 1024;
        while chunk > 0 {
            match ballast.write(&vec![0; chunk]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => chunk /= 2,
                Err(error) => return Err(error).context("filling the disk"),
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When it was not full.
    pub fn clear(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.path.join(BALLAST))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is just ending may hold a file of it.
        let _ = command("umount", &["--lazy", &self.path.to_string_lossy()]);
    }
}

fn command(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} does not start"))?;
    if output.status.success() {
        Ok(())
    } else {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())
    }
}
