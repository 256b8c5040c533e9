//! A dial over QUIC.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime, TransportErrorCode, VarInt,
};
use rexec_shared::close::CloseCode;
use rexec_shared::pki::ALPN_TUNNEL;
use rexec_tunnel::Path;
use tokio::time::{sleep, timeout};

use super::socket::narrow;
use super::{DIAL_DEADLINE, DialError, Dialled, Target, explain_alert, race, resolve};

/// After so long without an answer an address is tried anew beside the attempt under way: a packet that went to a broker which was just
/// restarting is sent again only after 0.3, 0.9, 2.1, 4.5 s, and its successor is not to be kept waiting for the last of them.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Attempts at one address in one dial.
const ATTEMPTS_MAX: usize = 10;
/// Largest UDP payload taken, bytes: as the broker's. 4,000 were best on loopback; path MTU discovery finds what a path really carries.
pub(in crate::uplink) const UDP_PAYLOAD_MAX: u16 = 4_000;

/// The UDP socket of a path, which can be changed under it.
#[derive(Debug)]
pub(super) struct Socket {
    endpoint: Endpoint,
    remote: SocketAddr,
    /// The address of ours that its packets left from when that was last looked at.
    source: Option<IpAddr>,
}

impl Socket {
    /// Moves to a fresh socket if the system would send from another address than before: QUIC goes on from there, and the broker learns at
    /// once where we are.
    pub(super) fn follow_route(&mut self) {
        let source = source_towards(self.remote);
        if has_moved(self.source, source) {
            let moved = fresh_socket(self.remote, None)
                .and_then(|socket| narrow(socket, UDP_PAYLOAD_MAX))
                .and_then(|socket| self.endpoint.rebind_abstract(socket));
            match moved {
                Ok(()) => {
                    tracing::info!(?source, "this machine's address changed; the tunnel goes on from there")
                }
                Err(error) => tracing::warn!(%error, "no new socket after a change of address"),
            }
        }
        self.source = source.or(self.source);
    }

    /// Returns when the peer has heard the end, or should have.
    pub(super) async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// A machine without any route has not moved yet.
fn has_moved(before: Option<IpAddr>, now: Option<IpAddr>) -> bool {
    matches!((before, now), (Some(before), Some(now)) if before != now)
}

/// The address that the system would send from; none without a route. Nothing is sent.
fn source_towards(remote: SocketAddr) -> Option<IpAddr> {
    let socket = fresh_socket(remote, None).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn fresh_socket(remote: SocketAddr, source: Option<IpAddr>) -> std::io::Result<UdpSocket> {
    let any: IpAddr =
        if remote.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    UdpSocket::bind(SocketAddr::new(source.unwrap_or(any), 0))
}

fn endpoint(remote: SocketAddr, source: Option<IpAddr>) -> std::io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(UDP_PAYLOAD_MAX).map_err(std::io::Error::other)?;
    let socket = narrow(fresh_socket(remote, source)?, UDP_PAYLOAD_MAX)?;
    Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(TokioRuntime))
}

/// Dials over QUIC and proves that the broker is the target's.
pub async fn dial(target: Target<'_>) -> Result<Dialled, DialError> {
    let addr = target.addr;
    let addresses = resolve(addr).await?;
    let handshake = |address| handshake(target, address);
    timeout(DIAL_DEADLINE, race(addr, addresses, handshake))
        .await
        .unwrap_or_else(|_| Err(DialError::Silence { addr: addr.into() }))
}

async fn handshake(target: Target<'_>, address: SocketAddr) -> Result<Dialled, DialError> {
    let Target { addr, server_name, tls, source, .. } = target;
    let endpoint =
        endpoint(address, source).map_err(|source| DialError::Socket { protocol: "UDP", source })?;
    let mut attempts = FuturesUnordered::new();
    let ended = loop {
        let connecting = endpoint
            .connect_with(tls.quic.clone(), address, server_name)
            .map_err(|error| DialError::Failed { addr: addr.into(), reason: error.to_string() })?;
        attempts.push(connecting);
        tokio::select! {
            Some(ended) = attempts.next() => break ended,
            () = sleep(TRY_AGAIN), if attempts.len() < ATTEMPTS_MAX => {}
        }
    };
    let connection = ended.map_err(|error| explain(addr, &error))?;
    if speaks_tunnel(&connection) {
        let socket = Socket { endpoint, remote: address, source: source_towards(address) };
        return Ok(Dialled {
            path: Path::Quic(connection),
            socket: Some(socket),
            broker: addr.to_owned(),
            address: address.to_string(),
            via: None,
            why: None,
        });
    }
    connection.close(VarInt::from_u32(CloseCode::ProtocolError.number()), b"alpn");
    Err(DialError::NotOurBroker { addr: addr.into(), reason: "it speaks another protocol".into() })
}

fn speaks_tunnel(connection: &Connection) -> bool {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(ALPN_TUNNEL))
}

/// A failed handshake in a person's words.
fn explain(addr: &str, error: &ConnectionError) -> DialError {
    let addr = addr.to_owned();
    match error {
        ConnectionError::TransportError(error) if alert(error.code).is_some() => {
            DialError::NotOurBroker { addr, reason: error.reason.clone() }
        }
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            DialError::Failed { addr, reason: "the broker takes no new connections just now".into() }
        }
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => explain_alert(&addr, alert),
            None => DialError::Failed { addr, reason: error.to_string() },
        },
        ConnectionError::ApplicationClosed(close) => {
            DialError::Refused { code: CloseCode::from_number(close.error_code.into_inner()) }
        }
        ConnectionError::TimedOut => DialError::Silence { addr },
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => DialError::Failed { addr, reason: error.to_string() },
    }
}

/// QUIC carries TLS alerts as 0x100 + the alert (RFC 9001 §4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_address_is_a_move_and_no_route_is_none() {
        let [here, there] = [Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([198, 51, 100, 1]))];
        assert!(has_moved(here, there));
        assert!(!has_moved(here, here) && !has_moved(here, None) && !has_moved(None, there));
        assert_eq!(source_towards(SocketAddr::from(([127, 0, 0, 1], 9))), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
