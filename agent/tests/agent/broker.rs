//! A broker's end of the tunnel on a real UDP socket, as far as an uplink can see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime};
use quinn_proto::HashedConnectionIdGenerator;
use rexec_agent::clock::unix_ms;
use rexec_shared::frame::Decoder;
use rexec_shared::pki::{ALPN_TUNNEL, Authority, Identity, private_key_der};
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, Hello, Welcome};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use uuid::Uuid;

use crate::support::in_time;

/// The reset key of every broker here: one that restarts can end what the last one left behind.
const RESET_KEY: [u8; 64] = [7; 64];

pub(crate) fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A server that shows `identity`, and asks for a certificate of `clients` if there is one.
pub(crate) fn server_config(
    identity: &Identity,
    clients: Option<&Authority>,
    alpn: &[&[u8]],
) -> ServerConfig {
    let tls = tls_config(identity, clients, alpn);
    ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

/// Its TLS.
pub(crate) fn tls_config(
    identity: &Identity,
    clients: Option<&Authority>,
    alpn: &[&[u8]],
) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(der(authority.certificate_pem())).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let key = private_key_der(&identity.key_pem).unwrap();
    let mut tls = builder.with_single_cert(vec![der(&identity.certificate_pem)], key).unwrap();
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // The most tempting server: what an agent does not send early, it does not send because of itself (NW-05).
    tls.max_early_data_size = u32::MAX;
    tls
}

pub(crate) fn endpoint(config: ServerConfig, address: SocketAddr) -> Endpoint {
    let socket = std::net::UdpSocket::bind(address).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &RESET_KEY);
    let mut endpoint = EndpointConfig::new(Arc::new(key));
    // Connection ids that its predecessor made must look like its own, or it stays silent instead of resetting.
    endpoint.cid_generator(|| Box::new(HashedConnectionIdGenerator::from_key(7)));
    Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime)).unwrap()
}

/// A broker of an installation.
pub(crate) struct Broker {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
}

impl Broker {
    pub(crate) fn start(authority: &Authority, installation: Uuid) -> Self {
        Self::start_at(authority, installation, "127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn start_at(authority: &Authority, installation: Uuid, address: SocketAddr) -> Self {
        let identity = authority.broker(installation, SystemTime::now()).unwrap();
        let endpoint = endpoint(server_config(&identity, Some(authority), &[ALPN_TUNNEL]), address);
        let address = endpoint.local_addr().unwrap();
        Self { endpoint, address }
    }

    /// The next agent, its hello heard and not yet answered.
    pub(crate) async fn accept(&self) -> Agent {
        in_time("an agent's dial", async {
            loop {
                let incoming = self.endpoint.accept().await.unwrap();
                if let Ok(connection) = incoming.await
                    && let Ok(agent) = Agent::greet(connection).await
                {
                    return agent;
                }
            }
        })
        .await
    }

    /// The next agent, welcomed.
    pub(crate) async fn welcome(&self, tunnel: u64) -> Agent {
        self.accept().await.welcomed(tunnel).await
    }
}

/// One tunnel, seen from the broker.
pub(crate) struct Agent {
    pub(crate) connection: Connection,
    pub(crate) hello: Hello,
    send: SendStream,
    recv: RecvStream,
    decoder: Decoder,
}

impl Agent {
    async fn greet(connection: Connection) -> Result<Self, quinn::ConnectionError> {
        let (send, recv) = connection.accept_bi().await?;
        let hello = Hello {
            v: 0,
            features: Vec::new(),
            machine: Uuid::nil(),
            agent_version: String::new(),
            boot: Uuid::nil(),
            os: String::new(),
            arch: String::new(),
            hostname: String::new(),
            transport_reason: None,
            sessions: Vec::new(),
            after: 0,
        };
        let mut agent = Self { connection, hello, send, recv, decoder: Decoder::new() };
        match agent.next().await {
            Some(AgentMessage::Hello(hello)) => agent.hello = hello,
            other => panic!("not a hello: {other:?}"),
        }
        Ok(agent)
    }

    /// Answers the hello.
    pub(crate) async fn welcomed(mut self, tunnel: u64) -> Self {
        let welcome = Welcome { v: 1, features: Vec::new(), tunnel, broker: "test".into(), time: unix_ms() };
        self.tell(&BrokerMessage::Welcome(welcome)).await;
        self
    }

    pub(crate) async fn tell(&mut self, message: &BrokerMessage) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        self.send.write_all(&out).await.unwrap();
    }

    /// The agent's next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<AgentMessage> {
        loop {
            if let Some(frame) = self.decoder.poll_frame().unwrap() {
                return Some(AgentMessage::decode(&frame).unwrap().unwrap());
            }
            let chunk = self.recv.read_chunk(64 * 1024, true).await.ok()??;
            self.decoder.push(&chunk.bytes);
        }
    }

    /// Answers pings as a broker does, until the tunnel ends.
    pub(crate) async fn keep_alive(mut self) {
        while let Some(message) = self.next().await {
            if let AgentMessage::Ping { t } = message {
                self.tell(&BrokerMessage::Pong { t }).await;
            }
        }
    }
}
