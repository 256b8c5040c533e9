//! The connection, over either transport.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::VarInt;
use rexec_shared::close::CloseCode;
use rustls_pki_types::CertificateDer;

use crate::end::PathEnd;
use crate::stream::{RecvStream, SendStream};
use crate::tcp::TcpPath;

/// What carries a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP.
    Tcp,
}

impl Transport {
    /// As status and logs name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// A handle on one connection; cheap to clone. When the last handle and stream are gone, it closes.
#[derive(Debug, Clone)]
pub enum Path {
    /// Over UDP.
    Quic(quinn::Connection),
    /// Over TCP.
    Tcp(TcpPath),
}

impl Path {
    /// Opens a stream; waits while the peer allows no more. Cancel-safe.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), PathEnd> {
        match self {
            Self::Quic(connection) => {
                let (send, recv) = connection.open_bi().await.map_err(|error| PathEnd::from(&error))?;
                Ok((SendStream::quic(send), RecvStream::quic(recv)))
            }
            Self::Tcp(path) => path.open_bi().await.map(|(send, recv)| (send.into(), recv.into())),
        }
    }

    /// The next stream that the peer has opened. Cancel-safe.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), PathEnd> {
        match self {
            Self::Quic(connection) => {
                let (send, recv) = connection.accept_bi().await.map_err(|error| PathEnd::from(&error))?;
                Ok((SendStream::quic(send), RecvStream::quic(recv)))
            }
            Self::Tcp(path) => path.accept_bi().await.map(|(send, recv)| (send.into(), recv.into())),
        }
    }

    /// Ends the path and everything on it; what was not sent is dropped.
    pub fn close(&self, code: CloseCode) {
        self.close_because(code, code.name());
    }

    /// The same with a reason for the peer's log, at most [`REASON_MAX`](rexec_shared::mux::REASON_MAX) bytes of it.
    pub fn close_because(&self, code: CloseCode, reason: &str) {
        match self {
            Self::Quic(connection) => connection.close(VarInt::from_u32(code.number()), reason.as_bytes()),
            Self::Tcp(path) => path.close(code, reason),
        }
    }

    /// Returns when the path has ended, and how.
    pub async fn closed(&self) -> PathEnd {
        match self {
            Self::Quic(connection) => PathEnd::from(&connection.closed().await),
            Self::Tcp(path) => path.closed().await,
        }
    }

    /// Returns when a path that has ended needs its socket no more: over TCP the peer has heard the end, or should have. QUIC's socket is its
    /// endpoint's, and is not waited for here.
    pub async fn gone(&self) {
        match self {
            Self::Quic(connection) => drop(connection.closed().await),
            Self::Tcp(path) => path.gone().await,
        }
    }

    /// How the path ended, once it has.
    pub fn close_reason(&self) -> Option<PathEnd> {
        match self {
            Self::Quic(connection) => connection.close_reason().map(|error| PathEnd::from(&error)),
            Self::Tcp(path) => path.close_reason(),
        }
    }

    /// The current estimate of the round trip; before the first measurement a guess.
    pub fn rtt(&self) -> Duration {
        match self {
            Self::Quic(connection) => connection.rtt(),
            Self::Tcp(path) => path.rtt(),
        }
    }

    /// The chain that the peer has shown and TLS has verified, its own certificate first.
    pub fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        match self {
            Self::Quic(connection) => {
                connection.peer_identity()?.downcast().ok().map(|chain: Box<Vec<_>>| *chain)
            }
            Self::Tcp(path) => path.peer_certificates().map(<[_]>::to_vec),
        }
    }

    /// Where the peer's packets come from: the proxy's address if there is one. Over QUIC it may change.
    pub fn remote_address(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote_address(),
            Self::Tcp(path) => path.remote_address(),
        }
    }

    /// Sizes the window that QUIC's streams share for what is sent and not yet acknowledged, bytes. Over TCP streams share no window.
    pub fn set_send_window(&self, bytes: u64) {
        if let Self::Quic(connection) = self {
            connection.set_send_window(bytes);
        }
    }

    /// Grows with whatever arrives, on whichever stream: the plainest sign of life. Datagrams over QUIC, reads over TCP.
    pub fn received(&self) -> u64 {
        match self {
            Self::Quic(connection) => connection.stats().udp_rx.datagrams,
            Self::Tcp(path) => path.received(),
        }
    }

    /// Whether the peer has finished the handshake as well, and so has accepted our certificate: a dialler believes to be connected before that. Over
    /// TCP it shows by the answer to the ping that a dialler begins with.
    pub fn is_confirmed(&self) -> bool {
        match self {
            Self::Quic(connection) => connection.stats().frame_rx.handshake_done > 0,
            Self::Tcp(path) => path.received() > 0,
        }
    }

    /// Asks the peer for a sign of life now: the machine woke, or the network changed. Over QUIC that is the application's ping.
    pub fn probe(&self) {
        if let Self::Tcp(path) = self {
            path.probe();
        }
    }

    /// What carries it.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            Self::Tcp(_) => Transport::Tcp,
        }
    }
}
