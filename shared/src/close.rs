//! The one table of close codes: number, name, whose fault, whether to retry.
//!
//! QUIC application closes and stream resets carry the number, WebSocket closes carry 4000 + the number, `Error` frames and
//! logs carry the name. `docs/PROTOCOL.md` shows the table; a golden vector keeps TypeScript in step.

use serde::{Deserialize, Serialize};

/// What a peer should do after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// At once; the same credential is good.
    Now,
    /// After a jittered backoff.
    Backoff,
    /// At once, with a new ticket.
    Ticket,
    /// Not at all.
    Never,
}

/// Whose doing a close is: who should be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Everything went as asked.
    Nobody,
    /// The peer broke the protocol or did not keep up.
    Peer,
    /// The viewer or its credential.
    Viewer,
    /// Who owns the machine or the login decided so.
    Owner,
    /// The agent or its identity.
    Agent,
    /// The machine is away or its session host is.
    Machine,
    /// A path was lost.
    Network,
    /// Who runs the installation.
    Operator,
    /// A defect of ours.
    Rexec,
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $fault:ident, $retry:ident;)*) => {
        /// Why a stream, a tunnel or a viewer's socket was closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum CloseCode { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl CloseCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The number on QUIC.
            pub const fn number(self) -> u32 { match self { $(Self::$variant => $number,)* } }
            /// The name in `Error` frames, logs and the interface.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* } }
            /// Whose doing it is.
            pub const fn fault(self) -> Fault { match self { $(Self::$variant => Fault::$fault,)* } }
            /// What the peer should do next.
            pub const fn retry(self) -> Retry { match self { $(Self::$variant => Retry::$retry,)* } }
            /// The code of a number received; none for a number of a newer peer.
            pub const fn from_number(number: u64) -> Option<Self> { match number { $($number => Some(Self::$variant),)* _ => None } }
            /// The code of a name received.
            pub fn from_name(name: &str) -> Option<Self> { match name { $($name => Some(Self::$variant),)* _ => None } }
        }
    };
}

close_codes! {
    /// Ended as asked.
    Done = 0, "done", Nobody, Never;
    /// The peer sent what the protocol forbids.
    ProtocolError = 1, "protocol_error", Peer, Never;
    /// The ticket is malformed, altered, or not for this machine.
    BadTicket = 2, "bad_ticket", Viewer, Ticket;
    /// The ticket's time has passed.
    TicketExpired = 3, "ticket_expired", Viewer, Ticket;
    /// The ticket was used before.
    TicketUsed = 4, "ticket_used", Viewer, Ticket;
    /// The ticket does not hold the capability.
    Forbidden = 5, "forbidden", Viewer, Never;
    /// The login, user or machine was revoked.
    Revoked = 6, "revoked", Owner, Never;
    /// The machine has no tunnel.
    MachineOffline = 7, "machine_offline", Machine, Backoff;
    /// The tunnel died under the stream.
    TunnelLost = 8, "tunnel_lost", Network, Now;
    /// A newer tunnel of the same machine took over.
    Displaced = 9, "displaced", Agent, Never;
    /// The broker is going away.
    Draining = 10, "draining", Operator, Now;
    /// No such session, or not yours.
    SessionNotFound = 11, "session_not_found", Viewer, Never;
    /// A limit was reached.
    LimitReached = 12, "limit_reached", Viewer, Backoff;
    /// The peer did not keep a deadline.
    TooSlow = 13, "too_slow", Peer, Now;
    /// No room right now.
    Overloaded = 14, "overloaded", Operator, Backoff;
    /// A defect of ours.
    Internal = 15, "internal", Rexec, Backoff;
    /// No fresh revocation feed: nothing new is opened.
    FeedStale = 16, "feed_stale", Operator, Backoff;
    /// The peer belongs to another installation.
    WrongInstallation = 17, "wrong_installation", Agent, Never;
    /// The session host is not answering on its socket.
    HostUnavailable = 18, "host_unavailable", Machine, Backoff;
    /// Nothing listens on the port that a forward leads to.
    PortClosed = 19, "port_closed", Machine, Backoff;
}

impl CloseCode {
    /// The WebSocket close code: 4000 + number (RFC 6455 §7.4.2 leaves 4000–4999 to applications).
    pub const fn websocket(self) -> u16 {
        4000 + self.number() as u16
    }
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number_and_its_name() {
        for (index, code) in CloseCode::ALL.iter().enumerate() {
            assert_eq!(code.number() as usize, index, "numbers are dense");
            assert_eq!(CloseCode::from_number(u64::from(code.number())), Some(*code));
            assert_eq!(CloseCode::from_name(code.name()), Some(*code));
        }
        assert_eq!(CloseCode::from_number(u64::MAX), None);
    }
}
