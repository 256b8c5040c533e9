//! What is in a directory.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::unistd::{Gid, Group, Uid, User};
use rexec_shared::files::{ENTRIES_MAX, Entry, EntryKind, Outcome, UPLOAD_PREFIX};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};

use super::Tell;
use super::failure::Fault;
use super::root::{Place, Root};

/// JSON of the entries in one answer, bytes: below a frame with the longest of entries added.
const ANSWER_BYTES: usize = 24 * 1024;

/// Tells the entries of a directory by name, files and directories alike.
pub(super) fn list(root: &Root, path: &str, tell: &Tell) -> Result<Outcome, Fault> {
    let directory = root.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let (names, cut) = names(&directory, path)?;
    let (mut people, mut entries, mut bytes) = (People::default(), Vec::new(), 0);
    for name in &names {
        // What went meanwhile is not there.
        let Ok(stat) = rustix::fs::statat(&directory, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let entry = describe(root, path, directory.as_fd(), name, &stat, &mut people);
        bytes += serde_json::to_vec(&entry).map_or(0, |json| json.len());
        entries.push(entry);
        if bytes > ANSWER_BYTES {
            tell.say(Outcome::Entries { entries: std::mem::take(&mut entries), more: true, cut: false })?;
            bytes = 0;
        }
    }
    Ok(Outcome::Entries { entries, more: false, cut })
}

fn names(directory: impl AsFd, path: &str) -> Result<(Vec<std::ffi::CString>, bool), Fault> {
    let mut names = Vec::new();
    for found in Dir::read_from(directory).map_err(|error| Fault::system(path, error))? {
        let found = found.map_err(|error| Fault::system(path, error))?;
        let name = found.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || name.to_bytes().starts_with(UPLOAD_PREFIX.as_bytes()) {
            continue;
        }
        if names.len() == ENTRIES_MAX {
            names.sort_unstable();
            return Ok((names, true));
        }
        names.push(name.to_owned());
    }
    names.sort_unstable();
    Ok((names, false))
}

/// Tells what is at a path.
pub(super) fn stat(root: &Root, path: &str) -> Result<Outcome, Fault> {
    if path == "/" {
        let directory = root.open(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&directory).map_err(|error| Fault::system(path, error))?;
        let entry = describe(root, path, directory.as_fd(), c"/", &stat, &mut People::default());
        return Ok(Outcome::Entry { entry });
    }
    entry_at(root, &root.place(path)?)
}

/// The entry of this place.
pub(super) fn entry_at(root: &Root, place: &Place) -> Result<Outcome, Fault> {
    let stat = rustix::fs::statat(&place.directory, &place.name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| Fault::system(&place.path, error))?;
    let name = std::ffi::CString::new(place.name.as_bytes()).unwrap_or_default();
    let (directory, mut people) = (place.directory.as_fd(), People::default());
    let within = place.path.rsplit_once('/').map_or("", |(within, _)| within);
    Ok(Outcome::Entry { entry: describe(root, within, directory, &name, &stat, &mut people) })
}

/// `within`: the path of the directory, from which a link is followed.
fn describe(
    root: &Root,
    within: &str,
    directory: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    people: &mut People,
) -> Entry {
    let kind = kind_of(stat);
    let target = (kind == EntryKind::Link)
        .then(|| rustix::fs::readlinkat(directory, name, Vec::new()).ok())
        .flatten()
        .map(|target| target.to_string_lossy().into_owned());
    let leads_to = (kind == EntryKind::Link)
        .then(|| root.open(&format!("{within}/{}", name.to_str().ok()?), OFlags::PATH).ok())
        .flatten()
        .and_then(|found| rustix::fs::fstat(&found).ok())
        .map(|stat| kind_of(&stat));
    Entry {
        name: name.to_string_lossy().into_owned(),
        unnameable: name.to_str().is_err(),
        kind,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        modified: modified(stat),
        mode: stat.st_mode & 0o7777,
        owner: people.user(stat.st_uid),
        group: people.group(stat.st_gid),
        target,
        leads_to,
    }
}

/// When it was last written, Unix milliseconds.
pub(super) fn modified(stat: &Stat) -> i64 {
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    stat.st_mtime.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

fn kind_of(stat: &Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Link,
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => EntryKind::Other,
    }
}

/// Names of accounts, each looked up once.
#[derive(Default)]
struct People {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl People {
    fn user(&mut self, id: u32) -> String {
        let name = || User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name);
        self.users.entry(id).or_insert_with(|| name().unwrap_or_else(|| id.to_string())).clone()
    }

    fn group(&mut self, id: u32) -> String {
        let name = || Group::from_gid(Gid::from_raw(id)).ok().flatten().map(|group| group.name);
        self.groups.entry(id).or_insert_with(|| name().unwrap_or_else(|| id.to_string())).clone()
    }
}
