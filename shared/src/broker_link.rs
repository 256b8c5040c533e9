//! What a broker and control say to each other: in process when the broker is embedded, over a WebSocket when it stands alone.
//!
//! [`FromBroker`] and [`ToBroker`] are what there is to say. The link of a broker that stands alone carries them inside [`LinkUp`] and
//! [`LinkDown`], one JSON text per WebSocket message, together with what an embedded broker is simply given: its identity.
//!
//! ```text
//! broker                                     control
//!   │ Hello{csr, viewer_url, tunnel_addr}      │  the credential came in the request's head
//!   │ ────────────────────────────────────────▶│
//!   │           Welcome{certificate, ca, …}    │
//!   │ ◀────────────────────────────────────────│
//!   │ Event{1, Standing}  Event{2, TunnelUp} … │  all that stands, told anew at each connection
//!   │ ────────────────────────────────────────▶│
//!   │   Order{Feed} …  Ack{2}  Others{1}       │  every organisation's feed, then what changes
//!   │ ◀────────────────────────────────────────│
//! ```

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::close::CloseCode;
use crate::ticket::Capability;
use crate::tunnel::{Sample, SessionInfo, TransportReason};

/// Broker → control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromBroker {
    /// A tunnel stands. Whatever is known of an older tunnel of this machine is void.
    TunnelUp {
        /// The machine.
        machine: Uuid,
        /// Its organisation.
        org: Uuid,
        /// The tunnel's number; only a greater one displaces what is known.
        tunnel: u64,
        /// Where the agent dials from.
        address: String,
        /// `quic` or `tcp`.
        transport: String,
        /// Why it is not `quic`, as the agent says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transport_reason: Option<TransportReason>,
        /// Version of the agent.
        agent_version: String,
        /// Operating system, architecture, host name, as the agent tells them.
        os: String,
        /// See `os`.
        arch: String,
        /// See `os`.
        hostname: String,
        /// Sessions alive.
        sessions: Vec<SessionInfo>,
    },
    /// A tunnel is gone; void unless it is still the newest known.
    TunnelDown {
        /// The machine.
        machine: Uuid,
        /// The tunnel's number.
        tunnel: u64,
        /// Why.
        reason: String,
    },
    /// All tunnels that stand at this moment, told before anything else when a link begins anew: whatever else is known of this broker's
    /// machines is void. Each of the tunnels is told by a [`FromBroker::TunnelUp`] afterwards.
    Standing {
        /// The machines.
        machines: Vec<Uuid>,
    },
    /// The machine's sessions changed, or its round trip was measured.
    Presence {
        /// The machine.
        machine: Uuid,
        /// The tunnel's number.
        tunnel: u64,
        /// Sessions alive.
        sessions: Vec<SessionInfo>,
        /// Round trip broker–agent, milliseconds.
        rtt_ms: Option<f64>,
    },
    /// What machines use, the newest of each. Those that control has no room for are lost.
    Samples {
        /// Of which, and what.
        samples: Vec<MachineSample>,
    },
    /// A viewer's stream was opened or refused: for the audit.
    Stream {
        /// The machine.
        machine: Uuid,
        /// The session.
        session: Uuid,
        /// The user.
        user: Uuid,
        /// The login.
        login: Uuid,
        /// What its ticket allows; empty from a broker that does not tell.
        #[serde(default)]
        caps: Vec<Capability>,
        /// The viewer's address.
        address: String,
        /// Opened, or why not.
        outcome: Option<CloseCode>,
    },
    /// A dial was refused although its certificate is ours: for the audit.
    DialRefused {
        /// The machine, as its certificate names it.
        machine: Uuid,
        /// Its organisation.
        org: Uuid,
        /// The machine its `Hello` claimed to be, where that was another one (THREATS MA-01).
        claimed: Option<Uuid>,
        /// Where the agent dialled from.
        address: String,
        /// What it was told.
        code: CloseCode,
    },
}

/// What one machine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSample {
    /// The machine.
    pub machine: Uuid,
    /// The number of the tunnel it said so on.
    pub tunnel: u64,
    /// What it says.
    pub sample: Sample,
}

/// Control → broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToBroker {
    /// An organisation's newest feed, signed: to be obeyed and passed to its agents.
    Feed {
        /// The organisation.
        org: Uuid,
        /// The signed feed.
        token: String,
    },
    /// Close a machine's tunnel and all its streams.
    Disconnect {
        /// The machine.
        machine: Uuid,
        /// What to tell it.
        code: CloseCode,
        /// Only a tunnel with at most this number; none: whichever stands.
        #[serde(default)]
        up_to: Option<u64>,
    },
}

/// Version of the link.
pub const LINK_VERSION: u32 = 1;

/// Where a broker finds control's end of the link, below control's URL.
pub const LINK_PATH: &str = "/api/broker/link";

/// Broker → control, over the link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LinkUp {
    /// The first word.
    Hello(LinkHello),
    /// Something to be told.
    Event {
        /// Counts up from 1 on each connection; acknowledged by [`LinkDown::Ack`].
        seq: u64,
        /// What.
        event: FromBroker,
    },
    /// A new certificate is wanted, for the key of the hello.
    Renew {
        /// PEM of a signing request; only its public key is believed.
        csr: String,
    },
}

/// A broker's first word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkHello {
    /// [`LINK_VERSION`].
    pub v: u32,
    /// Version of the broker.
    pub version: String,
    /// PEM of a signing request by the broker's own key; only its public key is believed.
    pub csr: String,
    /// Origin under which viewers reach it, as `https://broker.example`.
    pub viewer_url: String,
    /// What agents dial, as `host:port`.
    pub tunnel_addr: String,
}

/// Control → broker, over the link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LinkDown {
    /// The answer to [`LinkUp::Hello`].
    Welcome(LinkWelcome),
    /// Something to be obeyed.
    Order {
        /// What.
        order: ToBroker,
    },
    /// The answer to [`LinkUp::Renew`].
    Certificate {
        /// PEM of the broker's new certificate.
        certificate: String,
    },
    /// How many other brokers are there for agents to go to.
    Others {
        /// Without this one.
        others: u32,
    },
    /// All events up to this one are taken.
    Ack {
        /// The last one's number.
        seq: u64,
    },
}

/// Everything a broker needs to do its work, also while control is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkWelcome {
    /// [`LINK_VERSION`].
    pub v: u32,
    /// The installation.
    pub installation: Uuid,
    /// The name the operator gave the broker.
    pub name: String,
    /// PEM of its certificate.
    pub certificate: String,
    /// PEM of the installation's authority.
    pub ca: String,
    /// Control's ticket key, base64url of an Ed25519 public key.
    pub ticket_key: String,
    /// Origins of pages that may open a viewer's WebSocket.
    pub allowed_origins: Vec<String>,
    /// See [`LinkDown::Others`].
    pub others: u32,
}
