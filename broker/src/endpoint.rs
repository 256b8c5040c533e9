//! What agents dial, QUIC and TCP on the same port, and beside it what browsers dial ([`web`]): TLS, transport limits, keys that survive a
//! restart.
//!
//! No knob is left at a library's default: each stands here with its reason (DESIGN §5, THREATS MA-02, NW-01, NW-03, NW-05).

pub(crate) mod web;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, ValidationTokenConfig,
    VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rexec_shared::limits::TUNNEL_IDLE;
use rexec_shared::pki::{ALPN_TUNNEL, Identity, private_key_der};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, WantsVerifier};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::{BrokerConfig, StartError};
use crate::limits::{
    HANDSHAKES_MAX, INCOMING_BUFFER, INCOMING_BUFFER_TOTAL, PORT_TRIES, RESET_INTERVAL, RETRY_TOKEN_LIFE,
    SOCKET_BUFFER, STREAM_WINDOW, TCP_BACKLOG, TUNNEL_WINDOW, UDP_PAYLOAD_MAX, send_window,
};

/// Binds both sockets and starts the endpoint; nothing is accepted yet.
pub(crate) fn bind(config: &BrokerConfig) -> Result<(quinn::Endpoint, TcpListener), StartError> {
    let addr = config.tunnel_addr;
    let server = server_config(tls_config(&config.identity, &config.ca_pem)?, &config.reset_key)?;
    let (udp, tcp) = sockets(addr)?;
    let bind_error = |protocol| move |source| StartError::Bind { protocol, addr, source };
    let tcp = TcpListener::from_std(tcp).map_err(bind_error("tcp"))?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = quinn::Endpoint::new(endpoint_config(&config.reset_key)?, Some(server), udp, runtime);
    Ok((endpoint.map_err(bind_error("udp"))?, tcp))
}

/// The same port for both. Where any was asked for, one that is free for UDP may be taken for TCP: another is tried then.
fn sockets(addr: SocketAddr) -> Result<(UdpSocket, std::net::TcpListener), StartError> {
    let mut tries = if addr.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        let udp_error = |source| StartError::Bind { protocol: "udp", addr, source };
        let udp = socket(addr).map_err(udp_error)?;
        let bound = udp.local_addr().map_err(udp_error)?;
        tries -= 1;
        match tcp_socket(bound) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries > 0 => {}
            Err(source) => return Err(StartError::Bind { protocol: "tcp", addr: bound, source }),
        }
    }
}

/// `SO_REUSEADDR` is on, unlike UDP's: it lets a restart bind beside what its predecessor left in `TIME_WAIT`, and never beside another
/// listener.
fn tcp_socket(addr: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}

/// `SO_REUSEADDR` stays off: UDP ports know no `TIME_WAIT`, so a restart binds at once without it, and with it a second broker
/// started by mistake would take packets away from the first without a word.
fn socket(addr: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    for (what, result) in [
        ("receive", socket.set_recv_buffer_size(SOCKET_BUFFER)),
        ("send", socket.set_send_buffer_size(SOCKET_BUFFER)),
    ] {
        if let Err(error) = result {
            tracing::warn!(%error, what, "the system refuses the socket buffer's size");
        }
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Keys derived from the one secret that is kept across restarts, each for its own use.
struct Keys {
    secret: hmac::Key,
}

impl Keys {
    fn new(secret: &[u8; 64]) -> Self {
        Self { secret: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(hmac::sign(&self.secret, purpose.as_bytes()).as_ref());
        key
    }
}

fn endpoint_config(secret: &[u8; 64]) -> Result<EndpointConfig, StartError> {
    let keys = Keys::new(secret);
    // The same key after a restart: an agent's next packet is answered by a stateless reset it believes.
    let reset = hmac::Key::new(hmac::HMAC_SHA256, &keys.derive("rexec stateless reset"));
    // Resets go only to connection ids of our own making; they must be known as ours after a restart, too.
    let [a, b, c, d, e, f, g, h, ..] = keys.derive("rexec connection ids");
    let ids = u64::from_be_bytes([a, b, c, d, e, f, g, h]);

    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    // What the network interface carries on loopback and jumbo paths; path MTU discovery finds what is really possible.
    config.max_udp_payload_size(UDP_PAYLOAD_MAX).map_err(|error| StartError::Tls(error.to_string()))?;
    // Version 1 alone (RFC 9000): drafts have no user.
    config.supported_versions(vec![1]);
    // A hint to middleboxes, costs nothing (RFC 9287).
    config.grease_quic_bit(true);
    config.min_reset_interval(RESET_INTERVAL);
    // Randomness is the system's.
    config.rng_seed(None);
    Ok(config)
}

/// What is shown to dials over QUIC from here on.
pub(crate) fn server_config(
    tls: rustls::ServerConfig,
    reset_key: &[u8; 64],
) -> Result<ServerConfig, StartError> {
    let mut server = quic_config(tls, reset_key)?;
    server.transport_config(Arc::new(transport()));
    // Dials are taken from the queue at once, by a loop that awaits no peer, so the queue is short.
    server.max_incoming(HANDSHAKES_MAX);
    server.incoming_buffer_size(INCOMING_BUFFER);
    server.incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
    Ok(server)
}

/// What is the same for agents and browsers.
fn quic_config(tls: rustls::ServerConfig, reset_key: &[u8; 64]) -> Result<ServerConfig, StartError> {
    let tls = QuicServerConfig::try_from(tls).map_err(|error| StartError::Tls(error.to_string()))?;
    let token_key = Keys::new(reset_key).derive("rexec address tokens");
    let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&token_key);
    let mut server = ServerConfig::new(Arc::new(tls), Arc::new(token_key));
    server.retry_token_lifetime(RETRY_TOKEN_LIFE);
    // No tokens for later visits: an agent returns once a day, and a forged flood is met by retry.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).lifetime(Duration::ZERO);
    server.validation_token_config(tokens);
    // A changed address never costs the tunnel (DESIGN §5).
    server.migration(true);
    server.preferred_address_v4(None).preferred_address_v6(None);
    Ok(server)
}

/// TLS of both transports: 1.3 with certificates of our own authority on both sides.
pub(crate) fn tls_config(identity: &Identity, ca_pem: &str) -> Result<rustls::ServerConfig, StartError> {
    let tls_error = |error: rustls::Error| StartError::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(certificate(ca_pem, "authority's certificate")?).map_err(tls_error)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .build()
        .map_err(|error| StartError::Tls(error.to_string()))?;
    let chain = vec![certificate(&identity.certificate_pem, "broker's certificate")?];
    let mut tls = tls_builder()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private_key_der(&identity.key_pem)?)
        .map_err(tls_error)?;
    tls.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    without_resumption(&mut tls);
    Ok(tls)
}

fn tls_builder() -> Result<rustls::ConfigBuilder<rustls::ServerConfig, WantsVerifier>, StartError> {
    rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| StartError::Tls(error.to_string()))
}

/// Nothing is resumed: every dial shows its certificate anew, so that an expired one is an end, and there is no early data to replay
/// (THREATS NW-05).
fn without_resumption(tls: &mut rustls::ServerConfig) {
    tls.max_early_data_size = 0;
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
}

fn certificate(pem: &str, what: &'static str) -> Result<CertificateDer<'static>, StartError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| StartError::Certificate { what })
}

fn transport() -> TransportConfig {
    let mut config = common();
    config
        // The agent opens its control stream and nothing else; viewers' streams are opened by the broker.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        // One window for each stream there can be, and some to spare: streams left unread never take their neighbours' room.
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(TUNNEL_WINDOW))
        // Grows with the streams that are open, by `Carrier`.
        .send_window(send_window(0))
        // No datagrams: nothing to be buffered.
        .datagram_receive_buffer_size(None)
        // The agent keeps the tunnel alive, for it is the one behind a NAT; doubling that from here would only cost packets.
        .keep_alive_interval(None);
    config
}

/// What is the same for agents and browsers: all but the windows and who keeps the connection alive.
fn common() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        // Streams take turns packet by packet: an echo does not wait behind a flood.
        .send_fairness(true)
        .datagram_send_buffer_size(0)
        // Handshake bytes out of order: one certificate, one hello; 16 KiB is four times what is needed.
        .crypto_buffer_size(16 * 1024)
        .max_idle_timeout(Some(idle_timeout()));
    loss_recovery(&mut config);
    path(&mut config);
    config
}

fn idle_timeout() -> IdleTimeout {
    let millis = u32::try_from(TUNNEL_IDLE.as_millis()).unwrap_or(u32::MAX);
    IdleTimeout::from(VarInt::from_u32(millis))
}

fn loss_recovery(config: &mut TransportConfig) {
    config
        // RFC 9002's values.
        .packet_threshold(3)
        .time_threshold(9.0 / 8.0)
        .persistent_congestion_threshold(3)
        // Before the first sample: lower than RFC 9002's 333 ms, so that a lost handshake packet is sent again sooner.
        .initial_rtt(Duration::from_millis(100))
        // Acknowledge as RFC 9000 says: the extension is still a draft.
        .ack_frequency_config(None)
        // By measurement: docs/TRANSPORT.md.
        .congestion_controller_factory(Arc::new(CubicConfig::default()));
}

fn path(config: &mut TransportConfig) {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery
        // Once ten minutes is enough to find a better path.
        .interval(Duration::from_secs(600))
        .upper_bound(UDP_PAYLOAD_MAX)
        // A path that swallows large packets is left alone for a minute.
        .black_hole_cooldown(Duration::from_secs(60))
        // Finer steps than 20 bytes are worth no probe.
        .minimum_change(20);
    config
        // What every path carries (RFC 9000 §14).
        .initial_mtu(1_200)
        .min_mtu(1_200)
        .mtu_discovery_config(Some(discovery))
        // Keystrokes stay small: their size is no secret that padding could keep at a bearable price.
        .pad_to_mtu(false)
        // Tells observers the round trip: no reason to.
        .allow_spin(false)
        // Worth 3.3 times in bulk (docs/TRANSPORT.md).
        .enable_segmentation_offload(true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rexec_shared::pki::Authority;
    use rexec_shared::ticket::{PublicKey, Signer};
    use std::time::SystemTime;
    use uuid::Uuid;

    fn config() -> BrokerConfig {
        let installation = Uuid::new_v4();
        let authority =
            Authority::load(&Authority::generate(installation, SystemTime::now()).unwrap()).unwrap();
        let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
        BrokerConfig {
            name: "test".into(),
            tunnel_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            identity: authority.broker(installation, SystemTime::now()).unwrap(),
            web: None,
            ca_pem: authority.certificate_pem().to_owned(),
            ticket_key: PublicKey::parse(&signer.public_key()).unwrap(),
            reset_key: [7; 64],
            allowed_origins: Vec::new(),
        }
    }

    #[test]
    fn nw_05_there_is_no_early_data_and_nothing_to_resume() {
        let config = config();
        let tls = tls_config(&config.identity, &config.ca_pem).unwrap();
        assert_eq!(tls.max_early_data_size, 0);
        assert_eq!(tls.send_tls13_tickets, 0);
        assert!(!tls.session_storage.can_cache());
        assert!(!tls.ticketer.enabled());
        assert_eq!(tls.alpn_protocols, [ALPN_TUNNEL]);
    }

    #[test]
    fn keys_differ_by_purpose_and_stay_across_restarts() {
        let (first, second) = (Keys::new(&[7; 64]), Keys::new(&[7; 64]));
        assert_eq!(first.derive("a"), second.derive("a"));
        assert_ne!(first.derive("a"), first.derive("b"));
    }

    #[test]
    fn a_text_that_is_no_certificate_is_named() {
        let error = tls_config(&config().identity, "not a certificate").unwrap_err();
        assert_eq!(error.to_string(), "the authority's certificate is not a PEM certificate");
    }
}
