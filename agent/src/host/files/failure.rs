//! Why something with files was not done, as a person is told.

use std::fmt::Display;

use rexec_shared::files::{Failure, Outcome};
use rustix::io::Errno;

/// Longest sentence, characters.
const MESSAGE_MAX: usize = 1_000;

/// A failure and its sentence.
#[derive(Debug)]
pub(super) struct Fault {
    code: Failure,
    message: String,
}

impl Fault {
    pub(super) fn new(code: Failure, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What the system said about `path`.
    pub(super) fn system(path: impl Display, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        let (code, text) = match errno {
            Errno::NOENT => (Failure::NotFound, "there is nothing of this name"),
            Errno::EXIST => (Failure::Exists, "there is something of this name already"),
            Errno::ACCESS | Errno::PERM | Errno::ROFS => {
                (Failure::Denied, "the machine's account may not do this here")
            }
            Errno::NOTDIR => (Failure::NotDirectory, "it is no directory"),
            Errno::ISDIR => (Failure::NotFile, "it is a directory"),
            Errno::NOTEMPTY => (Failure::NotEmpty, "the directory is not empty"),
            Errno::NOSPC | Errno::DQUOT => (Failure::NoSpace, "there is no space left"),
            Errno::FBIG => (Failure::NoSpace, "the file system takes no file of this size"),
            Errno::XDEV => {
                (Failure::OtherDevice, "it is on another file system: download it and upload it there")
            }
            Errno::NAMETOOLONG => (Failure::BadPath, "the name is too long"),
            Errno::LOOP => (Failure::BadPath, "its links lead in a circle, or where nothing is to be had"),
            Errno::TXTBSY | Errno::BUSY => (Failure::Busy, "something uses it"),
            Errno::NOSYS => (Failure::Unsupported, "this needs Linux 5.6 or newer"),
            _ => return Self::new(Failure::Io, format!("{path}: {error}")),
        };
        Self::new(code, format!("{path}: {text}"))
    }

    pub(super) fn forbidden() -> Self {
        Self::new(Failure::Forbidden, "the ticket does not allow this")
    }

    pub(super) fn no_upload() -> Self {
        Self::new(Failure::BadPath, "no upload was begun")
    }

    pub(super) fn busy() -> Self {
        Self::new(Failure::Busy, "this stream is sending something: ask on another one")
    }

    pub(super) fn failed() -> Self {
        Self::new(Failure::Io, "the agent failed at it; it goes on")
    }

    /// Nobody is there to be told.
    pub(super) fn nobody_listens() -> Self {
        Self::new(Failure::Io, "the viewer is gone")
    }

    pub(super) fn outcome(self) -> Outcome {
        // A path of many directories is no sentence, and has to fit a frame.
        let message = self.message.chars().take(MESSAGE_MAX).collect();
        Outcome::Failed { code: self.code, message }
    }
}
