//! Directories made, things renamed and removed. Links are handled themselves, never what they lead to.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rexec_shared::files::{Failure, Outcome};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};

use super::Tell;
use super::entries::entry_at;
use super::failure::Fault;
use super::root::Root;

/// Directories in directories that are removed in one go: each costs a descriptor.
const DEPTH_MAX: usize = 128;
/// How often a long removal tells how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Makes a directory, with the permissions that the account's mask leaves.
pub(super) fn make_directory(root: &Root, path: &str) -> Result<Outcome, Fault> {
    let place = root.place(path)?;
    rustix::fs::mkdirat(&place.directory, &place.name, Mode::from_raw_mode(0o777))
        .map_err(|error| Fault::system(path, error))?;
    entry_at(root, &place)
}

/// Gives something another name where there is nothing.
pub(super) fn rename(root: &Root, from: &str, to: &str) -> Result<Outcome, Fault> {
    let (old, new) = (root.place(from)?, root.place(to)?);
    rustix::fs::renameat_with(&old.directory, &old.name, &new.directory, &new.name, RenameFlags::NOREPLACE)
        .map_err(|error| {
        let of_target = error == rustix::io::Errno::EXIST;
        let inside = error == rustix::io::Errno::INVAL;
        if inside {
            return Fault::new(Failure::BadPath, format!("{from}: a directory cannot be moved into itself"));
        }
        Fault::system(if of_target { to } else { from }, error)
    })?;
    entry_at(root, &new)
}

/// Removes something; a directory with all that is in it if `recursive`.
pub(super) fn delete(root: &Root, path: &str, recursive: bool, tell: &Tell) -> Result<Outcome, Fault> {
    let place = root.place(path)?;
    let directory = place.directory.as_fd();
    let stat = rustix::fs::statat(directory, &place.name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| Fault::system(path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        rustix::fs::unlinkat(directory, &place.name, AtFlags::empty())
            .map_err(|error| Fault::system(path, error))?;
        return Ok(Outcome::Done);
    }
    if recursive {
        let mut removal = Removal { tell, done: 0, told: Instant::now() };
        removal.empty(directory, &place.name, path, 0)?;
    }
    rustix::fs::unlinkat(directory, &place.name, AtFlags::REMOVEDIR)
        .map_err(|error| Fault::system(path, error))?;
    Ok(Outcome::Done)
}

struct Removal<'a> {
    tell: &'a Tell,
    done: u64,
    told: Instant,
}

impl Removal<'_> {
    /// Removes everything in the directory `name`.
    fn empty(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &str, depth: usize) -> Result<(), Fault> {
        if depth == DEPTH_MAX {
            let message = format!("{path}: directories lie more than {DEPTH_MAX} deep here: remove it first");
            return Err(Fault::new(Failure::Io, message));
        }
        let fault = |error| Fault::system(path, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(fault)?;
        let entries: Result<Vec<_>, _> = Dir::read_from(&directory).map_err(fault)?.collect();
        for entry in entries.map_err(fault)? {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.remove(directory.as_fd(), OsStr::from_bytes(name.to_bytes()), path, depth)?;
        }
        Ok(())
    }

    fn remove(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &str,
        depth: usize,
    ) -> Result<(), Fault> {
        self.tell.check()?;
        let path = format!("{path}/{}", name.to_string_lossy());
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {
                self.empty(parent, name, &path, depth + 1)?;
                rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
                    .map_err(|error| Fault::system(&path, error))?;
            }
            // Somebody else was faster.
            Err(rustix::io::Errno::NOENT) => {}
            removed => removed.map_err(|error| Fault::system(&path, error))?,
        }
        self.done += 1;
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            self.tell.say(Outcome::Progress { entries: self.done })?;
        }
        Ok(())
    }
}
