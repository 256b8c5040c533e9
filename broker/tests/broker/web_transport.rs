//! Viewers over WebTransport: which pages come in, what is copied, how it ends; and that neither browsers nor agents meet the other's door.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream};
use rexec_broker::{Broker, Drain};
use rexec_shared::broker_link::FromBroker;
use rexec_shared::close::CloseCode;
use rexec_shared::pki::{ALPN_TUNNEL, ALPN_WEB_TRANSPORT, broker_name};
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;
use web_transport_proto::{
    ConnectError, ConnectRequest, ConnectResponse, Frame, Settings, VarInt, error_from_http3,
};

use crate::kit::{Agent, DEADLINE, Installation, Rig, first_frame, pattern, quic, read_first, unmarked_quic};

/// The page that may come in.
const PAGE: &str = "http://app.test";

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn web_name(installation: &Installation) -> String {
    format!("web.{}.rexec.internal", installation.id.simple())
}

/// A dial without an agent's mark.
async fn unmarked(rig: &Rig, tls: rustls::ClientConfig, name: &str) -> Result<Connection, ConnectionError> {
    let endpoint = quinn::Endpoint::client(any()).unwrap();
    endpoint.connect_with(unmarked_quic(tls), rig.broker.tunnel_addr(), name).unwrap().await
}

async fn dial(rig: &Rig) -> Result<Connection, ConnectionError> {
    let tls = rig.installation.tls(None, ALPN_WEB_TRANSPORT);
    unmarked(rig, tls, &web_name(&rig.installation)).await
}

/// A session as a browser has it.
struct Session {
    connection: Connection,
    _control: (SendStream, RecvStream),
    request: (SendStream, RecvStream),
}

impl Session {
    /// Asks for one; otherwise the status it was refused with.
    async fn ask(rig: &Rig, path: &str, origins: &[&str]) -> Result<Self, u16> {
        let connection = dial(rig).await.unwrap();
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        let mut send = connection.open_uni().await.unwrap();
        settings.write(&mut send).await.unwrap();
        let mut recv = connection.accept_uni().await.unwrap();
        assert!(Settings::read(&mut recv).await.unwrap().supports_webtransport() > 0);
        let url = format!("https://{}{path}", rig.broker.tunnel_addr());
        let mut request = ConnectRequest::new(url.parse::<url::Url>().unwrap());
        for origin in origins {
            request = request.with_header("origin".parse().unwrap(), origin.parse().unwrap());
        }
        let mut stream = connection.open_bi().await.unwrap();
        request.write(&mut stream.0).await.unwrap();
        match timeout(DEADLINE, ConnectResponse::read(&mut stream.1)).await.expect("an answer in time") {
            Ok(_) => Ok(Self { connection, _control: (send, recv), request: stream }),
            Err(ConnectError::WrongStatus(Some(status))) => Err(status.as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn open(rig: &Rig) -> Self {
        Self::ask(rig, "/viewer", &[PAGE]).await.unwrap()
    }

    /// The viewer's stream; the broker hears of it with the first bytes.
    async fn stream(&self) -> (SendStream, RecvStream) {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        let mut head = BytesMut::new();
        Frame::WEBTRANSPORT.encode(&mut head);
        VarInt::from_u32(0).encode(&mut head);
        send.write_all(&head).await.unwrap();
        (send, recv)
    }
}

/// A viewer that is attached to a new session of the machine, and the stream the agent got.
async fn attached(rig: &Rig, agent: &Agent) -> (Session, (SendStream, RecvStream), (SendStream, RecvStream)) {
    let session = Session::open(rig).await;
    let mut stream = session.stream().await;
    let (ticket, id) = rig.ticket(agent.machine);
    stream.0.write_all(&first_frame(&ticket, id)).await.unwrap();
    let agents = agent.stream().await;
    (session, stream, agents)
}

/// The code that the broker ended a viewer's stream with, whatever came before.
async fn closed(recv: &mut RecvStream) -> CloseCode {
    let end = async {
        loop {
            match recv.read_chunk(65_536, true).await {
                Ok(Some(_)) => {}
                Ok(None) => return CloseCode::Done,
                Err(ReadError::Reset(code)) => {
                    let number = error_from_http3(code.into_inner()).expect("a code of WebTransport's");
                    return CloseCode::from_number(u64::from(number)).expect("a code of ours");
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(DEADLINE, end).await.expect("an end in time")
}

#[tokio::test]
async fn ws_01_only_our_own_page_opens_a_session() {
    let rig = Rig::start().await;
    assert!(Session::ask(&rig, "/viewer", &[PAGE]).await.is_ok());
    let foreign: [&[&str]; 10] = [
        &[],
        &["null"],
        &[""],
        &["https://app.test"],
        &["http://app.test:80"],
        &["http://app.test.evil.test"],
        &["http://evilapp.test"],
        &["http://APP.test"],
        &["http://app.test/"],
        &[PAGE, "http://evil.test"],
    ];
    for origins in foreign {
        assert_eq!(Session::ask(&rig, "/viewer", origins).await.err(), Some(403), "{origins:?}");
    }
    assert_eq!(Session::ask(&rig, "/", &[PAGE]).await.err(), Some(404));
    assert_eq!(Session::ask(&rig, "/viewer/", &[PAGE]).await.err(), Some(404));
    // One came in, and left without a word.
    rig.until(|counts| counts.viewers_refused_total == 13).await;
}

#[tokio::test]
async fn nw_01_browsers_are_never_offered_the_tunnel_and_agents_never_the_web() {
    let rig = Rig::start().await;
    let ours = &rig.installation;
    let identity = ours.machine(Uuid::new_v4(), SystemTime::now());
    for (case, tls) in [
        ("an agent without mark or certificate", ours.tls(None, ALPN_TUNNEL)),
        ("an agent without mark", ours.tls(Some(&identity), ALPN_TUNNEL)),
    ] {
        for name in [broker_name(ours.id), web_name(ours)] {
            assert!(unmarked(&rig, tls.clone(), &name).await.is_err(), "{case} at {name}");
        }
    }
    for (case, identity) in [("with a certificate", Some(&identity)), ("without one", None)] {
        let config = quic(ours.tls(identity, ALPN_WEB_TRANSPORT));
        let endpoint = quinn::Endpoint::client(any()).unwrap();
        for name in [broker_name(ours.id), web_name(ours)] {
            let dial = endpoint.connect_with(config.clone(), rig.broker.tunnel_addr(), &name).unwrap();
            assert!(dial.await.is_err(), "a marked browser {case} at {name}");
        }
    }
    // An agent takes what browsers are shown for no broker of its installation.
    let tls = ours.tls(None, ALPN_WEB_TRANSPORT);
    assert!(unmarked(&rig, tls, &broker_name(ours.id)).await.is_err());
    assert_eq!(rig.broker.counts().tunnels_total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_is_pumped_as_over_a_websocket() {
    const LEN: usize = 8 << 20;
    let mut rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (session, (mut send, mut recv), (mut down, mut up)) = attached(&rig, &agent).await;
    let _first = read_first(&mut up).await;
    let address = loop {
        if let FromBroker::Stream { outcome: None, address, .. } = rig.event().await {
            break address;
        }
    };
    assert!(address.starts_with("127.0.0.1:"), "{address}");

    let typing = tokio::spawn(async move {
        for from in (0..LEN).step_by(64 << 10) {
            send.write_all(&pattern(from as u64, 64 << 10)).await.unwrap();
        }
        send
    });
    let printing = tokio::spawn(async move {
        for from in (0..LEN).step_by(1 << 20) {
            down.write_all(&pattern(from as u64, 1 << 20)).await.unwrap();
        }
        down
    });
    let arriving = tokio::spawn(async move { read_pattern(&mut up, LEN).await });
    read_pattern(&mut recv, LEN).await;
    let all = async { (typing.await.unwrap(), printing.await.unwrap(), arriving.await.unwrap()) };
    let (_send, mut down, ()) = timeout(DEADLINE, all).await.expect("both directions end");
    down.finish().unwrap();
    // What the agent ends, ends here, too: as an end, behind the last byte.
    assert_eq!(closed(&mut recv).await, CloseCode::Done);
    drop(session);
    rig.until(|counts| counts.streams == 0).await;
}

async fn read_pattern(recv: &mut RecvStream, len: usize) {
    let mut at = 0;
    while at < len {
        let chunk = timeout(DEADLINE, recv.read_chunk(1 << 20, true)).await.expect("bytes in time").unwrap();
        let bytes: Bytes = chunk.expect("more").bytes;
        assert!(bytes == pattern(at as u64, bytes.len()), "at {at}");
        at += bytes.len();
    }
    assert_eq!(at, len);
}

#[tokio::test]
async fn a_viewer_is_told_why_by_the_code_of_its_streams_reset() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let session = Session::open(&rig).await;
    let (mut send, mut recv) = session.stream().await;
    send.write_all(&first_frame("rxt1.no.ticket", Uuid::new_v4())).await.unwrap();
    assert_eq!(closed(&mut recv).await, CloseCode::BadTicket);
    // The session goes with its stream.
    timeout(DEADLINE, session.connection.closed()).await.expect("an end in time");

    let session = Session::open(&rig).await;
    let (mut send, mut recv) = session.stream().await;
    send.write_all(b"\x7f\x00").await.unwrap();
    assert_eq!(closed(&mut recv).await, CloseCode::ProtocolError);

    let (_session, mut stream, _agents) = attached(&rig, &agent).await;
    agent.connection.close(0u32.into(), b"");
    assert_eq!(closed(&mut stream.1).await, CloseCode::TunnelLost);
}

#[tokio::test]
async fn a_viewer_that_leaves_by_any_door_ends_its_stream_on_the_tunnel() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    for leaving in 0..3 {
        let (mut session, (mut send, recv), (_down, mut up)) = attached(&rig, &agent).await;
        let (_, mut seen) = read_first(&mut up).await;
        send.write_all(b"last words").await.unwrap();
        while seen.len() < 10 {
            seen.extend_from_slice(&up.read_chunk(64, true).await.unwrap().expect("more").bytes);
        }
        assert_eq!(seen, "last words");
        match leaving {
            0 => send.finish().unwrap(),
            1 => session.request.0.finish().unwrap(),
            _ => session.connection.close(0x100u32.into(), b""),
        }
        let end = timeout(DEADLINE, up.read_chunk(64, true)).await.expect("an end in time");
        assert!(matches!(end, Ok(None)), "{leaving}: {end:?}");
        rig.until(|counts| counts.streams == 0).await;
        drop(recv);
    }
}

#[tokio::test]
async fn ma_11_browsers_and_agents_of_one_address_share_its_places_and_both_prove_it_when_asked() {
    let rig = Rig::start().await;
    let mut silent = Vec::new();
    // Handshakes that ask for nothing: each holds its place until the deadline.
    for _ in 0..60 {
        match timeout(Duration::from_millis(200), dial(&rig)).await {
            Ok(connection) => silent.push(connection.unwrap()),
            Err(_) => break,
        }
        if silent.len() == 20 {
            // Sixteen need no proof; from then on a retry asks for it, and the dial is known for what it is all the same.
            let _agent = Agent::dial(&rig, Uuid::new_v4()).await;
            let _session = Session::open(&rig).await;
        }
    }
    assert!((20..=32).contains(&silent.len()), "{}", silent.len());
    assert!(rig.broker.counts().handshakes <= 32, "{:?}", rig.broker.counts());
    timeout(DEADLINE, silent[0].closed()).await.expect("an end at the deadline");
    rig.until(|counts| counts.handshakes == 0).await;
}

#[tokio::test]
async fn a_session_that_never_shows_a_ticket_ends() {
    let rig = Rig::start().await;
    let (streamless, wordless) = (Session::open(&rig).await, Session::open(&rig).await);
    let (_send, mut recv) = wordless.stream().await;
    timeout(DEADLINE, streamless.connection.closed()).await.expect("an end in time");
    assert_eq!(closed(&mut recv).await, CloseCode::TooSlow);
    rig.until(|counts| counts.viewers_refused_total == 2).await;
}

#[tokio::test]
async fn a_browser_pins_no_more_than_its_windows() {
    let rig = Rig::start().await;
    let session = Session::open(&rig).await;
    let _stream = session.stream().await;
    // The request's stream and the viewer's are all there are; three one-way streams, one of them taken.
    assert!(timeout(Duration::from_millis(300), session.connection.open_bi()).await.is_err());
    let uni = [session.connection.open_uni().await.unwrap(), session.connection.open_uni().await.unwrap()];
    assert!(timeout(Duration::from_millis(300), session.connection.open_uni()).await.is_err());
    drop(uni);
    assert!(session.connection.max_datagram_size().is_none_or(|most| most <= 1_200));
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_browsers_and_without_one_they_are_refused() {
    let rig = Rig::start().await;
    let shown = async || {
        dial(&rig)
            .await
            .unwrap()
            .peer_identity()
            .unwrap()
            .downcast::<Vec<rustls_pki_types::CertificateDer<'static>>>()
            .unwrap()[0]
            .clone()
    };
    let before = shown().await;
    let fresh = rig.installation.authority.web(rig.installation.id, SystemTime::now()).unwrap();
    rig.broker.renew_web(&fresh).unwrap();
    let after = shown().await;
    assert_ne!(before, after);
    assert_eq!(after, crate::kit::certificate(&fresh.certificate_pem));

    let (to_control, _events) = mpsc::channel(1);
    let (_orders, from_control) = mpsc::channel(1);
    let config = rexec_broker::BrokerConfig { web: None, ..rig.installation.config(any()) };
    let bare = Broker::start(config, to_control, from_control).await.unwrap();
    let endpoint = quinn::Endpoint::client(any()).unwrap();
    let config = unmarked_quic(rig.installation.tls(None, ALPN_WEB_TRANSPORT));
    let refused =
        endpoint.connect_with(config, bare.tunnel_addr(), &web_name(&rig.installation)).unwrap().await;
    assert!(matches!(refused, Err(ConnectionError::ConnectionClosed(_))), "{refused:?}");
}

#[tokio::test]
async fn a_draining_broker_tells_its_browsers() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (_session, mut stream, _agents) = attached(&rig, &agent).await;
    let (code, ()) = tokio::join!(closed(&mut stream.1), rig.broker.drain(Drain::Alone));
    assert_eq!(code, CloseCode::Draining);
}

#[test]
fn first_bytes_are_as_a_browser_writes_them() {
    let mut head = BytesMut::new();
    Frame::WEBTRANSPORT.encode(&mut head);
    VarInt::from_u32(0).encode(&mut head);
    let mut by_hand = BytesMut::new();
    by_hand.put_slice(&[0x40, 0x41, 0x00]);
    assert_eq!(head, by_hand);
}
