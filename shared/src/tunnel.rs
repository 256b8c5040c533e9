//! What agent and broker say on a tunnel's control stream, and what uplink and session host say on the link.
//!
//! The frames are those of [`crate::frame`]; types and flow stand in `docs/PROTOCOL.md`. Nothing here names a machine: the
//! tunnel's certificate does (THREATS MA-01), `Hello.machine` is only compared with it.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::frame::Frame;
use crate::message::{Exit, MessageError, SessionKind, put_json};

/// A session as presence tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionInfo {
    /// Its id.
    pub session: Uuid,
    /// Terminal or command.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: SessionKind,
    /// The terminal's title: untrusted, sanitised to at most 128 characters.
    pub title: String,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Viewers attached.
    pub viewers: u32,
    /// The user who opened it.
    pub user: Uuid,
    /// Unix milliseconds.
    pub created: u64,
    /// How it ended, when it has.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<ExitInfo>))]
    pub exited: Option<Exit>,
}

/// Schema of [`Exit`] for OpenAPI.
#[cfg(feature = "openapi")]
#[derive(utoipa::ToSchema, Serialize)]
pub struct ExitInfo {
    /// Exit code of the leader, when it exited.
    pub code: Option<i32>,
    /// Signal number that killed it, when one did.
    pub signal: Option<i32>,
    /// One past the last output byte.
    pub offset: u64,
}

/// Why a tunnel runs over TCP and not over QUIC, as its agent saw it: shown to people, and nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransportReason {
    /// What kept QUIC away.
    pub cause: TransportCause,
    /// The same with addresses and errors, in the agent's words; untrusted text of at most 256 characters.
    pub detail: String,
}

/// What kept a tunnel from QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TransportCause {
    /// Nothing came back over UDP.
    UdpSilent,
    /// Something came back, or the system refused to send, and no handshake was to be had.
    QuicFailed,
    /// A cause of a newer agent's.
    #[serde(other)]
    Unknown,
}

/// What a machine uses, over the last seconds. Figures that a system does not give are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Processor time, thousandths of one processor.
    pub cpu_milli: u32,
    /// Thousandths of processors it has.
    pub cpu_max_milli: u32,
    /// Memory in use, KiB; caches that can be given back are not.
    pub memory_kib: u32,
    /// Memory it has, KiB.
    pub memory_max_kib: u32,
    /// Received, KiB a second.
    pub received_kib_s: u32,
    /// Sent, KiB a second.
    pub sent_kib_s: u32,
    /// Disk in use, MiB.
    pub disk_mib: u32,
    /// Disk it has, MiB.
    pub disk_max_mib: u32,
}

/// The agent's first words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version.
    pub v: u32,
    /// Names of optional features.
    #[serde(default)]
    pub features: Vec<String>,
    /// Must equal the certificate's machine.
    pub machine: Uuid,
    /// Version of the agent.
    pub agent_version: String,
    /// One life of the session host: changes when the machine or the host restarted.
    pub boot: Uuid,
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub arch: String,
    /// Host name.
    pub hostname: String,
    /// Why it does not say this over QUIC, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_reason: Option<TransportReason>,
    /// Sessions alive.
    #[serde(default)]
    pub sessions: Vec<SessionInfo>,
    /// The highest number a tunnel of this agent ever had: the next one's is above it, whichever broker gives it.
    #[serde(default)]
    pub after: u64,
}

/// The broker's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Protocol version.
    pub v: u32,
    /// Names of optional features.
    #[serde(default)]
    pub features: Vec<String>,
    /// This tunnel's number: grows with every tunnel of the installation.
    pub tunnel: u64,
    /// The broker's name.
    pub broker: String,
    /// The broker's clock, Unix milliseconds.
    pub time: u64,
}

#[derive(Serialize, Deserialize)]
struct Sessions {
    sessions: Vec<SessionInfo>,
}
#[derive(Serialize, Deserialize)]
struct Time {
    t: u64,
}
#[derive(Serialize, Deserialize)]
struct Token {
    token: String,
}
#[derive(Serialize, Deserialize)]
struct Grace {
    grace_ms: u64,
    #[serde(default)]
    elsewhere: bool,
}
#[derive(Serialize, Deserialize)]
struct Empty {}

fn json<T: for<'a> Deserialize<'a>>(frame: &Frame) -> Result<T, MessageError> {
    serde_json::from_slice(&frame.payload).map_err(|source| MessageError::Json { kind: frame.kind, source })
}

/// Agent → broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented at the payloads and in docs/PROTOCOL.md")]
pub enum AgentMessage {
    Hello(Hello),
    Presence(Vec<SessionInfo>),
    Pong { t: u64 },
    Ping { t: u64 },
    Sample(Sample),
}

impl AgentMessage {
    /// Reads a frame; `Ok(None)` for a type this build does not know.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, MessageError> {
        Ok(Some(match frame.kind {
            0x41 => Self::Hello(json(frame)?),
            0x42 => Self::Presence(json::<Sessions>(frame)?.sessions),
            0x43 => Self::Pong { t: json::<Time>(frame)?.t },
            0x44 => Self::Ping { t: json::<Time>(frame)?.t },
            0x45 => Self::Sample(json(frame)?),
            _ => return Ok(None),
        }))
    }

    /// Appends this message as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(body) => put_json(out, 0x41, body),
            Self::Presence(sessions) => put_json(out, 0x42, &Sessions { sessions: sessions.clone() }),
            Self::Pong { t } => put_json(out, 0x43, &Time { t: *t }),
            Self::Ping { t } => put_json(out, 0x44, &Time { t: *t }),
            Self::Sample(sample) => put_json(out, 0x45, sample),
        }
    }
}

/// Broker → agent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented at the payloads and in docs/PROTOCOL.md")]
pub enum BrokerMessage {
    Welcome(Welcome),
    Feed { token: String },
    Drain { grace_ms: u64, elsewhere: bool },
    Ping { t: u64 },
    Pong { t: u64 },
}

impl BrokerMessage {
    /// Reads a frame; `Ok(None)` for a type this build does not know.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, MessageError> {
        Ok(Some(match frame.kind {
            0x51 => Self::Welcome(json(frame)?),
            0x52 => Self::Feed { token: json::<Token>(frame)?.token },
            0x53 => json::<Grace>(frame)
                .map(|Grace { grace_ms, elsewhere }| Self::Drain { grace_ms, elsewhere })?,
            0x54 => Self::Ping { t: json::<Time>(frame)?.t },
            0x55 => Self::Pong { t: json::<Time>(frame)?.t },
            _ => return Ok(None),
        }))
    }

    /// Appends this message as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Welcome(body) => put_json(out, 0x51, body),
            Self::Feed { token } => put_json(out, 0x52, &Token { token: token.clone() }),
            Self::Drain { grace_ms, elsewhere } => {
                put_json(out, 0x53, &Grace { grace_ms: *grace_ms, elsewhere: *elsewhere });
            }
            Self::Ping { t } => put_json(out, 0x54, &Time { t: *t }),
            Self::Pong { t } => put_json(out, 0x55, &Time { t: *t }),
        }
    }
}

/// Who speaks on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkRole {
    /// The uplink: feeds in, sessions out.
    Uplink,
    /// A local command.
    Cli,
}

/// How the uplink fares, as `rexec-agent status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct UplinkStatus {
    /// `connecting`, `online`, `waiting`, `stopped`.
    pub state: String,
    /// What happened last, for a person.
    pub detail: String,
    /// Broker address in use.
    pub broker: Option<String>,
    /// Number of the tunnel in use.
    pub tunnel: Option<u64>,
    /// `quic` or `tcp`.
    pub transport: Option<String>,
    /// Why it is not QUIC, for a person.
    #[serde(default)]
    pub why: Option<String>,
    /// Round trip to the broker, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Unix milliseconds.
    pub since: u64,
    /// End of the certificate, Unix seconds.
    pub certificate_until: Option<i64>,
    /// Why it could not be renewed, or kept, for a person.
    #[serde(default)]
    pub certificate_trouble: Option<String>,
}

/// What the host tells a local command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Process id of the session host.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Unix milliseconds.
    pub started: u64,
    /// Sessions alive.
    pub sessions: Vec<SessionInfo>,
    /// The uplink's last word; none before it spoke.
    pub uplink: Option<UplinkStatus>,
}

/// Uplink or local command → session host.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "documented at the payloads and in docs/PROTOCOL.md")]
pub enum LinkMessage {
    Hello { role: LinkRole },
    Feed { token: String },
    Status(UplinkStatus),
    Query,
    Stop,
}

#[derive(Serialize, Deserialize)]
struct RoleBody {
    role: LinkRole,
}

impl LinkMessage {
    /// Reads a frame; `Ok(None)` for a type this build does not know.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, MessageError> {
        Ok(Some(match frame.kind {
            0x61 => Self::Hello { role: json::<RoleBody>(frame)?.role },
            0x62 => Self::Feed { token: json::<Token>(frame)?.token },
            0x63 => Self::Status(json(frame)?),
            0x64 => Self::Query,
            0x65 => Self::Stop,
            _ => return Ok(None),
        }))
    }

    /// Appends this message as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello { role } => put_json(out, 0x61, &RoleBody { role: *role }),
            Self::Feed { token } => put_json(out, 0x62, &Token { token: token.clone() }),
            Self::Status(status) => put_json(out, 0x63, status),
            Self::Query => put_json(out, 0x64, &Empty {}),
            Self::Stop => put_json(out, 0x65, &Empty {}),
        }
    }
}

/// Session host → uplink or local command.
#[expect(clippy::large_enum_variant, reason = "one is made for each question of a person")]
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "documented at the payloads and in docs/PROTOCOL.md")]
pub enum LinkAnswer {
    Sessions { boot: Uuid, sessions: Vec<SessionInfo> },
    Status(HostStatus),
}

#[derive(Serialize, Deserialize)]
struct HostSessions {
    boot: Uuid,
    sessions: Vec<SessionInfo>,
}

impl LinkAnswer {
    /// Reads a frame; `Ok(None)` for a type this build does not know.
    pub fn decode(frame: &Frame) -> Result<Option<Self>, MessageError> {
        Ok(Some(match frame.kind {
            0x71 => json::<HostSessions>(frame)
                .map(|HostSessions { boot, sessions }| Self::Sessions { boot, sessions })?,
            0x72 => Self::Status(json(frame)?),
            _ => return Ok(None),
        }))
    }

    /// Appends this message as a frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Sessions { boot, sessions } => {
                put_json(out, 0x71, &HostSessions { boot: *boot, sessions: sessions.clone() });
            }
            Self::Status(status) => put_json(out, 0x72, status),
        }
    }
}
