//! What an installation as root leaves for every user of a machine: the address of the installation, and nothing secret.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use url::Url;

use super::StateError;

/// Where it lies.
pub(super) const DIR: &str = "/etc/rexec-agent";
const FILE: &str = "server";
/// Longest address read, bytes.
const SERVER_MAX: u64 = 4096;

/// The address; none when there is no file, or one that others than root could have written.
pub(super) fn read_server(dir: &Path) -> Option<Url> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(dir.join(FILE)).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return None;
    }
    let mut text = String::new();
    file.take(SERVER_MAX).read_to_string(&mut text).ok()?;
    crate::control_api::parse_server(&text).ok()
}

/// Replaces the address.
pub(super) fn write_server(dir: &Path, server: &Url) -> Result<(), StateError> {
    let written = || {
        DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
        let staged = dir.join(format!(".{FILE}.{:08x}", rand::random::<u32>()));
        let mut file = File::create_new(&staged)?;
        file.set_permissions(PermissionsExt::from_mode(0o644))?;
        writeln!(file, "{server}")?;
        file.sync_all()?;
        fs::rename(staged, dir.join(FILE))
    };
    written().map_err(|source| StateError::Io { action: "write", path: dir.join(FILE), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_root_leaves_is_read_by_all_and_believed_only_if_it_is_roots() {
        let dir = tempfile::tempdir().unwrap();
        let server = Url::parse("https://rexec.example/").unwrap();
        write_server(dir.path(), &server).unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o644);
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(read_server(dir.path()), is_root.then_some(server));
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(read_server(dir.path()), None);
    }
}
