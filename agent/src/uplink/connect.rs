//! One dial: names resolved anew, addresses of both families raced, the first finished handshake taken.
//!
//! A broker counts a tunnel at its `Hello`, so the handshakes that lose the race displace nothing.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime, TransportErrorCode,
};
use rexec_shared::close::CloseCode;
use rexec_shared::pki::ALPN_TUNNEL;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use super::dial::End;
use super::pump::quic_code;

/// The whole dial.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// Head start of each address before the next is tried too (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);
/// The same where every address is this machine: a broker bound to one family only must not cost a quarter of a second.
const HEAD_START_LOCAL: Duration = Duration::from_millis(10);
/// After so long without an answer an address is tried anew beside the attempt under way: a packet that went to a broker which was just
/// restarting is sent again only after 0.3, 0.9, 2.1, 4.5 s, and its successor is not to be kept waiting for the last of them.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Attempts at one address in one dial.
const ATTEMPTS_MAX: usize = 10;
/// Largest UDP payload taken, bytes: as the broker's. 4,000 were best on loopback; path MTU discovery finds what a path really carries.
pub(super) const UDP_PAYLOAD_MAX: u16 = 4_000;
/// Addresses tried in one dial.
const ADDRESSES_MAX: usize = 8;

/// Why a dial came to nothing.
#[derive(Debug, Error)]
pub enum DialError {
    /// The broker's name.
    #[error("the name of {addr} cannot be resolved: {reason}")]
    Resolve {
        /// `host:port`.
        addr: String,
        /// Why.
        reason: String,
    },
    /// Silence.
    #[error("no answer from {addr} within {} s; is UDP to it allowed on this network?", DIAL_DEADLINE.as_secs())]
    Silence {
        /// `host:port`.
        addr: String,
    },
    /// Our socket.
    #[error("cannot open a UDP socket: {0}")]
    Socket(#[from] std::io::Error),
    /// Whoever answered is not our broker.
    #[error(
        "whoever answers at {addr} is not this installation's broker ({reason}); if this machine's clock is wrong, set it"
    )]
    NotOurBroker {
        /// `host:port`.
        addr: String,
        /// What was wrong with it.
        reason: String,
    },
    /// The broker did not take our certificate.
    #[error("the broker did not accept this machine's certificate ({reason})")]
    NotAccepted {
        /// Its alert.
        reason: String,
    },
    /// The broker said no.
    #[error("the broker refused: {}", code.map_or("for a reason of a newer version", CloseCode::name))]
    Refused {
        /// Why.
        code: Option<CloseCode>,
    },
    /// Anything else of QUIC's.
    #[error("{addr}: {reason}")]
    Failed {
        /// `host:port`.
        addr: String,
        /// Why.
        reason: String,
    },
}

impl DialError {
    /// What it means for the next dial.
    pub fn end(&self) -> End {
        match self {
            Self::Refused { code } => End::Closed(*code),
            Self::Resolve { .. }
            | Self::Silence { .. }
            | Self::Socket(_)
            | Self::NotOurBroker { .. }
            | Self::NotAccepted { .. }
            | Self::Failed { .. } => End::Unreachable,
        }
    }

    /// Of several addresses' failures the most telling is shown.
    fn weight(&self) -> u8 {
        match self {
            Self::Refused { .. } => 4,
            Self::NotAccepted { .. } => 3,
            Self::NotOurBroker { .. } => 2,
            Self::Resolve { .. } | Self::Failed { .. } | Self::Socket(_) => 1,
            Self::Silence { .. } => 0,
        }
    }
}

/// A finished handshake with this installation's broker.
#[derive(Debug)]
pub struct Dialled {
    /// Its socket, to be waited for before the process ends.
    pub endpoint: Endpoint,
    /// The connection.
    pub connection: Connection,
    /// The address of ours that its packets left from when that was last looked at.
    source: Option<IpAddr>,
}

impl Dialled {
    /// Moves the connection to a fresh socket if the system would send from another address than before: QUIC goes on from there, and the
    /// broker learns at once where we are.
    pub fn follow_route(&mut self) {
        let source = source_towards(self.connection.remote_address());
        if has_moved(self.source, source) {
            match fresh_socket(self.connection.remote_address())
                .and_then(|socket| self.endpoint.rebind(socket))
            {
                Ok(()) => {
                    tracing::info!(?source, "this machine's address changed; the tunnel goes on from there")
                }
                Err(error) => tracing::warn!(%error, "no new socket after a change of address"),
            }
        }
        self.source = source.or(self.source);
    }
}

/// A machine without any route has not moved yet.
fn has_moved(before: Option<IpAddr>, now: Option<IpAddr>) -> bool {
    matches!((before, now), (Some(before), Some(now)) if before != now)
}

/// The address that the system would send from; none without a route. Nothing is sent.
fn source_towards(remote: SocketAddr) -> Option<IpAddr> {
    let socket = fresh_socket(remote).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn fresh_socket(remote: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr =
        if remote.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    UdpSocket::bind(SocketAddr::new(any, 0))
}

fn endpoint(remote: SocketAddr) -> std::io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(UDP_PAYLOAD_MAX).map_err(std::io::Error::other)?;
    Endpoint::new(config, None, fresh_socket(remote)?, Arc::new(TokioRuntime))
}

/// Dials `addr` (`host:port`) and proves that the broker is `server_name`'s.
pub async fn dial(addr: &str, server_name: &str, config: &ClientConfig) -> Result<Dialled, DialError> {
    let addresses = resolve(addr).await?;
    timeout(DIAL_DEADLINE, race(addr, addresses, server_name, config))
        .await
        .unwrap_or_else(|_| Err(DialError::Silence { addr: addr.into() }))
}

async fn resolve(addr: &str) -> Result<VecDeque<SocketAddr>, DialError> {
    let failed = |reason: String| DialError::Resolve { addr: addr.into(), reason };
    let found = timeout(DIAL_DEADLINE, tokio::net::lookup_host(addr))
        .await
        .map_err(|_| failed("no answer from the name server".into()))?
        .map_err(|error| failed(error.to_string()))?;
    let found = interleave(found.collect());
    if found.is_empty() { Err(failed("it has no address".into())) } else { Ok(found) }
}

/// Families by turns, in the resolver's order within each, its first address first.
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut leading, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut mixed = VecDeque::new();
    while mixed.len() < ADDRESSES_MAX {
        let before = mixed.len();
        mixed.extend(leading.pop_front());
        mixed.extend(other.pop_front());
        if mixed.len() == before {
            break;
        }
    }
    mixed.truncate(ADDRESSES_MAX);
    mixed
}

async fn race(
    addr: &str,
    mut waiting: VecDeque<SocketAddr>,
    server_name: &str,
    config: &ClientConfig,
) -> Result<Dialled, DialError> {
    let mut running = FuturesUnordered::new();
    let mut telling: Option<DialError> = None;
    let is_local = waiting.iter().all(|address| address.ip().is_loopback());
    let head_start = if is_local { HEAD_START_LOCAL } else { HEAD_START };
    loop {
        if let Some(address) = waiting.pop_front() {
            running.push(handshake(addr, address, server_name, config));
        }
        let ended = tokio::select! {
            ended = running.next() => ended,
            () = sleep(head_start), if !waiting.is_empty() => continue,
        };
        match ended {
            Some(Ok(dialled)) => return Ok(dialled),
            Some(Err(error)) if telling.as_ref().is_none_or(|known| error.weight() > known.weight()) => {
                telling = Some(error)
            }
            Some(Err(_)) => {}
            None if waiting.is_empty() => {
                return Err(telling.unwrap_or_else(|| DialError::Silence { addr: addr.into() }));
            }
            None => {}
        }
    }
}

async fn handshake(
    addr: &str,
    address: SocketAddr,
    server_name: &str,
    config: &ClientConfig,
) -> Result<Dialled, DialError> {
    let endpoint = endpoint(address)?;
    let mut attempts = FuturesUnordered::new();
    let ended = loop {
        let connecting = endpoint
            .connect_with(config.clone(), address, server_name)
            .map_err(|error| DialError::Failed { addr: addr.into(), reason: error.to_string() })?;
        attempts.push(connecting);
        tokio::select! {
            Some(ended) = attempts.next() => break ended,
            () = sleep(TRY_AGAIN), if attempts.len() < ATTEMPTS_MAX => {}
        }
    };
    let connection = ended.map_err(|error| explain(addr, &error))?;
    if speaks_tunnel(&connection) {
        return Ok(Dialled { endpoint, connection, source: source_towards(address) });
    }
    connection.close(quic_code(CloseCode::ProtocolError), b"alpn");
    Err(DialError::NotOurBroker { addr: addr.into(), reason: "it speaks another protocol".into() })
}

fn speaks_tunnel(connection: &Connection) -> bool {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(ALPN_TUNNEL))
}

/// A failed handshake in a person's words.
pub(super) fn explain(addr: &str, error: &ConnectionError) -> DialError {
    let addr = addr.to_owned();
    match error {
        ConnectionError::TransportError(error) if is_tls(error.code) => {
            DialError::NotOurBroker { addr, reason: error.reason.clone() }
        }
        ConnectionError::ConnectionClosed(close) if is_tls(close.error_code) => match alert(close.error_code)
        {
            Some("no application protocol") => {
                DialError::NotOurBroker { addr, reason: "it speaks another protocol".into() }
            }
            Some(alert) => DialError::NotAccepted { reason: alert.into() },
            None => DialError::Failed { addr, reason: close.to_string() },
        },
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            DialError::Failed { addr, reason: "the broker takes no new connections just now".into() }
        }
        ConnectionError::ApplicationClosed(close) => {
            DialError::Refused { code: CloseCode::from_number(close.error_code.into_inner()) }
        }
        ConnectionError::TimedOut => DialError::Silence { addr },
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => DialError::Failed { addr, reason: error.to_string() },
    }
}

/// QUIC carries TLS alerts as 0x100 + the alert (RFC 9001 §4.8).
fn is_tls(code: TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

/// The alerts by which a broker refuses a certificate or a protocol (RFC 8446 §6).
fn alert(code: TransportErrorCode) -> Option<&'static str> {
    Some(match u64::from(code) & 0xff {
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "revoked",
        45 => "expired",
        46 => "certificate unknown",
        48 => "signed by another authority",
        49 => "access denied",
        51 => "its signature does not verify",
        116 => "certificate required",
        120 => "no application protocol",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_resolvers_first_choice_stays_first() {
        let parse =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = interleave(parse(&["[::1]:1", "[::2]:1", "127.0.0.1:1", "127.0.0.2:1"]));
        assert_eq!(Vec::from(mixed), parse(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1"]));
        assert!(interleave(Vec::new()).is_empty());
    }

    #[test]
    fn no_more_addresses_are_tried_than_the_limit() {
        let many = (1..100).map(|n| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), n)).collect();
        assert_eq!(interleave(many).len(), ADDRESSES_MAX);
    }

    #[test]
    fn only_another_address_is_a_move_and_no_route_is_none() {
        let [here, there] = [Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([198, 51, 100, 1]))];
        assert!(has_moved(here, there));
        assert!(!has_moved(here, here) && !has_moved(here, None) && !has_moved(None, there));
        assert_eq!(source_towards(SocketAddr::from(([127, 0, 0, 1], 9))), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
