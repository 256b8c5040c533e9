//! Files that nobody else can read, plant or see half-written.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, OFlags, access, fstatvfs};
use serde::Serialize;

use super::StateError;

/// Largest file we read, bytes: a registration with its authority is a few KiB.
const FILE_MAX: u64 = 256 * 1024;
/// Tries to take the lock before believing that another process runs.
const LOCK_TRIES: u32 = 5;
/// Pause between them: longer than looking at the lock takes.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Whether a file may be readable by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privacy {
    /// A certificate, a setting: others may read it, nobody else may write it.
    Public,
    /// A key.
    Secret,
}

impl Privacy {
    fn forbidden(self) -> u32 {
        match self {
            Self::Public => 0o022,
            Self::Secret => 0o077,
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_path_buf();
    move |source| StateError::Io { action, path, source }
}

fn options(flags: OFlags) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((flags | OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed()).mode(0o600);
    options
}

fn check_owner(path: &Path, owner: u32) -> Result<(), StateError> {
    let euid = rustix::process::geteuid().as_raw();
    if owner == euid { Ok(()) } else { Err(StateError::NotOwned { path: path.into(), owner, euid }) }
}

/// Makes a directory 0700 with its parents; one that exists must be ours, and is closed to others.
pub(super) fn ensure_dir(path: &Path) -> Result<(), StateError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))?;
    let dir = options(OFlags::DIRECTORY).read(true).open(path).map_err(failed("open", path))?;
    let meta = dir.metadata().map_err(failed("look at", path))?;
    check_owner(path, meta.uid())?;
    if meta.mode() & 0o077 != 0 {
        dir.set_permissions(PermissionsExt::from_mode(0o700)).map_err(failed("close", path))?;
    }
    Ok(())
}

/// What a directory of ours is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    /// Permissions.
    pub mode: u32,
    /// What we may still write there, bytes.
    pub free_bytes: u64,
}

impl Directory {
    /// Whether others may enter or read it.
    pub fn is_open(self) -> bool {
        self.mode & 0o077 != 0
    }
}

/// Looks at a directory that must be ours to write in; `None` when it is not there. Changes nothing.
pub(super) fn look(path: &Path) -> Result<Option<Directory>, StateError> {
    let dir = match options(OFlags::DIRECTORY).read(true).open(path) {
        Ok(dir) => dir,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let meta = dir.metadata().map_err(failed("look at", path))?;
    check_owner(path, meta.uid())?;
    access(path, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| failed("write in", path)(error.into()))?;
    let room = fstatvfs(&dir).map_err(|error| failed("look at", path)(error.into()))?;
    let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
    Ok(Some(Directory { mode: meta.mode() & 0o7777, free_bytes }))
}

/// Reads one of our files; `None` when it is not there.
pub(super) fn read(path: &Path, privacy: Privacy) -> Result<Option<Vec<u8>>, StateError> {
    // Without NONBLOCK, a FIFO planted here would hang us before we could see what it is.
    let mut file = match options(OFlags::NONBLOCK).read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let meta = file.metadata().map_err(failed("look at", path))?;
    check_owner(path, meta.uid())?;
    let broken = |reason: &str| StateError::Broken { path: path.into(), reason: reason.into() };
    if !meta.is_file() {
        return Err(broken("it is not a plain file"));
    }
    if meta.mode() & privacy.forbidden() != 0 {
        return Err(StateError::TooOpen { path: path.into(), mode: meta.mode() & 0o7777 });
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(broken("it is larger than anything the agent writes"));
    }
    Ok(Some(bytes))
}

/// Replaces a file: written beside it, synced, renamed over it, directory synced.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let broken = || StateError::Broken { path: path.into(), reason: "it has no file name".into() };
    let (dir, name) = path.parent().zip(path.file_name()).ok_or_else(broken)?;
    let temporary = dir.join(format!(".{}.{:08x}", name.to_string_lossy(), rand::random::<u32>()));
    let written = write_new(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed("write", path)(error)
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = options(OFlags::empty()).write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces a file with a value's JSON.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    let json = serde_json::to_vec_pretty(value)
        .map_err(|error| StateError::Broken { path: path.into(), reason: error.to_string() })?;
    write(path, &json)
}

/// Removes a file; one that is not there is removed already.
pub(super) fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Opens a file of ours for appending, making it when needed.
pub(super) fn open_append(path: &Path) -> Result<File, StateError> {
    let file =
        options(OFlags::NONBLOCK).append(true).create(true).open(path).map_err(failed("open", path))?;
    let meta = file.metadata().map_err(failed("look at", path))?;
    check_owner(path, meta.uid())?;
    Ok(file)
}

/// Held by the process that runs a profile's session host; the kernel lets go when it dies, however it dies.
#[derive(Debug)]
pub struct RunLock(#[expect(dead_code, reason = "the descriptor is the lock")] File);

impl RunLock {
    /// Keeps the lock for as long as this process lives, so that whoever sees it free sees the process gone too.
    pub fn hold_until_exit(self) {
        std::mem::forget(self);
    }

    pub(super) fn try_take(path: &Path) -> Result<Option<Self>, StateError> {
        let file = open_append(path)?;
        // A `status` that looks at this very moment holds the lock shared for an instant; it must not make a start fail.
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(failed("lock", path)(error)),
            }
        }
        Ok(None)
    }

    pub(super) fn is_held(path: &Path) -> Result<bool, StateError> {
        let file = match options(OFlags::NONBLOCK).read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("open", path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(failed("lock", path)(error)),
        }
    }
}
