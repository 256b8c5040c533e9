//! Files and directories on their way to a viewer: read by a thread of its own, as far ahead as a few pieces, sent within the window.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rexec_shared::files::{Answer, Entry, Failure, FilesReply, FilesRequest, Outcome, WINDOW};
use rexec_shared::limits::DATA_FRAME_MAX;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use tokio::sync::mpsc;

use super::entries::entry_at;
use super::failure::Fault;
use super::root::Root;
use super::upload::Hash;
use super::wire::Wire;
use crate::host::handshake::Refusal;

/// Pieces read ahead of the socket.
const AHEAD: usize = 8;
/// Names that an archive says it lacks.
const LACKING_MAX: usize = 16;
/// Characters of each: all of them have to fit a frame.
const LACKING_CHARS: usize = 400;
/// Directories in directories that an archive takes: each costs a descriptor.
const DEPTH_MAX: usize = 128;

/// What is to be sent.
pub(super) enum Wanted {
    /// A file from an offset on.
    File(String, u64),
    /// A directory.
    Archive(String),
}

/// What is sent, opened.
pub(super) struct Source {
    entry: Entry,
    size: Option<u64>,
    offset: u64,
    what: What,
}

enum What {
    File(File),
    Directory { device: u64, handle: OwnedFd, name: PathBuf },
}

/// Opens it.
pub(super) fn open(root: &Root, wanted: Wanted) -> Result<Source, Fault> {
    match wanted {
        Wanted::File(path, offset) => open_file(root, &path, offset),
        Wanted::Archive(path) => open_directory(root, &path),
    }
}

fn open_file(root: &Root, path: &str, offset: u64) -> Result<Source, Fault> {
    // Opening a FIFO or a device would wait, or do something: what it is is asked first.
    let found = root.open(path, OFlags::PATH)?;
    let stat = rustix::fs::fstat(&found).map_err(|error| Fault::system(path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Fault::new(Failure::NotFile, format!("{path}: it is no regular file")));
    }
    let file = root.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let stat = rustix::fs::fstat(&file).map_err(|error| Fault::system(path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Fault::new(Failure::NotFile, format!("{path}: it is no regular file")));
    }
    let entry = described(root, path, &stat)?;
    let mut file = File::from(file);
    let size = entry.size;
    if offset > size {
        let message = format!("{path}: it has {size} bytes, and those from {offset} on were asked for");
        return Err(Fault::new(Failure::Changed, message));
    }
    file.seek(SeekFrom::Start(offset)).map_err(|error| Fault::system(path, error))?;
    Ok(Source { entry, size: Some(size), offset, what: What::File(file) })
}

/// The entry of the path, with the properties of what was opened: a link's are those of its target.
fn described(root: &Root, path: &str, stat: &Stat) -> Result<Entry, Fault> {
    let Outcome::Entry { mut entry } = entry_at(root, &root.place_of_target(path)?)? else {
        return Err(Fault::failed());
    };
    entry.size = u64::try_from(stat.st_size).unwrap_or_default();
    entry.modified = super::entries::modified(stat);
    Ok(entry)
}

fn open_directory(root: &Root, path: &str) -> Result<Source, Fault> {
    let handle = root.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let stat = rustix::fs::fstat(&handle).map_err(|error| Fault::system(path, error))?;
    let Outcome::Entry { entry } = super::entries::stat(root, path)? else { return Err(Fault::failed()) };
    let name = Path::new(path).file_name().unwrap_or(OsStr::new("root")).into();
    let what = What::Directory { device: stat.st_dev, handle, name };
    Ok(Source { entry, size: None, offset: 0, what })
}

/// A piece of it, or its end.
enum Piece {
    Bytes(Bytes),
    End(Outcome),
}

/// Sends it all. The viewer may acknowledge and ping meanwhile, and ask for nothing else.
pub(super) async fn send(wire: &mut Wire, id: u32, source: Source) -> Result<(), Refusal> {
    let Source { entry, size, offset, what } = source;
    wire.put(&FilesReply::Answer(Answer { id, outcome: Outcome::Sending { entry, size } }));
    let (sender, mut pieces) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || read(what, &sender));
    let (mut at, mut acknowledged) = (offset, offset);
    loop {
        wire.flush().await?;
        let open = at - acknowledged < WINDOW;
        tokio::select! {
            biased;
            request = super::next(wire) => match request? {
                Some(FilesRequest::Ack { offset }) if offset <= at => acknowledged = acknowledged.max(offset),
                Some(FilesRequest::Ack { offset }) => {
                    return Err(Refusal::protocol(format!("acknowledged {offset} of {at} bytes")));
                }
                Some(FilesRequest::Ping { t }) => wire.put(&FilesReply::Pong { t }),
                Some(FilesRequest::Ask(ask)) => {
                    let outcome = Fault::busy().outcome();
                    wire.put(&FilesReply::Answer(Answer { id: ask.id, outcome }));
                }
                Some(FilesRequest::Data { .. }) => {
                    return Err(Refusal::protocol("data of an upload while something is sent"));
                }
                // Seen again by who reads next.
                None => return Ok(()),
            },
            piece = pieces.recv(), if open => match piece {
                Some(Piece::Bytes(bytes)) => {
                    let len = u64::try_from(bytes.len()).unwrap_or_default();
                    wire.put(&FilesReply::Data { offset: at, bytes });
                    at += len;
                }
                Some(Piece::End(outcome)) => {
                    wire.put(&FilesReply::Answer(Answer { id, outcome }));
                    return Ok(());
                }
                None => {
                    let outcome = Fault::failed().outcome();
                    wire.put(&FilesReply::Answer(Answer { id, outcome }));
                    return Ok(());
                }
            },
        }
    }
}

/// Reads it, until nobody takes any more.
fn read(what: What, pieces: &mpsc::Sender<Piece>) {
    let mut out = Out { pieces, hash: Hash::default(), buffer: Vec::with_capacity(DATA_FRAME_MAX) };
    let mut lacking = Vec::new();
    let done = match what {
        What::File(mut file) => io::copy(&mut file, &mut out).map(drop),
        What::Directory { device, handle, name } => {
            let mut archive = Archive { tar: tar::Builder::new(&mut out), device, lacking: Vec::new() };
            let packed = archive.directory(handle.as_fd(), &name, 0).and_then(|()| archive.tar.finish());
            lacking = std::mem::take(&mut archive.lacking);
            drop(archive);
            packed
        }
    };
    let end = done.and_then(|()| out.flush_buffer()).map_or_else(
        |error| Fault::system("reading", error).outcome(),
        |()| Outcome::Sent { sha256: out.hash.hex(), lacking },
    );
    let _ = pieces.blocking_send(Piece::End(end));
}

/// Bytes become pieces.
struct Out<'a> {
    pieces: &'a mpsc::Sender<Piece>,
    hash: Hash,
    buffer: Vec<u8>,
}

impl Out<'_> {
    fn flush_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut self.buffer, Vec::with_capacity(DATA_FRAME_MAX));
        self.hash.update(&bytes);
        let sent = self.pieces.blocking_send(Piece::Bytes(bytes.into()));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(DATA_FRAME_MAX - self.buffer.len());
        self.buffer.extend_from_slice(bytes.get(..len).unwrap_or_default());
        if self.buffer.len() == DATA_FRAME_MAX {
            self.flush_buffer()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory as tar: by descriptors, no link followed, one file system.
struct Archive<'a, 'b> {
    tar: tar::Builder<&'a mut Out<'b>>,
    device: u64,
    lacking: Vec<String>,
}

impl Archive<'_, '_> {
    fn directory(&mut self, handle: BorrowedFd<'_>, path: &Path, depth: usize) -> io::Result<()> {
        let stat = rustix::fs::fstat(handle)?;
        self.tar.append_data(&mut header(&stat, tar::EntryType::Directory, 0), path, io::empty())?;
        if stat.st_dev != self.device || depth == DEPTH_MAX {
            self.lacks(path);
            return Ok(());
        }
        let mut names: Vec<CString> = match Dir::read_from(handle) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name().to_owned()).collect(),
            Err(_) => {
                self.lacks(path);
                return Ok(());
            }
        };
        names.sort_unstable();
        for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let Ok(stat) = rustix::fs::statat(handle, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    match rustix::fs::openat(handle, name, flags, Mode::empty()) {
                        Ok(inner) => self.directory(inner.as_fd(), &path, depth + 1)?,
                        Err(_) => self.lacks(&path),
                    }
                }
                FileType::RegularFile => self.file(handle, name, &path)?,
                FileType::Symlink => self.link(handle, name, &path, &stat)?,
                FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => self.lacks(&path),
            }
        }
        Ok(())
    }

    fn file(&mut self, directory: BorrowedFd<'_>, name: &CString, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(directory, name, flags, Mode::empty());
        let Ok((file, stat)) = opened.and_then(|file| rustix::fs::fstat(&file).map(|stat| (file, stat)))
        else {
            self.lacks(path);
            return Ok(());
        };
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        // A file that shrinks while it is read is filled up, one that grows is cut: its length is told already.
        let contents = Lenient(File::from(file)).chain(io::repeat(0)).take(size);
        self.tar.append_data(&mut header(&stat, tar::EntryType::Regular, size), path, contents)
    }

    fn link(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CString,
        path: &Path,
        stat: &Stat,
    ) -> io::Result<()> {
        match rustix::fs::readlinkat(directory, name, Vec::new()) {
            Ok(target) => {
                let target = OsStr::from_bytes(target.as_bytes());
                self.tar.append_link(&mut header(stat, tar::EntryType::Symlink, 0), path, target)
            }
            Err(_) => {
                self.lacks(path);
                Ok(())
            }
        }
    }

    fn lacks(&mut self, path: &Path) {
        if self.lacking.len() < LACKING_MAX {
            self.lacking.push(path.to_string_lossy().chars().take(LACKING_CHARS).collect());
        }
    }
}

/// A file whose end, or whose failure to be read, is its end.
struct Lenient(File);

impl Read for Lenient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).or(Ok(0))
    }
}

fn header(stat: &Stat, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header
}
