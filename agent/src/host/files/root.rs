//! Where paths begin, and how they are resolved: by the kernel, beneath one directory, with links that lead out leading back in.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rexec_shared::files::{Failure, PATH_MAX};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::failure::Fault;

/// The directory that is `/` to viewers.
#[derive(Debug)]
pub(in crate::host) struct Root {
    path: PathBuf,
}

/// A directory and a name in it, which is neither empty nor `.` nor `..`.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) directory: OwnedFd,
    pub(super) name: OsString,
    /// As a person wrote it.
    pub(super) path: String,
}

impl Root {
    pub(in crate::host) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where a home is as viewers see it: `/` when it is not beneath.
    pub(super) fn home(&self, home: &Path) -> String {
        let beneath = home.strip_prefix(&self.path).unwrap_or(Path::new(""));
        Path::new("/").join(beneath).to_string_lossy().into_owned()
    }

    /// Opens what is at `path`, links followed.
    pub(super) fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Fault> {
        self.resolve(path, Path::new(path), flags)
    }

    /// The directory that holds what is at `path`, links followed, and its name there, which is not looked at.
    pub(super) fn place(&self, path: &str) -> Result<Place, Fault> {
        check(path)?;
        let parsed = Path::new(path);
        let (Some(parent), Some(name)) = (parsed.parent(), parsed.file_name()) else {
            return Err(Fault::new(Failure::BadPath, "this cannot be done to the root directory"));
        };
        let directory = self.resolve(path, parent, OFlags::PATH | OFlags::DIRECTORY)?;
        // Of a descriptor that is a mere path nothing can be listed or synchronised.
        let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&directory, ".", readable, Mode::empty()).unwrap_or(directory);
        Ok(Place { directory, name: name.to_owned(), path: path.to_owned() })
    }

    /// As [`Root::place`], where a link at `path` stands for what it leads to, if that is there.
    pub(super) fn place_of_target(&self, path: &str) -> Result<Place, Fault> {
        let place = self.place(path)?;
        let Ok(target) = self.open(path, OFlags::PATH) else { return Ok(place) };
        let link = rustix::fs::readlinkat(
            rustix::fs::CWD,
            format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&target.as_fd())),
            Vec::new(),
        );
        let Ok(link) = link else { return Ok(place) };
        let real = PathBuf::from(OsString::from_vec(link.into_bytes()));
        let Ok(beneath) = real.strip_prefix(&self.path) else { return Ok(place) };
        match Path::new("/").join(beneath).to_str() {
            Some(real) if real != path => self.place(real),
            Some(_) | None => Ok(place),
        }
    }

    fn resolve(&self, said: &str, path: &Path, flags: OFlags) -> Result<OwnedFd, Fault> {
        check(said)?;
        // A descriptor that is a mere path takes no other flag.
        let tty = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY };
        let all = OFlags::CLOEXEC | tty | flags;
        let root =
            rustix::fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| Fault::system(self.path.display(), error))?;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&root, path, all, Mode::empty(), how) {
                // Somebody renames directories on the way, as the manual has it.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                opened => return opened.map_err(|error| Fault::system(said, error)),
            }
        }
    }
}

fn check(path: &str) -> Result<(), Fault> {
    let bad = |why: &str| Err(Fault::new(Failure::BadPath, format!("{}: {why}", shown(path))));
    if path.len() > PATH_MAX {
        return bad("a path has at most 4,096 bytes");
    }
    if path.as_bytes().contains(&0) {
        return bad("a path has no NUL");
    }
    let parsed = Path::new(path);
    if !parsed.is_absolute() {
        return bad("a path begins with /");
    }
    if parsed.components().any(|part| part == Component::ParentDir) {
        return bad("a path names no ..");
    }
    if parsed.components().any(|part| part.as_os_str().as_bytes().len() > 255) {
        return bad("a name has at most 255 bytes");
    }
    Ok(())
}

/// The beginning of it.
fn shown(path: &str) -> String {
    path.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
