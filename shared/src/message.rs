//! The session protocol's messages: what viewer and session host say to each other inside frames.
//!
//! Control payloads are JSON whose unknown fields are ignored, so an old agent and a new viewer get on; data payloads are raw
//! (DESIGN law 3). [`ViewerMessage`] and [`HostMessage`] are the two directions; both encode into and decode from [`Frame`].

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::close::{CloseCode, Retry};
use crate::frame::{Frame, put_data, put_frame};

/// Type byte of `Open`.
pub const OPEN: u8 = 0x01;
/// Name of the feature that a viewer lists when it sends [`ViewerMessage::SnapshotAck`]; one that does not is paced by its socket.
pub const SNAPSHOT_ACK: &str = "snapshot_ack";

/// Type byte of `Attach`.
pub const ATTACH: u8 = 0x02;
/// Type byte of `Input`.
pub const INPUT: u8 = 0x80;
/// Type byte of `Output`.
pub const OUTPUT: u8 = 0xa0;
/// Type byte of `Connected`, the one frame of a host on a forward that is let in: `{}`.
pub const CONNECTED: u8 = 0x2f;
/// Type byte of `SnapshotData`.
pub const SNAPSHOT_DATA: u8 = 0xa1;

/// What kind of thing a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// A PTY with a screen.
    Terminal,
    /// A command with separate output streams.
    Exec,
    /// A look at files, and changes to them: [`crate::files`]. No session of the list; it ends with its stream.
    Files,
    /// A connection to a TCP port of the machine's loopback: after [`CONNECTED`] the stream is its bytes, without frames.
    Forward,
}

/// What to run, and in what terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Terminal or command.
    pub kind: SessionKind,
    /// Columns of the first viewer's terminal; 0 where there is none.
    #[serde(default)]
    pub cols: u16,
    /// Rows of the first viewer's terminal; 0 where there is none.
    #[serde(default)]
    pub rows: u16,
    /// Environment asked for; only `TERM`, `COLORTERM`, `LANG` and `LC_*` are taken (THREATS LO-02).
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub env: std::collections::BTreeMap<String, String>,
    /// Working directory; none is the home directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Argument vector; none is the user's login shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Port that a forward leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// First frame of a viewer that wants a new session (or its own, retried).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Protocol version.
    pub v: u32,
    /// Names of optional features the viewer speaks.
    #[serde(default)]
    pub features: Vec<String>,
    /// An encoded ticket.
    pub ticket: String,
    /// The viewer's own id: names its input stream.
    pub viewer: Uuid,
    /// Which of this viewer's streams this is: each is numbered above those before it, 0 by a viewer that numbers none. The newest is the one that counts.
    #[serde(default, skip_serializing_if = "is_unnumbered")]
    pub attempt: u64,
    /// The session's id, chosen by the viewer and named in the ticket.
    pub session: Uuid,
    /// Next input byte the viewer would send if nothing were pending.
    #[serde(default)]
    pub input_seq: u64,
    /// What to run.
    pub spec: Spec,
}

/// First frame of a viewer that comes to a session that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Protocol version.
    pub v: u32,
    /// Names of optional features the viewer speaks.
    #[serde(default)]
    pub features: Vec<String>,
    /// An encoded ticket or resume capability.
    pub ticket: String,
    /// The viewer's own id: names its input stream.
    pub viewer: Uuid,
    /// Which of this viewer's streams this is: each is numbered above those before it, 0 by a viewer that numbers none. The newest is the one that counts.
    #[serde(default, skip_serializing_if = "is_unnumbered")]
    pub attempt: u64,
    /// The session.
    pub session: Uuid,
    /// The life of the PTY the viewer has seen; none when it has seen nothing.
    #[serde(default)]
    pub epoch: Option<Uuid>,
    /// First output byte the viewer lacks; none asks for a snapshot.
    #[serde(default)]
    pub offset: Option<u64>,
    /// First input byte the viewer has no acknowledgement for.
    #[serde(default)]
    pub input_seq: u64,
}

fn is_unnumbered(attempt: &u64) -> bool {
    *attempt == 0
}

/// The viewer's answer to a [`Challenge`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The viewer's public key: base64url of an uncompressed P-256 point.
    pub key: String,
    /// base64url of the 64-byte ECDSA signature; see [`crate::proof`].
    pub signature: String,
}

/// A signal for the foreground process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "named as POSIX names them")]
pub enum SignalName {
    Int,
    Term,
    Hup,
    Kill,
    Quit,
    Usr1,
    Usr2,
}

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// The host's nonce and hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Protocol version.
    pub v: u32,
    /// Names of optional features the host speaks.
    #[serde(default)]
    pub features: Vec<String>,
    /// base64url of 32 random bytes.
    pub nonce: String,
}

/// What a viewer may do in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May type.
    Writer,
    /// May look.
    View,
}

/// The viewer is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The session.
    pub session: Uuid,
    /// This life of its PTY.
    pub epoch: Uuid,
    /// What this viewer may do.
    pub role: Role,
    /// Columns now.
    pub cols: u16,
    /// Rows now.
    pub rows: u16,
    /// First output byte that follows, unless a `Snapshot` comes first.
    pub offset: u64,
    /// First input byte of this viewer that is not in the PTY: where it sends again from.
    pub input_seq: u64,
    /// When the session began, Unix milliseconds.
    pub created: u64,
    /// The terminal's title: untrusted, already sanitised.
    #[serde(default)]
    pub title: String,
}

/// Announces a screen snapshot; `SnapshotData` frames follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Output offset at which the screen looked like this.
    pub offset: u64,
    /// Columns it is painted for.
    pub cols: u16,
    /// Rows it is painted for.
    pub rows: u16,
    /// Total bytes of the `SnapshotData` frames.
    pub bytes: u64,
}

/// Input before `seq` had been written when output stood at `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputAck {
    /// Next input byte expected.
    pub seq: u64,
    /// Output offset at that moment.
    pub offset: u64,
}

/// One viewer as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewerInfo {
    /// Its id.
    pub viewer: Uuid,
    /// Who: the actor's name from the ticket.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether it holds the writer lease.
    pub lease: bool,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code of the leader, when it exited.
    pub code: Option<i32>,
    /// Signal number that killed it, when one did.
    pub signal: Option<i32>,
    /// One past the last output byte.
    pub offset: u64,
}

/// Why the host ends the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// Name from the table of close codes.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// What to do next.
    pub retry: Retry,
}

impl ErrorMessage {
    /// An error of the table with a sentence of its own.
    pub fn new(code: CloseCode, message: impl Into<String>) -> Self {
        Self { code: code.name().to_owned(), message: message.into(), retry: code.retry() }
    }
}

#[derive(Serialize, Deserialize)]
struct AckBody {
    offset: u64,
}
#[derive(Serialize, Deserialize)]
struct SnapshotAckBody {
    bytes: u64,
}
#[derive(Serialize, Deserialize)]
struct SignalBody {
    signal: SignalName,
}
#[derive(Serialize, Deserialize)]
struct PingBody {
    t: u64,
}
#[derive(Serialize, Deserialize)]
struct ViewersBody {
    viewers: Vec<ViewerInfo>,
}
#[derive(Serialize, Deserialize)]
struct LeaseBody {
    holder: Option<Uuid>,
}
#[derive(Serialize, Deserialize)]
struct GapBody {
    from: u64,
    to: u64,
}
#[derive(Serialize, Deserialize)]
struct TitleBody {
    title: String,
}
#[derive(Serialize, Deserialize, Default)]
struct Empty {}

/// What a viewer says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is documented at its payload and in docs/PROTOCOL.md")]
pub enum ViewerMessage {
    Open(Open),
    Attach(Attach),
    Proof(Proof),
    Ack { offset: u64 },
    Resize(Size),
    Signal(SignalName),
    Eof,
    TakeLease(Size),
    ReleaseLease,
    Ping { t: u64 },
    Detach,
    Close,
    SnapshotAck { bytes: u64 },
    Input { seq: u64, bytes: Bytes },
}

/// What a session host says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is documented at its payload and in docs/PROTOCOL.md")]
pub enum HostMessage {
    Challenge(Challenge),
    Opened(Opened),
    Snapshot(Snapshot),
    InputAck(InputAck),
    Resized(Size),
    Viewers(Vec<ViewerInfo>),
    Lease { holder: Option<Uuid> },
    Exit(Exit),
    Gap { from: u64, to: u64 },
    Pong { t: u64 },
    Error(ErrorMessage),
    Title { title: String },
    Output { offset: u64, bytes: Bytes },
    SnapshotData(Bytes),
}

/// A frame whose payload is not what its type says.
#[derive(Debug, Error)]
pub enum MessageError {
    /// The JSON is malformed or lacks a field.
    #[error("frame type {kind:#04x}: {source}")]
    Json {
        /// The frame's type.
        kind: u8,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A data frame shorter than its address.
    #[error("data frame of {len} bytes has no room for its address")]
    Short {
        /// Its length.
        len: usize,
    },
}

pub(crate) fn json<T: for<'a> Deserialize<'a>>(frame: &Frame) -> Result<T, MessageError> {
    serde_json::from_slice(&frame.payload).map_err(|source| MessageError::Json { kind: frame.kind, source })
}

pub(crate) fn data(frame: &Frame) -> Result<(u64, Bytes), MessageError> {
    let mut payload = frame.payload.clone();
    let address = payload.try_get_u64().map_err(|_| MessageError::Short { len: frame.payload.len() })?;
    Ok((address, payload))
}

/// Appends a frame with a JSON payload. Serialisation of our own message types cannot fail; a failure would put an empty object.
pub fn put_json<T: Serialize>(out: &mut BytesMut, kind: u8, body: &T) {
    put_frame(out, kind, &serde_json::to_vec(body).unwrap_or_else(|_| b"{}".to_vec()));
}

impl ViewerMessage {
    /// Reads a frame; `Ok(None)` for a type this build does not know.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, MessageError> {
        Ok(Some(match frame.kind {
            OPEN => Self::Open(json(frame)?),
            ATTACH => Self::Attach(json(frame)?),
            0x03 => Self::Proof(json(frame)?),
            0x04 => Self::Ack { offset: json::<AckBody>(frame)?.offset },
            0x05 => Self::Resize(json(frame)?),
            0x06 => Self::Signal(json::<SignalBody>(frame)?.signal),
            0x07 => Self::Eof,
            0x08 => Self::TakeLease(json(frame)?),
            0x09 => Self::ReleaseLease,
            0x0a => Self::Ping { t: json::<PingBody>(frame)?.t },
            0x0b => Self::Detach,
            0x0c => Self::Close,
            0x0d => Self::SnapshotAck { bytes: json::<SnapshotAckBody>(frame)?.bytes },
            INPUT => data(frame).map(|(seq, bytes)| Self::Input { seq, bytes })?,
            _ => return Ok(None),
        }))
    }

    /// Appends this message as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Open(body) => put_json(out, OPEN, body),
            Self::Attach(body) => put_json(out, ATTACH, body),
            Self::Proof(body) => put_json(out, 0x03, body),
            Self::Ack { offset } => put_json(out, 0x04, &AckBody { offset: *offset }),
            Self::Resize(size) => put_json(out, 0x05, size),
            Self::Signal(signal) => put_json(out, 0x06, &SignalBody { signal: *signal }),
            Self::Eof => put_json(out, 0x07, &Empty {}),
            Self::TakeLease(size) => put_json(out, 0x08, size),
            Self::ReleaseLease => put_json(out, 0x09, &Empty {}),
            Self::Ping { t } => put_json(out, 0x0a, &PingBody { t: *t }),
            Self::Detach => put_json(out, 0x0b, &Empty {}),
            Self::Close => put_json(out, 0x0c, &Empty {}),
            Self::SnapshotAck { bytes } => put_json(out, 0x0d, &SnapshotAckBody { bytes: *bytes }),
            Self::Input { seq, bytes } => put_data(out, INPUT, *seq, bytes),
        }
    }
}

impl HostMessage {
    /// Reads a frame; `Ok(None)` for a type this build does not know.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, MessageError> {
        Ok(Some(match frame.kind {
            0x21 => Self::Challenge(json(frame)?),
            0x22 => Self::Opened(json(frame)?),
            0x23 => Self::Snapshot(json(frame)?),
            0x24 => Self::InputAck(json(frame)?),
            0x25 => Self::Resized(json(frame)?),
            0x26 => Self::Viewers(json::<ViewersBody>(frame)?.viewers),
            0x27 => Self::Lease { holder: json::<LeaseBody>(frame)?.holder },
            0x28 => Self::Exit(json(frame)?),
            0x29 => json::<GapBody>(frame).map(|GapBody { from, to }| Self::Gap { from, to })?,
            0x2a => Self::Pong { t: json::<PingBody>(frame)?.t },
            0x2b => Self::Error(json(frame)?),
            0x2c => Self::Title { title: json::<TitleBody>(frame)?.title },
            OUTPUT => data(frame).map(|(offset, bytes)| Self::Output { offset, bytes })?,
            SNAPSHOT_DATA => Self::SnapshotData(frame.payload.clone()),
            _ => return Ok(None),
        }))
    }

    /// Appends this message as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Challenge(body) => put_json(out, 0x21, body),
            Self::Opened(body) => put_json(out, 0x22, body),
            Self::Snapshot(body) => put_json(out, 0x23, body),
            Self::InputAck(body) => put_json(out, 0x24, body),
            Self::Resized(size) => put_json(out, 0x25, size),
            Self::Viewers(viewers) => put_json(out, 0x26, &ViewersBody { viewers: viewers.clone() }),
            Self::Lease { holder } => put_json(out, 0x27, &LeaseBody { holder: *holder }),
            Self::Exit(body) => put_json(out, 0x28, body),
            Self::Gap { from, to } => put_json(out, 0x29, &GapBody { from: *from, to: *to }),
            Self::Pong { t } => put_json(out, 0x2a, &PingBody { t: *t }),
            Self::Error(body) => put_json(out, 0x2b, body),
            Self::Title { title } => put_json(out, 0x2c, &TitleBody { title: title.clone() }),
            Self::Output { offset, bytes } => put_data(out, OUTPUT, *offset, bytes),
            Self::SnapshotData(bytes) => put_frame(out, SNAPSHOT_DATA, bytes),
        }
    }
}
