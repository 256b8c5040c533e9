//! Tunnels over TCP: the same agents are welcomed, the same are refused, and nothing more is to be had than over QUIC.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use rexec_broker::{Broker, Drain};
use rexec_shared::broker_link::FromBroker;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::Decoder;
use rexec_shared::pki::{ALPN_TUNNEL, Identity, broker_name};
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, Hello};
use rexec_tunnel::tcp::{self, HandshakeError, TcpPath};
use rexec_tunnel::{Path, PathEnd, RecvStream, SendStream};
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use crate::handshakes::self_signed;
use crate::kit::{Agent, DEADLINE, Installation, Rig, Viewer, pattern, udp_silent};

async fn connect(rig: &Rig, tls: rustls::ClientConfig, server_name: &str) -> Result<TcpPath, HandshakeError> {
    let socket = TcpStream::connect(rig.broker.tunnel_addr()).await.unwrap();
    let name = ServerName::try_from(server_name.to_owned()).unwrap();
    timeout(DEADLINE, tcp::connect(socket, name, Arc::new(tls))).await.expect("a handshake in time")
}

/// An agent's end of a tunnel over TCP.
struct TcpAgent {
    path: Path,
    control: SendStream,
    recv: RecvStream,
    decoder: Decoder,
}

impl TcpAgent {
    async fn connect(rig: &Rig, identity: &Identity) -> Self {
        let tls = rig.installation.tls(Some(identity), ALPN_TUNNEL);
        let path = Path::Tcp(connect(rig, tls, &broker_name(rig.installation.id)).await.unwrap());
        let (control, recv) = path.open_bi().await.unwrap();
        Self { path, control, recv, decoder: Decoder::new() }
    }

    async fn dial(rig: &Rig, machine: Uuid) -> (Self, u64) {
        let mut agent = Self::connect(rig, &rig.installation.machine(machine, SystemTime::now())).await;
        agent.hello(machine).await;
        match agent.next().await {
            BrokerMessage::Welcome(welcome) => (agent, welcome.tunnel),
            other => panic!("{other:?}"),
        }
    }

    async fn hello(&mut self, machine: Uuid) {
        let hello = Hello {
            v: 1,
            features: Vec::new(),
            machine,
            agent_version: "0.1.0".into(),
            boot: Uuid::new_v4(),
            os: "linux".into(),
            arch: "x86_64".into(),
            hostname: "laptop".into(),
            transport_reason: Some(udp_silent()),
            sessions: Vec::new(),
            after: 0,
        };
        let mut bytes = BytesMut::new();
        AgentMessage::Hello(hello).encode(&mut bytes);
        self.control.write_all(&bytes).await.unwrap();
    }

    async fn next(&mut self) -> BrokerMessage {
        let next = async {
            loop {
                if let Some(frame) = self.decoder.poll_frame().unwrap() {
                    return BrokerMessage::decode(&frame).unwrap().unwrap();
                }
                let chunk = self.recv.read_chunk(65_536).await.unwrap().expect("the control stream stands");
                self.decoder.push(&chunk);
            }
        };
        timeout(DEADLINE, next).await.expect("a message in time")
    }

    async fn closed(&self) -> PathEnd {
        timeout(DEADLINE, self.path.closed()).await.expect("a close in time")
    }
}

/// A viewer attached to the agent, and a task that sends back what it types.
async fn echo(rig: &Rig, agent: &TcpAgent, machine: Uuid) -> Viewer {
    let mut viewer = Viewer::connect(rig).await;
    let (ticket, session) = rig.ticket(machine);
    viewer.open(&ticket, session).await;
    let (mut send, mut recv) =
        timeout(DEADLINE, agent.path.accept_bi()).await.expect("a stream in time").unwrap();
    tokio::spawn(async move {
        while let Ok(Some(bytes)) = recv.read_chunk(65_536).await {
            send.write_chunk(bytes).await.unwrap();
        }
    });
    viewer
}

#[tokio::test]
async fn an_agent_over_tcp_is_welcomed_carries_a_stream_and_is_displaced_by_a_newer_tunnel() {
    let mut rig = Rig::start().await;
    let machine = Uuid::new_v4();
    let (agent, number) = TcpAgent::dial(&rig, machine).await;
    match rig.event().await {
        FromBroker::TunnelUp { machine: of, tunnel, transport, transport_reason, .. } => {
            assert_eq!((of, tunnel, transport.as_str()), (machine, number, "tcp"));
            assert_eq!(transport_reason, Some(udp_silent()));
        }
        other => panic!("{other:?}"),
    }
    let mut viewer = echo(&rig, &agent, machine).await;
    // What the echo sends first is the viewer's own first frame.
    let typed = pattern(0, 300_000);
    for slice in typed.chunks(100_000) {
        viewer.send(typed.slice_ref(slice)).await;
    }
    let mut heard = Vec::new();
    while !heard.ends_with(&typed) {
        heard.extend_from_slice(&viewer.bytes().await.expect("an echo"));
    }
    let newer = Agent::dial(&rig, machine).await;
    assert_eq!(agent.closed().await, PathEnd::Closed(Some(CloseCode::Displaced)));
    assert_eq!(viewer.closed().await, CloseCode::TunnelLost, "a viewer comes again at once");
    assert!(newer.number > number);
    let (newest, _) = TcpAgent::dial(&rig, machine).await;
    assert_eq!(newer.closed().await, Some(CloseCode::Displaced));
    assert_eq!(newest.path.close_reason(), None);
}

/// How a dial with this TLS configuration ends; none when the broker let it come as far as the control stream.
async fn dial(rig: &Rig, tls: rustls::ClientConfig, server_name: &str) -> Option<String> {
    match connect(rig, tls, server_name).await {
        // In TLS 1.3 a client is done before its certificate is judged: the judgement is the next thing it hears.
        Ok(path) => {
            let path = Path::Tcp(path);
            timeout(Duration::from_secs(2), path.closed()).await.ok().map(|end| match end {
                PathEnd::Tls(alert) => format!("alert {alert}"),
                other => panic!("{other:?}"),
            })
        }
        Err(error) => Some(error.to_string()),
    }
}

#[tokio::test]
async fn nw_02_over_tcp_too_only_a_valid_machine_certificate_of_our_authority_comes_in() {
    let rig = Rig::start().await;
    let ours = &rig.installation;
    let (machine, now, day) = (Uuid::new_v4(), SystemTime::now(), Duration::from_secs(86_400));
    let name = broker_name(ours.id);
    let good = ours.machine(machine, now);
    assert_eq!(dial(&rig, ours.tls(Some(&good), ALPN_TUNNEL), &name).await, None, "the good one comes in");

    let other = Installation::new();
    let as_seen_by_us = |identity: &Identity| ours.tls(Some(identity), ALPN_TUNNEL);
    let mut no_alpn = ours.tls(Some(&good), ALPN_TUNNEL);
    no_alpn.alpn_protocols.clear();
    let cases = [
        ("no certificate", ours.tls(None, ALPN_TUNNEL)),
        ("another authority's", as_seen_by_us(&other.machine(machine, now))),
        ("expired", as_seen_by_us(&ours.machine(machine, now - 3 * day))),
        ("not yet valid", as_seen_by_us(&ours.machine(machine, now + day))),
        ("a broker's", as_seen_by_us(&ours.authority.broker(ours.id, now).unwrap())),
        ("the authority's own", as_seen_by_us(&ours.authority_identity)),
        ("self-signed", as_seen_by_us(&self_signed())),
        ("another protocol", ours.tls(Some(&good), b"h3")),
        ("a later version of the protocol", ours.tls(Some(&good), b"rexec/2")),
        ("no protocol at all", no_alpn),
    ];
    for (case, tls) in cases {
        assert!(dial(&rig, tls, &name).await.is_some(), "{case}");
    }
    let foreign_root = other.tls(Some(&good), ALPN_TUNNEL);
    assert!(dial(&rig, foreign_root, &name).await.is_some(), "another root");
    let ours = ours.tls(Some(&good), ALPN_TUNNEL);
    assert!(dial(&rig, ours, &broker_name(other.id)).await.is_some(), "another name");
    assert_eq!(rig.broker.counts().tunnels_total, 0);
}

#[tokio::test]
async fn nw_02_over_tcp_too_an_agent_that_claims_another_machine_is_closed_and_audited() {
    let mut rig = Rig::start().await;
    let (own, claimed) = (Uuid::new_v4(), Uuid::new_v4());
    let mut liar = TcpAgent::connect(&rig, &rig.installation.machine(own, SystemTime::now())).await;
    liar.hello(claimed).await;
    assert_eq!(liar.closed().await, PathEnd::Closed(Some(CloseCode::WrongInstallation)));
    match rig.event().await {
        FromBroker::DialRefused { machine, claimed: told, .. } => {
            assert_eq!((machine, told), (own, Some(claimed)))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nw_05_over_tcp_too_there_is_nothing_to_resume_so_no_early_data() {
    let rig = Rig::start().await;
    let identity = rig.installation.machine(Uuid::new_v4(), SystemTime::now());
    let mut tls = rig.installation.tls(Some(&identity), ALPN_TUNNEL);
    tls.resumption = rustls::client::Resumption::in_memory_sessions(16);
    let tls = Arc::new(tls);
    for visit in 1..=2 {
        let name = ServerName::try_from(broker_name(rig.installation.id)).unwrap();
        let socket = TcpStream::connect(rig.broker.tunnel_addr()).await.unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, socket).await.unwrap();
        // Long enough for a session ticket to come, if there were one.
        timeout(Duration::from_millis(300), stream.read_u8()).await.unwrap_err();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full), "visit {visit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ma_11_stalled_tcp_handshakes_are_bounded_end_in_time_and_keep_no_new_agent_waiting() {
    let rig = Rig::start().await;
    let broker = rig.broker.tunnel_addr();
    let mut stalled = Vec::new();
    for n in 1..=100u8 {
        for _ in 0..10 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 2, n), 0))).unwrap();
            stalled.push(socket.connect(broker).await.unwrap());
        }
    }
    rig.until(|counts| counts.handshakes >= 900).await;
    for _ in 0..10 {
        let begun = Instant::now();
        TcpAgent::dial(&rig, Uuid::new_v4()).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    rig.until(|counts| counts.handshakes == 0).await;
    for mut socket in stalled {
        assert!(timeout(DEADLINE, socket.read_u8()).await.expect("an end in time").is_err());
    }
}

#[tokio::test]
async fn ma_11_one_address_cannot_hold_more_than_its_share_of_tcp_handshakes() {
    let rig = Rig::start().await;
    let mut sockets = Vec::new();
    for _ in 0..60 {
        sockets.push(TcpStream::connect(rig.broker.tunnel_addr()).await.unwrap());
    }
    rig.until(|counts| counts.tunnels_refused_total >= 28).await;
    assert!(rig.broker.counts().handshakes <= 32, "{:?}", rig.broker.counts());
    // The others' handshakes go on.
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind(SocketAddr::from(([127, 0, 3, 1], 0))).unwrap();
    let socket = elsewhere.connect(rig.broker.tunnel_addr()).await.unwrap();
    let identity = rig.installation.machine(Uuid::new_v4(), SystemTime::now());
    let tls = rig.installation.tls(Some(&identity), ALPN_TUNNEL);
    let name = ServerName::try_from(broker_name(rig.installation.id)).unwrap();
    timeout(DEADLINE, tcp::connect(socket, name, Arc::new(tls))).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_for_tcp_alone_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let (to_control, _events) = mpsc::channel(1);
    let (_orders, from_control) = mpsc::channel(1);
    let error = Broker::start(Installation::new().config(addr), to_control, from_control).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen for tunnels on tcp {addr}")), "{error}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_dials_over_tcp() {
    let rig = Rig::start().await;
    let shown = async || {
        let (agent, _) = TcpAgent::dial(&rig, Uuid::new_v4()).await;
        agent.path.peer_certificates().unwrap()
    };
    let before = shown().await;
    let fresh = rig.installation.authority.broker(rig.installation.id, SystemTime::now()).unwrap();
    rig.broker.renew(&fresh).unwrap();
    let after = shown().await;
    assert_ne!(before, after);
    assert_eq!(after[0], crate::kit::certificate(&fresh.certificate_pem));
}

#[tokio::test]
async fn a_drained_broker_tells_agents_over_tcp_and_its_successor_takes_them_on_the_same_port() {
    let rig = Rig::start().await;
    let (installation, addr) = (rig.installation.clone(), rig.broker.tunnel_addr());
    let (agent, _) = TcpAgent::dial(&rig, Uuid::new_v4()).await;
    rig.broker.drain(Drain::Alone).await;
    assert_eq!(agent.closed().await, PathEnd::Closed(Some(CloseCode::Draining)));
    drop(rig);
    let freed = async {
        while std::net::UdpSocket::bind(addr).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, freed).await.expect("the port is free again");
    let successor = Rig::start_at(installation, addr).await;
    TcpAgent::dial(&successor, Uuid::new_v4()).await;
}
