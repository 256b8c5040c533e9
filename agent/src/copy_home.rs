//! A home copied into another one, for snapshots of sandboxes: run in a helper container that has nothing but the two.
//!
//! Owners, modes, times, links of both kinds, holes and named pipes come over. No link is followed. What lay in the target before is gone first, so
//! that a copy which was broken off is begun anew. The source may be somebody's and hostile: it is read in a container in which there is nothing to be had.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::stat::UtimensatFlags;
use nix::sys::time::TimeSpec;

/// Read at once, bytes: as much as a hole of a sparse file is looked for in.
const CHUNK: usize = 64 * 1024;
/// Deepest directory: a stack and a path have an end.
const DEPTH_MAX: usize = 512;

/// What was copied.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files; holes and second names are not counted.
    pub bytes: u64,
}

/// Makes `to` what `from` is.
///
/// # Errors
/// When something cannot be read or written: a snapshot that lacks something is none. What vanishes while it is copied is no error.
pub fn copy(from: &Path, to: &Path) -> io::Result<Copied> {
    empty(to)?;
    let mut copy = Copy { copied: Copied::default(), links: HashMap::new() };
    copy.directory(from, to, 0)?;
    like(to, &fs::symlink_metadata(from)?)?;
    Ok(copy.copied)
}

fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?
        } else {
            fs::remove_file(entry.path())?
        }
    }
    Ok(())
}

struct Copy {
    copied: Copied,
    /// Where files with several names were copied to.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn directory(&mut self, from: &Path, to: &Path, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other(format!("directories are nested deeper than {DEPTH_MAX}")));
        }
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            match self.entry(&source, &target, depth) {
                // Somebody removed it, or put something else there, a moment ago.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, to: &Path, depth: usize) -> io::Result<()> {
        let found = fs::symlink_metadata(from)?;
        let kind = found.file_type();
        if kind.is_dir() {
            fs::create_dir(to)?;
            self.directory(from, to, depth + 1)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
        } else if kind.is_file() {
            if self.is_second_name(&found, to)? {
                return Ok(());
            }
            self.copied.bytes += file(from, to)?;
        } else if kind.is_fifo() {
            nix::unistd::mkfifo(to, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
        } else {
            // A socket belongs to the process that listens on it, and devices nobody makes in a sandbox.
            return Ok(());
        }
        self.copied.entries += 1;
        like(to, &found)
    }

    /// A file with several names is copied once, and linked afterwards.
    fn is_second_name(&mut self, found: &Metadata, to: &Path) -> io::Result<bool> {
        if found.nlink() < 2 {
            return Ok(false);
        }
        match self.links.get(&(found.dev(), found.ino())) {
            Some(first) => fs::hard_link(first, to).map(|()| true),
            None => {
                self.links.insert((found.dev(), found.ino()), to.to_owned());
                Ok(false)
            }
        }
    }
}

/// Copies a file's bytes; blocks of zeros become holes.
fn file(from: &Path, to: &Path) -> io::Result<u64> {
    // Neither a link nor a pipe that was put there meanwhile is opened.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut source = File::options().read(true).custom_flags(flags).open(from)?;
    if !source.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    let mut chunk = vec![0; CHUNK];
    let (mut length, mut written) = (0, 0);
    loop {
        let read = source.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        length += read as u64;
        if bytes.iter().all(|byte| *byte == 0) {
            target.seek(SeekFrom::Start(length))?;
        } else {
            target.write_all(bytes)?;
            written += read as u64;
        }
    }
    target.set_len(length)?;
    Ok(written)
}

/// Owner, mode and times of what was found.
fn like(path: &Path, found: &Metadata) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(found.uid()), Some(found.gid()))?;
    if !found.file_type().is_symlink() {
        fs::set_permissions(path, fs::Permissions::from_mode(found.mode() & 0o7777))?;
    }
    let (accessed, changed) =
        (TimeSpec::new(found.atime(), found.atime_nsec()), TimeSpec::new(found.mtime(), found.mtime_nsec()));
    nix::sys::stat::utimensat(
        nix::fcntl::AT_FDCWD,
        path,
        &accessed,
        &changed,
        UtimensatFlags::NoFollowSymlink,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_over_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(to.join("stale"), "of a copy that was broken off").unwrap();
        fs::write(from.join("deep/er/file"), "words").unwrap();
        fs::set_permissions(from.join("deep/er/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(from.join("deep/er/file"), from.join("second")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", from.join("link")).unwrap();
        std::os::unix::fs::symlink("/", from.join("root")).unwrap();
        let mut sparse = File::create(from.join("sparse")).unwrap();
        sparse.seek(SeekFrom::Start(8 << 20)).unwrap();
        sparse.write_all(b"end").unwrap();
        drop(sparse);
        let copied = copy(&from, &to).unwrap();
        assert_eq!(
            copied.entries, 6,
            "two directories, one file by its first name, two links, one sparse file"
        );
        assert!(copied.bytes < 1 << 20, "{copied:?}");
        assert_eq!(fs::read(to.join("deep/er/file")).unwrap(), b"words");
        let (one, other) =
            (fs::metadata(to.join("second")).unwrap(), fs::metadata(to.join("deep/er/file")).unwrap());
        assert_eq!((one.ino(), one.mode() & 0o777), (other.ino(), 0o640));
        assert_eq!(other.mtime_nsec(), fs::metadata(from.join("second")).unwrap().mtime_nsec());
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/shadow"));
        assert_eq!(fs::read_link(to.join("root")).unwrap(), Path::new("/"));
        assert_eq!(fs::metadata(to.join("sparse")).unwrap().len(), (8 << 20) + 3);
        assert!(!to.join("stale").exists());
    }

    #[test]
    fn a_target_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(copy(dir.path(), &dir.path().join("missing")).is_err());
    }
}
