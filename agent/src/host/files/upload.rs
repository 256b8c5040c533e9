//! Uploads: bytes gather in a file of their own beside the target, and become it in one step, or never.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rexec_shared::files::{Failure, Outcome, Replace, UPLOAD_PREFIX};
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use uuid::Uuid;

use super::entries::{entry_at, modified};
use super::failure::Fault;
use super::root::{Place, Root};

/// An upload that nobody went on with for so long is swept when the next begins beside it, seconds.
const KEPT: i64 = 3 * 24 * 3600;

/// What an upload begins with.
pub(super) struct Begin {
    pub(super) path: String,
    pub(super) upload: Uuid,
    pub(super) size: u64,
    pub(super) restart: bool,
}

/// An upload that is under way. Dropped before it is committed, it leaves its bytes for a stream that goes on with it.
#[derive(Debug)]
pub(super) struct Upload {
    id: u32,
    root: Arc<Root>,
    place: Place,
    gathering: OsString,
    file: File,
    size: u64,
    at: u64,
    hash: Hash,
}

impl Upload {
    /// Opens what there is of it, or an empty file.
    pub(super) fn begin(root: &Arc<Root>, id: u32, begin: Begin) -> Result<(Self, Outcome), Fault> {
        let Begin { path, upload, size, restart } = begin;
        let place = root.place_of_target(&path)?;
        let gathering = OsString::from(format!("{UPLOAD_PREFIX}{upload}"));
        sweep(&place);
        let fault = |error| Fault::system(&path, error);
        if let Some(stat) = there(&place)?
            && FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        {
            return Err(Fault::new(Failure::NotFile, format!("{path}: there is something that is no file")));
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&place.directory, &gathering, flags, Mode::from_raw_mode(0o600))
            .map_err(fault)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Fault::new(Failure::Busy, format!("{path}: another page is uploading this very file"))
        })?;
        let stat = rustix::fs::fstat(&file).map_err(fault)?;
        let ours = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_nlink == 1;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !ours {
            return Err(Fault::new(Failure::Denied, format!("{path}: somebody else has put a file there")));
        }
        let mut file = File::from(file);
        let mut hash = Hash::default();
        let there = u64::try_from(stat.st_size).unwrap_or_default();
        let at = if restart || there > size { 0 } else { there };
        file.set_len(at).map_err(fault_io(&path))?;
        let mut chunk = vec![0; 256 * 1024];
        loop {
            match file.read(&mut chunk).map_err(fault_io(&path))? {
                0 => break,
                len => hash.update(chunk.get(..len).unwrap_or_default()),
            }
        }
        let outcome = Outcome::Receiving { offset: at, sha256: hash.hex() };
        let root = Arc::clone(root);
        Ok((Self { id, root, place, gathering, file, size, at, hash }, outcome))
    }

    /// The question that began it.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Bytes there are.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Takes the next bytes.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let path = &self.place.path;
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if offset != self.at {
            let message =
                format!("{path}: bytes from {offset} on came where those from {} were due", self.at);
            return Err(Fault::new(Failure::Mismatch, message));
        }
        if len > self.size - self.at {
            let message = format!("{path}: more came than the {} bytes announced", self.size);
            return Err(Fault::new(Failure::Mismatch, message));
        }
        self.file.write_all_at(bytes, offset).map_err(fault_io(path))?;
        self.hash.update(bytes);
        self.at += len;
        Ok(())
    }

    /// Makes it the file.
    pub(super) fn commit(mut self, sha256: &str, replace: Replace) -> Result<Outcome, Fault> {
        let path = self.place.path.clone();
        if self.at != self.size {
            let message = format!("{path}: {} of {} bytes came", self.at, self.size);
            return Err(Fault::new(Failure::Mismatch, message));
        }
        if self.hash.hex() != sha256 {
            // Nobody is to go on with this.
            let _ = rustix::fs::unlinkat(&self.place.directory, &self.gathering, AtFlags::empty());
            let message = format!("{path}: what came is not what was sent; upload it anew");
            return Err(Fault::new(Failure::Mismatch, message));
        }
        let old = there(&self.place)?;
        if let Some(old) = &old
            && FileType::from_raw_mode(old.st_mode) != FileType::RegularFile
        {
            return Err(Fault::new(Failure::NotFile, format!("{path}: there is something that is no file")));
        }
        if let (Replace::Unchanged { size, modified: when }, old) = (replace, &old) {
            let same = old.as_ref().is_some_and(|old| {
                u64::try_from(old.st_size).is_ok_and(|now| now == size) && modified(old) == when
            });
            if !same {
                let message = format!("{path}: it was changed on the machine since it was read");
                return Err(Fault::new(Failure::Changed, message));
            }
        }
        self.dress(old.as_ref());
        self.file.flush().and_then(|()| self.file.sync_all()).map_err(fault_io(&path))?;
        let flags = if replace == Replace::Never { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        let (directory, name) = (self.place.directory.as_fd(), &self.place.name);
        rustix::fs::renameat_with(directory, &self.gathering, directory, name, flags)
            .map_err(|error| Fault::system(&path, error))?;
        // The name is as durable as the bytes where the file system can be asked for it.
        let _ = rustix::fs::fsync(directory);
        entry_at(&self.root, &self.place)
    }

    /// Permissions and owner of the file that it replaces, or those of a new one.
    fn dress(&self, old: Option<&Stat>) {
        let mode = old.map_or_else(|| 0o666 & !mask(), |old| old.st_mode & 0o777);
        if let Some(old) = old {
            let (user, group) =
                (rustix::fs::Uid::from_raw(old.st_uid), rustix::fs::Gid::from_raw(old.st_gid));
            // Only root may give a file away; for others it stays their own.
            let _ = rustix::fs::fchown(&self.file, Some(user), Some(group));
        }
        let _ = rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode));
    }
}

fn fault_io(path: &str) -> impl Fn(std::io::Error) -> Fault + '_ {
    move |error| Fault::system(path, error)
}

/// What is there now, links not followed.
fn there(place: &Place) -> Result<Option<Stat>, Fault> {
    match rustix::fs::statat(&place.directory, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(Fault::system(&place.path, error)),
    }
}

/// The permissions that this process gives no new file.
fn mask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o077)
}

/// Removes uploads of ours that were abandoned here.
fn sweep(place: &Place) {
    let Ok(entries) = Dir::read_from(&place.directory) else { return };
    let now = crate::host::unix_ms() / 1_000;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_bytes().starts_with(UPLOAD_PREFIX.as_bytes()) {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(&place.directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let ours = stat.st_uid == rustix::process::geteuid().as_raw();
        let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if ours && file && stat.st_mtime.saturating_add(KEPT) < i64::try_from(now).unwrap_or(i64::MAX) {
            let _ = rustix::fs::unlinkat(&place.directory, name, AtFlags::empty());
        }
    }
}

/// A running SHA-256.
pub(super) struct Hash(digest::Context);

impl Default for Hash {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl Hash {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all there was so far, hexadecimal.
    pub(super) fn hex(&self) -> String {
        self.0.clone().finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
