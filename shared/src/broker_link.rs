//! What a broker and control say to each other: in process when the broker is embedded, over a WebSocket when it stands alone.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::close::CloseCode;
use crate::tunnel::{SessionInfo, TransportReason};

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
    },
}
