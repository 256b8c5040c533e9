//! An installation in miniature: an authority, a signer, a broker behind a real HTTP listener, agents and viewers with real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rexec_broker::{Broker, BrokerConfig};
use rexec_shared::broker_link::{FromBroker, ToBroker};
use rexec_shared::close::CloseCode;
use rexec_shared::frame::Decoder;
use rexec_shared::message::{Attach, Open, SessionKind, Spec, ViewerMessage};
use rexec_shared::pki::{self, ALPN_TUNNEL, Authority, Identity, MachineName, broker_name};
use rexec_shared::ticket::{Actor, ActorKind, Capability, Claims, Feed, PublicKey, Revocation, Signer};
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, Hello, TransportCause, TransportReason};
use rexec_tunnel::quic::{RANDOM, dial_id};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

/// Longer than anything here should take; a test that waits this long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What an agent says whose UDP does not get through.
pub(crate) fn udp_silent() -> TransportReason {
    TransportReason { cause: TransportCause::UdpSilent, detail: "UDP got no answer".into() }
}

/// What an installation keeps.
pub(crate) struct Installation {
    pub(crate) id: Uuid,
    pub(crate) org: Uuid,
    pub(crate) authority: Authority,
    pub(crate) authority_identity: Identity,
    pub(crate) signer: Signer,
}

impl Installation {
    pub(crate) fn new() -> Self {
        let id = Uuid::new_v4();
        Self::with_authority(id, Authority::generate(id, SystemTime::now()).unwrap())
    }

    pub(crate) fn with_authority(id: Uuid, authority_identity: Identity) -> Self {
        Self {
            id,
            org: Uuid::new_v4(),
            authority: Authority::load(&authority_identity).unwrap(),
            authority_identity,
            signer: Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap(),
        }
    }

    pub(crate) fn config(&self, tunnel_addr: SocketAddr) -> BrokerConfig {
        BrokerConfig {
            name: "broker-1".into(),
            tunnel_addr,
            identity: self.authority.broker(self.id, SystemTime::now()).unwrap(),
            web: Some(self.authority.web(self.id, SystemTime::now()).unwrap()),
            ca_pem: self.authority.certificate_pem().to_owned(),
            ticket_key: PublicKey::parse(&self.signer.public_key()).unwrap(),
            reset_key: [9; 64],
            allowed_origins: vec!["http://app.test".into()],
        }
    }

    /// A machine's certificate, signed at `now`.
    pub(crate) fn machine(&self, machine: Uuid, now: SystemTime) -> Identity {
        let key_pem = pki::generate_key().unwrap();
        let csr = pki::signing_request(&key_pem).unwrap();
        let name = MachineName { org: self.org, machine };
        Identity { certificate_pem: self.authority.sign_machine(&csr, name, now).unwrap(), key_pem }
    }

    pub(crate) fn claims(&self, machine: Uuid) -> Claims {
        let iat = unix_ms();
        Claims {
            jti: Uuid::new_v4(),
            aud: machine,
            org: self.org,
            usr: Uuid::from_u128(1),
            lgn: Uuid::from_u128(2),
            act: Actor { kind: ActorKind::Person, id: Uuid::from_u128(1), name: "Ada".into() },
            ses: Uuid::new_v4(),
            caps: vec![Capability::Terminal],
            cnf: "cnf".into(),
            iat,
            exp: iat + 60_000,
        }
    }

    pub(crate) fn feed(&self, seq: u64, revoked: &[String]) -> ToBroker {
        let entries = revoked
            .iter()
            .map(|principal| Revocation { principal: principal.clone(), at: unix_ms() })
            .collect();
        let feed = Feed { org: self.org, seq, issued: unix_ms(), entries };
        ToBroker::Feed { org: self.org, token: self.signer.feed(&feed) }
    }

    /// A TLS configuration of an agent: `identity` none is an agent without a certificate.
    pub(crate) fn tls(&self, identity: Option<&Identity>, alpn: &[u8]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate(self.authority.certificate_pem())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match identity {
            Some(identity) => builder
                .with_client_auth_cert(
                    vec![certificate(&identity.certificate_pem)],
                    pki::private_key_der(&identity.key_pem).unwrap(),
                )
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls
    }
}

pub(crate) fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Transport parameters of an agent.
pub(crate) fn transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1_024))
        .stream_receive_window(VarInt::from_u32(1024 * 1024))
        .keep_alive_interval(Some(Duration::from_millis(300)));
    transport
}

/// Dials as an agent does: marked.
pub(crate) fn quic(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    let mut config = unmarked_quic(tls);
    config.initial_dst_cid_provider(Arc::new(|| dial_id(random())));
    config
}

/// Dials as a browser does.
pub(crate) fn unmarked_quic(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    config
}

/// Of a UUID all but its fixed bits.
fn random() -> [u8; RANDOM] {
    let (one, two) = (Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes());
    std::array::from_fn(|n| if n < 6 { one[n] } else { two[n - 6] })
}

/// A broker, its HTTP listener, and control's ends of the link.
pub(crate) struct Rig {
    pub(crate) installation: Arc<Installation>,
    pub(crate) broker: Broker,
    pub(crate) events: mpsc::Receiver<FromBroker>,
    pub(crate) orders: mpsc::Sender<ToBroker>,
    pub(crate) http: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_at(Arc::new(Installation::new()), SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(installation: Arc<Installation>, tunnel_addr: SocketAddr) -> Self {
        let (to_control, events) = mpsc::channel(256);
        let (orders, from_control) = mpsc::channel(16);
        let broker = Broker::start(installation.config(tunnel_addr), to_control, from_control).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let routes = broker.viewer_routes().into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { installation, broker, events, orders, http, server }
    }

    /// The next event for control.
    pub(crate) async fn event(&mut self) -> FromBroker {
        timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("the broker lives")
    }

    /// A ticket for a new session on the machine, and the session.
    pub(crate) fn ticket(&self, machine: Uuid) -> (String, Uuid) {
        let claims = self.installation.claims(machine);
        (self.installation.signer.ticket(&claims), claims.ses)
    }

    /// A dial up to the end of the handshake, as an agent sees it.
    pub(crate) async fn try_dial(&self, machine: Uuid) -> Result<Connection, quinn::ConnectionError> {
        let identity = self.installation.machine(machine, SystemTime::now());
        let config = quic(self.installation.tls(Some(&identity), ALPN_TUNNEL));
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let name = broker_name(self.installation.id);
        endpoint.connect_with(config, self.broker.tunnel_addr(), &name).unwrap().await
    }

    /// A viewer attached to a new session of the machine, and the stream the agent got.
    pub(crate) async fn attached(&self, agent: &Agent) -> (Viewer, SendStream, RecvStream) {
        let mut viewer = Viewer::connect(self).await;
        let (ticket, session) = self.ticket(agent.machine);
        viewer.open(&ticket, session).await;
        let (send, recv) = agent.stream().await;
        (viewer, send, recv)
    }

    /// Waits until the broker's figures satisfy `wanted`.
    pub(crate) async fn until(&self, wanted: impl Fn(rexec_broker::Counts) -> bool) {
        let reached = async {
            while !wanted(self.broker.counts()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(DEADLINE, reached).await.unwrap_or_else(|_| panic!("figures: {:?}", self.broker.counts()));
    }
}

/// An agent's end of a tunnel.
pub(crate) struct Agent {
    pub(crate) machine: Uuid,
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) connection: Connection,
    pub(crate) control: SendStream,
    recv: RecvStream,
    decoder: Decoder,
    pub(crate) number: u64,
}

impl Agent {
    /// Dials, and is welcomed.
    pub(crate) async fn dial(rig: &Rig, machine: Uuid) -> Self {
        Self::dial_to(&rig.installation, rig.broker.tunnel_addr(), machine).await
    }

    /// Dials a broker of another process, and is welcomed.
    pub(crate) async fn dial_to(installation: &Installation, broker: SocketAddr, machine: Uuid) -> Self {
        let identity = installation.machine(machine, SystemTime::now());
        let mut agent = Self::connect_to(installation, broker, machine, &identity).await;
        agent.hello(machine).await;
        match agent.next().await {
            BrokerMessage::Welcome(welcome) => agent.number = welcome.tunnel,
            other => panic!("{other:?}"),
        }
        agent
    }

    /// Dials from an endpoint of the caller's, and is welcomed.
    pub(crate) async fn dial_on(endpoint: &quinn::Endpoint, rig: &Rig, machine: Uuid) -> Self {
        let identity = rig.installation.machine(machine, SystemTime::now());
        let config = quic(rig.installation.tls(Some(&identity), ALPN_TUNNEL));
        let broker = rig.broker.tunnel_addr();
        let mut agent = Self::connect_on(endpoint.clone(), config, &rig.installation, broker, machine).await;
        agent.hello(machine).await;
        assert!(matches!(agent.next().await, BrokerMessage::Welcome(_)));
        agent
    }

    /// Dials up to the control stream, and says nothing.
    pub(crate) async fn connect(rig: &Rig, machine: Uuid, identity: &Identity) -> Self {
        Self::connect_to(&rig.installation, rig.broker.tunnel_addr(), machine, identity).await
    }

    async fn connect_to(
        installation: &Installation,
        broker: SocketAddr,
        machine: Uuid,
        identity: &Identity,
    ) -> Self {
        let config = quic(installation.tls(Some(identity), ALPN_TUNNEL));
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self::connect_on(endpoint, config, installation, broker, machine).await
    }

    /// The same with an endpoint and a transport of the caller's.
    pub(crate) async fn connect_on(
        endpoint: quinn::Endpoint,
        config: quinn::ClientConfig,
        installation: &Installation,
        broker: SocketAddr,
        machine: Uuid,
    ) -> Self {
        let name = broker_name(installation.id);
        let connection = endpoint.connect_with(config, broker, &name).unwrap().await.unwrap();
        let (control, recv) = connection.open_bi().await.unwrap();
        Self { machine, endpoint, connection, control, recv, decoder: Decoder::new(), number: 0 }
    }

    pub(crate) async fn hello(&mut self, machine: Uuid) {
        let hello = Hello {
            v: 1,
            features: Vec::new(),
            machine,
            agent_version: "0.1.0".into(),
            boot: Uuid::new_v4(),
            os: "linux".into(),
            arch: "x86_64".into(),
            hostname: "laptop".into(),
            // Over QUIC there is nothing to explain, whoever explains it.
            transport_reason: Some(udp_silent()),
            sessions: Vec::new(),
            after: 0,
        };
        self.say(&AgentMessage::Hello(hello)).await;
    }

    pub(crate) async fn say(&mut self, message: &AgentMessage) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        self.control.write_all(&bytes).await.unwrap();
    }

    /// The broker's next message.
    pub(crate) async fn next(&mut self) -> BrokerMessage {
        timeout(DEADLINE, async {
            loop {
                if let Some(frame) = self.decoder.poll_frame().unwrap() {
                    return BrokerMessage::decode(&frame).unwrap().unwrap();
                }
                let chunk =
                    self.recv.read_chunk(65_536, true).await.unwrap().expect("the control stream stands");
                self.decoder.push(&chunk.bytes);
            }
        })
        .await
        .expect("a message in time")
    }

    /// The next viewer's stream.
    pub(crate) async fn stream(&self) -> (SendStream, RecvStream) {
        timeout(DEADLINE, self.connection.accept_bi()).await.expect("a stream in time").unwrap()
    }

    /// The code the broker closed the tunnel with.
    pub(crate) async fn closed(&self) -> Option<CloseCode> {
        close_code(&timeout(DEADLINE, self.connection.closed()).await.expect("a close in time"))
    }
}

/// The code of the table in a close by the peer.
pub(crate) fn close_code(error: &quinn::ConnectionError) -> Option<CloseCode> {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_number(close.error_code.into_inner())
        }
        _ => None,
    }
}

/// A viewer's WebSocket.
pub(crate) struct Viewer(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Viewer {
    pub(crate) async fn connect(rig: &Rig) -> Self {
        Self::connect_from(rig, None).await.unwrap()
    }

    pub(crate) async fn connect_from(rig: &Rig, origin: Option<&str>) -> Result<Self, tungstenite::Error> {
        let mut request = format!("ws://{}/viewer", rig.http).into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("Origin", origin.parse().unwrap());
        }
        Ok(Self(tokio_tungstenite::connect_async(request).await?.0))
    }

    pub(crate) async fn open(&mut self, ticket: &str, session: Uuid) {
        self.send(first_frame(ticket, session)).await;
    }

    pub(crate) async fn attach(&mut self, ticket: &str, session: Uuid) {
        let attach = Attach {
            v: 1,
            features: Vec::new(),
            ticket: ticket.to_owned(),
            viewer: Uuid::new_v4(),
            attempt: 0,
            session,
            epoch: None,
            offset: None,
            input_seq: 0,
        };
        let mut bytes = BytesMut::new();
        ViewerMessage::Attach(attach).encode(&mut bytes);
        self.send(bytes.freeze()).await;
    }

    pub(crate) async fn send(&mut self, bytes: Bytes) {
        self.0.send(Message::Binary(bytes)).await.unwrap();
    }

    /// The next slice of the byte stream; none when the broker closed.
    pub(crate) async fn bytes(&mut self) -> Option<Bytes> {
        loop {
            match timeout(DEADLINE, self.0.next()).await.expect("a message in time")? {
                Ok(Message::Binary(bytes)) => return Some(bytes),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The code the broker closed the socket with, whatever came before.
    pub(crate) async fn closed(&mut self) -> CloseCode {
        loop {
            match timeout(DEADLINE, self.0.next()).await.expect("a close in time") {
                Some(Ok(Message::Close(Some(frame)))) => {
                    let number = u16::from(frame.code).checked_sub(4_000).expect("a code of ours");
                    let code = CloseCode::from_number(u64::from(number)).unwrap();
                    assert_eq!(frame.reason.as_str(), code.name());
                    return code;
                }
                Some(Ok(_)) => {}
                other => panic!("no close frame: {other:?}"),
            }
        }
    }
}

/// An `Open` frame.
pub(crate) fn first_frame(ticket: &str, session: Uuid) -> Bytes {
    let open = Open {
        v: 1,
        features: Vec::new(),
        ticket: ticket.to_owned(),
        viewer: Uuid::new_v4(),
        attempt: 0,
        session,
        input_seq: 0,
        spec: Spec {
            kind: SessionKind::Terminal,
            cols: 80,
            rows: 24,
            env: Default::default(),
            cwd: None,
            command: None,
            port: None,
        },
    };
    let mut bytes = BytesMut::new();
    ViewerMessage::Open(open).encode(&mut bytes);
    bytes.freeze()
}

/// Reads the first frame from a viewer's stream, and returns it with what came behind it.
pub(crate) async fn read_first(recv: &mut RecvStream) -> (ViewerMessage, BytesMut) {
    let mut decoder = Decoder::new();
    loop {
        if let Some(frame) = decoder.poll_frame().unwrap() {
            return (ViewerMessage::decode(&frame).unwrap().unwrap(), decoder.into_rest());
        }
        let chunk = timeout(DEADLINE, recv.read_chunk(65_536, true)).await.expect("bytes in time").unwrap();
        decoder.push(&chunk.expect("a first frame").bytes);
    }
}

/// Bytes that repeat late and are the same everywhere: position in, byte out.
pub(crate) fn pattern(from: u64, len: usize) -> Bytes {
    (from..).take(len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>().into()
}
