//! Two ends of a path over loopback, with certificates of an authority of their own.
#![expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
#![allow(dead_code, reason = "shared by tests and examples, none of which uses all of it")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rexec_shared::mux::{Side, Timing};
use rexec_shared::pki::{
    ALPN_TUNNEL, Authority, MachineName, broker_name, generate_key, private_key_der, signing_request,
};
use rexec_tunnel::Path;
use rexec_tunnel::tcp::{self, HandshakeError, Peer, TcpPath};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{BufStream, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// Both ends.
pub(crate) struct Ends {
    /// The agent's.
    pub(crate) dialler: Path,
    /// The broker's.
    pub(crate) listener: Path,
}

/// TLS of both ends.
pub(crate) struct Identities {
    name: String,
    client: ClientConfig,
    server: ServerConfig,
}

fn authority() -> Authority {
    Authority::load(&Authority::generate(Uuid::new_v4(), SystemTime::now()).unwrap()).unwrap()
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(authority.certificate_pem())).unwrap();
    roots
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

impl Identities {
    /// Of one installation.
    pub(crate) fn kin() -> Self {
        let authority = authority();
        Self::of(&authority, &authority)
    }

    /// The dialler's certificate is of another installation than the listener's.
    pub(crate) fn strangers() -> Self {
        Self::of(&authority(), &authority())
    }

    fn of(broker: &Authority, agent: &Authority) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (now, installation) = (SystemTime::now(), Uuid::new_v4());
        let identity = broker.broker(installation, now).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(broker)), provider.clone());
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![certificate(&identity.certificate_pem)],
                private_key_der(&identity.key_pem).unwrap(),
            )
            .unwrap();
        server.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
        let key = generate_key().unwrap();
        let machine = MachineName { org: Uuid::new_v4(), machine: Uuid::new_v4() };
        let signed = agent.sign_machine(&signing_request(&key).unwrap(), machine, now).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots(broker))
            .with_client_auth_cert(vec![certificate(&signed)], private_key_der(&key).unwrap())
            .unwrap();
        client.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
        Self { name: broker_name(installation), client, server }
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
}

/// Over QUIC, with the windows that broker and uplink use.
pub(crate) async fn quic() -> Ends {
    let Identities { name, client, server } = Identities::kin();
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(1_024u32.into())
        .stream_receive_window((1u32 << 20).into())
        .receive_window((8u32 << 20).into())
        .send_window(8 << 20)
        .initial_rtt(Duration::from_millis(100));
    let transport = Arc::new(transport);
    let crypto = QuicServerConfig::try_from(server).unwrap();
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(transport.clone());
    let endpoint = quinn::Endpoint::server(server, loopback()).unwrap();
    let crypto = QuicClientConfig::try_from(client).unwrap();
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(transport);
    let address = endpoint.local_addr().unwrap();
    let dialling = quinn::Endpoint::client(loopback()).unwrap();
    let connecting = dialling.connect_with(client, address, &name).unwrap();
    let (dialled, accepted) = tokio::join!(connecting, async { endpoint.accept().await.unwrap().await });
    Ends { dialler: Path::Quic(dialled.unwrap()), listener: Path::Quic(accepted.unwrap()) }
}

/// Over TCP.
pub(crate) async fn tcp() -> Ends {
    let (dialled, accepted) = tcp_with(Identities::kin()).await;
    Ends { dialler: Path::Tcp(dialled.unwrap()), listener: Path::Tcp(accepted.unwrap()) }
}

/// Over TCP with these identities, whatever comes of it.
pub(crate) async fn tcp_with(
    identities: Identities,
) -> (Result<TcpPath, HandshakeError>, Result<TcpPath, HandshakeError>) {
    let Identities { name, client, server } = identities;
    let listening = TcpListener::bind(loopback()).await.unwrap();
    let socket = TcpStream::connect(listening.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listening.accept().await.unwrap();
    let name = ServerName::try_from(name).unwrap();
    tokio::join!(tcp::connect(socket, name, Arc::new(client)), tcp::accept(accepted, Arc::new(server)))
}

/// A dialler whose peer is a pipe that says nothing.
pub(crate) fn bare_tcp() -> (Path, DuplexStream) {
    let (near, far) = duplex(64 * 1024);
    let timing = Timing { ping_every: Duration::from_millis(100), dead_after: Duration::from_millis(300) };
    let peer = Peer { address: loopback(), certificates: None };
    (Path::Tcp(TcpPath::start(BufStream::new(near), peer, Side::Dialler, timing)), far)
}
