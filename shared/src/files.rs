//! The files stream: what a viewer with `files.read` or `files.write` and the session host say after the handshake of a `files` session.
//!
//! A stream does one thing at a time. A viewer asks, the host answers with the same `id`; bytes of a file follow as data frames, each with the offset of its first
//! byte. [`Op::needs`] is the one table of what may be asked with which capability.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::frame::{Frame, put_data};
use crate::message::{ErrorMessage, MessageError, data, json, put_json};
use crate::ticket::Capability;

/// Longest path, bytes: what Linux takes.
pub const PATH_MAX: usize = 4_096;
/// Bytes of a file on their way without acknowledgement, in either direction: 5 MB/s at a round trip of 200 ms.
pub const WINDOW: u64 = 1_048_576;
/// A viewer that reads acknowledges at least this often, bytes.
pub const ACK_EVERY: u64 = 131_072;
/// Entries of one directory that are told; a directory with more is cut, and said to be.
pub const ENTRIES_MAX: usize = 10_000;
/// What an upload is called until it is committed: this and its id.
pub const UPLOAD_PREFIX: &str = ".rexec-upload-";

const ACK: u8 = 0x04;
const PING: u8 = 0x0a;
const ASK: u8 = 0x0e;
const UPLOAD: u8 = 0x81;
const PONG: u8 = 0x2a;
const ERROR: u8 = 0x2b;
const FILES_OPENED: u8 = 0x2d;
const ANSWER: u8 = 0x2e;
const DOWNLOAD: u8 = 0xa2;

/// A question or an order, numbered by the viewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Comes back in every answer to it.
    pub id: u32,
    /// What is asked.
    #[serde(flatten)]
    pub op: Op,
}

/// What can be asked. Paths are absolute and name no `..`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// The entries of a directory: [`Outcome::Entries`], once or more.
    List {
        /// The directory.
        path: String,
    },
    /// What is at a path, links not followed: [`Outcome::Entry`].
    Stat {
        /// The path.
        path: String,
    },
    /// The bytes of a file from `offset` on: [`Outcome::Sending`], data, [`Outcome::Sent`].
    Read {
        /// The file.
        path: String,
        /// Bytes the viewer has already.
        #[serde(default)]
        offset: u64,
    },
    /// A directory as a tar archive, links kept as links, other file systems left out: as [`Op::Read`].
    Archive {
        /// The directory.
        path: String,
    },
    /// Begins an upload, or goes on with one: [`Outcome::Receiving`], then the viewer's data, each run of it [`Outcome::Received`].
    Write {
        /// What the file will be.
        path: String,
        /// Names the upload: the same again goes on where it stopped.
        upload: Uuid,
        /// All its bytes.
        size: u64,
        /// What came earlier is forgotten.
        #[serde(default)]
        restart: bool,
    },
    /// The upload becomes the file, if its bytes have this hash: [`Outcome::Entry`].
    Commit {
        /// SHA-256 of the whole, hexadecimal.
        sha256: String,
        /// What may be there.
        replace: Replace,
    },
    /// A new directory: [`Outcome::Entry`].
    MakeDirectory {
        /// The path.
        path: String,
    },
    /// Another name; nothing is ever replaced: [`Outcome::Entry`].
    Rename {
        /// What is moved.
        from: String,
        /// Where it will be.
        to: String,
    },
    /// Removes what is at a path, links themselves and not what they name: [`Outcome::Progress`], [`Outcome::Done`].
    Delete {
        /// The path.
        path: String,
        /// A directory with all that is in it; without, an empty one alone.
        #[serde(default)]
        recursive: bool,
    },
}

impl Op {
    /// The capability without which it is refused.
    pub fn needs(&self) -> Capability {
        match self {
            Self::List { .. } | Self::Stat { .. } | Self::Read { .. } | Self::Archive { .. } => {
                Capability::FilesRead
            }
            Self::Write { .. }
            | Self::Commit { .. }
            | Self::MakeDirectory { .. }
            | Self::Rename { .. }
            | Self::Delete { .. } => Capability::FilesWrite,
        }
    }
}

/// What a commit may find at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "when", rename_all = "snake_case")]
pub enum Replace {
    /// Nothing.
    Never,
    /// A file of these properties: what an editor has read.
    Unchanged {
        /// Its size, bytes.
        size: u64,
        /// When it was last written, Unix milliseconds.
        modified: i64,
    },
    /// Any file.
    Always,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, a socket, a FIFO.
    Other,
}

/// One entry of a directory. Names and targets are untrusted text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name alone.
    pub name: String,
    /// The name is not UTF-8 and is shown as far as it is: it cannot be asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unnameable: bool,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes.
    pub size: u64,
    /// When it was last written, Unix milliseconds.
    pub modified: i64,
    /// Permission bits, the last twelve of `st_mode`.
    pub mode: u32,
    /// Its owner's name, or number.
    pub owner: String,
    /// Its group's name, or number.
    pub group: String,
    /// Where a link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What a link leads to, if it leads anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_to: Option<EntryKind>,
}

/// The stream is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesOpened {
    /// The session of the ticket.
    pub session: Uuid,
    /// Where the account is at home.
    pub home: String,
    /// Whether files may be read.
    pub read: bool,
    /// Whether files may be written.
    pub write: bool,
}

/// An answer to one [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The number of the question.
    pub id: u32,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Outcome {
    /// Some entries, by name.
    Entries {
        /// Them.
        entries: Vec<Entry>,
        /// More answers follow.
        more: bool,
        /// There are more than are told ([`ENTRIES_MAX`]).
        cut: bool,
    },
    /// One entry.
    Entry {
        /// It.
        entry: Entry,
    },
    /// Data follows.
    Sending {
        /// What is sent.
        entry: Entry,
        /// How many bytes there are in all, if that is known: an archive is made as it is sent.
        size: Option<u64>,
    },
    /// All data was sent.
    Sent {
        /// SHA-256 of the bytes of this answer, hexadecimal.
        sha256: String,
        /// What an archive lacks because it could not be read, at most a few of them.
        lacking: Vec<String>,
    },
    /// Data is awaited.
    Receiving {
        /// From here on.
        offset: u64,
        /// SHA-256 of what there is before, hexadecimal.
        sha256: String,
    },
    /// Data was written.
    Received {
        /// Up to here.
        offset: u64,
    },
    /// It goes on.
    Progress {
        /// Entries done.
        entries: u64,
    },
    /// It is done.
    Done,
    /// It is not.
    Failed {
        /// Why, for a program.
        code: Failure,
        /// Why, for a person: what, with which path, what to do.
        message: String,
    },
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The ticket does not allow it.
    Forbidden,
    /// The path is no path.
    BadPath,
    /// There is nothing.
    NotFound,
    /// There is something.
    Exists,
    /// The account may not.
    Denied,
    /// It is no directory.
    NotDirectory,
    /// It is no regular file.
    NotFile,
    /// The directory has entries.
    NotEmpty,
    /// The disk or the quota is full.
    NoSpace,
    /// Another file system: it would be a copy.
    OtherDevice,
    /// The file is not what was read.
    Changed,
    /// The bytes are not those of the hash.
    Mismatch,
    /// Another stream does it, or this one does something else.
    Busy,
    /// The system is too old.
    Unsupported,
    /// Anything else.
    Io,
}

/// What a viewer says on a files stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesRequest {
    /// A question or an order.
    Ask(Ask),
    /// Data before this offset was taken.
    Ack {
        /// One past it.
        offset: u64,
    },
    /// Answered by [`FilesReply::Pong`].
    Ping {
        /// Comes back.
        t: u64,
    },
    /// Bytes of the upload.
    Data {
        /// Where they belong.
        offset: u64,
        /// Them.
        bytes: Bytes,
    },
}

/// What the host says on a files stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesReply {
    /// The first word.
    Opened(FilesOpened),
    /// An answer.
    Answer(Answer),
    /// The answer to a ping.
    Pong {
        /// The ping's.
        t: u64,
    },
    /// The last word.
    Error(ErrorMessage),
    /// Bytes of the download.
    Data {
        /// Where they belong.
        offset: u64,
        /// Them.
        bytes: Bytes,
    },
}

#[derive(Serialize, Deserialize)]
struct Offset {
    offset: u64,
}
#[derive(Serialize, Deserialize)]
struct Time {
    t: u64,
}

impl FilesRequest {
    /// Reads a frame; `Ok(None)` for a type this build does not know.
    ///
    /// # Errors
    /// When the payload is not what the type says.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, MessageError> {
        Ok(Some(match frame.kind {
            ASK => Self::Ask(json(frame)?),
            ACK => Self::Ack { offset: json::<Offset>(frame)?.offset },
            PING => Self::Ping { t: json::<Time>(frame)?.t },
            UPLOAD => data(frame).map(|(offset, bytes)| Self::Data { offset, bytes })?,
            _ => return Ok(None),
        }))
    }

    /// Appends this message as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Ask(ask) => put_json(out, ASK, ask),
            Self::Ack { offset } => put_json(out, ACK, &Offset { offset: *offset }),
            Self::Ping { t } => put_json(out, PING, &Time { t: *t }),
            Self::Data { offset, bytes } => put_data(out, UPLOAD, *offset, bytes),
        }
    }
}

impl FilesReply {
    /// Reads a frame; `Ok(None)` for a type this build does not know.
    ///
    /// # Errors
    /// When the payload is not what the type says.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, MessageError> {
        Ok(Some(match frame.kind {
            FILES_OPENED => Self::Opened(json(frame)?),
            ANSWER => Self::Answer(json(frame)?),
            PONG => Self::Pong { t: json::<Time>(frame)?.t },
            ERROR => Self::Error(json(frame)?),
            DOWNLOAD => data(frame).map(|(offset, bytes)| Self::Data { offset, bytes })?,
            _ => return Ok(None),
        }))
    }

    /// Appends this message as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Opened(opened) => put_json(out, FILES_OPENED, opened),
            Self::Answer(answer) => put_json(out, ANSWER, answer),
            Self::Pong { t } => put_json(out, PONG, &Time { t: *t }),
            Self::Error(error) => put_json(out, ERROR, error),
            Self::Data { offset, bytes } => put_data(out, DOWNLOAD, *offset, bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Decoder;

    fn round<T>(encode: impl FnOnce(&mut BytesMut), decode: impl FnOnce(&Frame) -> T) -> (String, T) {
        let (mut out, mut decoder) = (BytesMut::new(), Decoder::new());
        encode(&mut out);
        decoder.push(&out);
        let frame = decoder.poll_frame().unwrap().unwrap();
        (String::from_utf8_lossy(&frame.payload).into_owned(), decode(&frame))
    }

    #[test]
    fn the_wire_is_what_the_document_says() {
        let path = "/tmp/a".to_owned();
        let ask = |op| FilesRequest::Ask(Ask { id: 7, op });
        let (upload, size) = (Uuid::nil(), 3);
        let unchanged = Replace::Unchanged { size: 3, modified: -1 };
        let cases = [
            (ask(Op::List { path: path.clone() }), r#"{"id":7,"op":"list","path":"/tmp/a"}"#),
            (
                ask(Op::Read { path: path.clone(), offset: 5 }),
                r#"{"id":7,"op":"read","path":"/tmp/a","offset":5}"#,
            ),
            (
                ask(Op::Write { path, upload, size, restart: false }),
                r#"{"id":7,"op":"write","path":"/tmp/a","upload":"00000000-0000-0000-0000-000000000000","size":3,"restart":false}"#,
            ),
            (
                ask(Op::Commit { sha256: "00".to_owned(), replace: unchanged }),
                r#"{"id":7,"op":"commit","sha256":"00","replace":{"when":"unchanged","size":3,"modified":-1}}"#,
            ),
            (FilesRequest::Ack { offset: u64::MAX }, r#"{"offset":18446744073709551615}"#),
        ];
        for (request, text) in cases {
            let (said, read) = round(|out| request.encode(out), |frame| FilesRequest::decode(frame).unwrap());
            assert_eq!((said.as_str(), read), (text, Some(request)));
        }
        let failed = Outcome::Failed { code: Failure::NotFound, message: "no".to_owned() };
        let reply = FilesReply::Answer(Answer { id: 7, outcome: failed });
        let (said, read) = round(|out| reply.encode(out), |frame| FilesReply::decode(frame).unwrap());
        assert_eq!(said, r#"{"id":7,"is":"failed","code":"not_found","message":"no"}"#);
        assert_eq!(read, Some(reply));
    }
}
