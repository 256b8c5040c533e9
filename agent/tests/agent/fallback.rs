//! Where UDP is blocked: the tunnel over TCP, straight or through a proxy, and back to QUIC.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use rexec_agent::clock::unix_ms;
use rexec_agent::uplink::Settings;
use rexec_agent::uplink::proxy::Proxies;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::Decoder;
use rexec_shared::pki::ALPN_TUNNEL;
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, Hello, TransportCause, Welcome};
use rexec_tunnel::{Path, PathEnd, RecvStream, SendStream, tcp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::broker::{Broker, tls_config};
use crate::support::in_time;
use crate::tunnel::Machine;

/// A broker's end of tunnels over TCP; packets to the same UDP port vanish, as behind a firewall.
pub(crate) struct TcpBroker {
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    silence: Option<std::net::UdpSocket>,
}

/// One tunnel, seen from there.
struct TcpAgent {
    path: Path,
    send: SendStream,
    recv: RecvStream,
    decoder: Decoder,
    hello: Option<Hello>,
}

impl TcpBroker {
    pub(crate) async fn start(machine: &Machine) -> Self {
        let (authority, installation) =
            machine.control.get(|script| (script.authority(), script.installation));
        let identity = authority.broker(installation, SystemTime::now()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silence = std::net::UdpSocket::bind(listener.local_addr().unwrap()).unwrap();
        let tls = Arc::new(tls_config(&identity, Some(&authority), &[ALPN_TUNNEL]));
        Self { listener, tls, silence: Some(silence) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Shakes hands with everybody, on UDP too if told so; counts what is opened beyond that.
    pub(crate) fn shake_hands(mut self, machine: &Machine, over_udp: bool) -> Arc<AtomicUsize> {
        let (authority, installation) =
            machine.control.get(|script| (script.authority(), script.installation));
        let opened = Arc::new(AtomicUsize::new(0));
        if over_udp {
            self.silence = None;
            let quic = Broker::start_at(&authority, installation, self.listener.local_addr().unwrap());
            let count = Arc::clone(&opened);
            tokio::spawn(async move {
                while let Some(incoming) = quic.endpoint.accept().await {
                    let count = Arc::clone(&count);
                    tokio::spawn(async move {
                        if let Ok(connection) = incoming.await {
                            count_streams(Path::Quic(connection), &count).await;
                        }
                    });
                }
            });
        }
        let count = Arc::clone(&opened);
        tokio::spawn(async move {
            while let Ok((socket, _)) = self.listener.accept().await {
                let (tls, count) = (Arc::clone(&self.tls), Arc::clone(&count));
                tokio::spawn(async move {
                    if let Ok(path) = tcp::accept(socket, tls).await {
                        count_streams(Path::Tcp(path), &count).await;
                    }
                });
            }
            drop(self.silence);
        });
        opened
    }

    async fn welcome(&self, tunnel: u64) -> TcpAgent {
        in_time("an agent over TCP", async {
            let (socket, _) = self.listener.accept().await.unwrap();
            let path = Path::Tcp(tcp::accept(socket, Arc::clone(&self.tls)).await.unwrap());
            let (send, recv) = path.accept_bi().await.unwrap();
            let mut agent = TcpAgent { path, send, recv, decoder: Decoder::new(), hello: None };
            if let AgentMessage::Hello(hello) = agent.next().await {
                agent.hello = Some(hello);
            }
            let welcome =
                Welcome { v: 1, features: Vec::new(), tunnel, broker: "test".into(), time: unix_ms() };
            agent.tell(&BrokerMessage::Welcome(welcome)).await;
            agent
        })
        .await
    }
}

async fn count_streams(path: Path, count: &AtomicUsize) {
    while path.accept_bi().await.is_ok() {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl TcpAgent {
    async fn next(&mut self) -> AgentMessage {
        loop {
            if let Some(frame) = self.decoder.poll_frame().unwrap() {
                return AgentMessage::decode(&frame).unwrap().unwrap();
            }
            let chunk = self.recv.read_chunk(64 * 1024).await.unwrap().unwrap();
            self.decoder.push(&chunk);
        }
    }

    async fn tell(&mut self, message: &BrokerMessage) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        self.send.write_all(&out).await.unwrap();
    }
}

/// Settings of a machine whose environment names a proxy.
fn proxied(https_proxy: &str, no_proxy: &str) -> Settings {
    Settings { proxies: Proxies::new(Some(https_proxy), Some(no_proxy)).unwrap(), ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_udp_vanishes_the_agent_is_online_over_tcp_within_two_seconds_and_carries_streams() {
    let machine = Machine::registered(Duration::ZERO);
    let broker = TcpBroker::start(&machine).await;
    let viewers = UnixListener::bind(machine.home.profile().viewer_socket().unwrap()).unwrap();
    machine.dial(format!("127.0.0.1:{}", broker.port()));
    let began = Instant::now();
    machine.start_with(Settings::default());
    let agent = broker.welcome(7).await;
    let status = machine.host.state("online").await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((status.tunnel, status.transport.as_deref()), (Some(7), Some("tcp")));
    assert!(
        status.why.as_ref().is_some_and(|why| why.contains("UDP to 127.0.0.1") && why.contains("no answer"))
    );
    let hello = agent.hello.as_ref().unwrap();
    assert_eq!(hello.machine, machine.control.get(|script| script.name).machine);
    let told = hello.transport_reason.clone().unwrap();
    assert_eq!(
        (told.cause, Some(told.detail)),
        (TransportCause::UdpSilent, status.why),
        "the broker is told the same"
    );

    let (mut send, mut recv) = agent.path.open_bi().await.unwrap();
    send.write_all(b"hello").await.unwrap();
    let mut host = in_time("a stream", viewers.accept()).await.unwrap().0;
    let mut five = [0; 5];
    host.read_exact(&mut five).await.unwrap();
    host.write_all(&five).await.unwrap();
    drop(host);
    let mut heard = Vec::new();
    while let Ok(Some(bytes)) = in_time("an echo", recv.read_chunk(1_024)).await {
        heard.extend_from_slice(&bytes);
    }
    assert_eq!(heard, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_quic_comes_back_the_tunnel_moves_there_and_the_old_ones_displacement_stops_nothing() {
    let machine = Machine::registered(Duration::ZERO);
    let mut broker = TcpBroker::start(&machine).await;
    machine.dial(format!("127.0.0.1:{}", broker.port()));
    machine.start_with(Settings { probe_first: Duration::from_millis(200), ..Settings::default() });
    let old = broker.welcome(1).await;
    machine.host.state("online").await;
    broker.silence = None;
    let (authority, installation) = machine.control.get(|script| (script.authority(), script.installation));
    let address = broker.listener.local_addr().unwrap();
    let quic = Broker::start_at(&authority, installation, address);
    let new = quic.accept().await;
    assert_eq!(new.hello.transport_reason, None);
    // As a broker does it: the older tunnel is closed before the newer one is welcomed.
    old.path.close(CloseCode::Displaced);
    tokio::time::sleep(Duration::from_millis(300)).await;
    tokio::spawn(new.welcomed(2).await.keep_alive());
    in_time("the move", async {
        while machine.host.state("online").await.tunnel != Some(2) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let status = machine.host.state("online").await;
    assert_eq!((status.transport.as_deref(), status.why), (Some("quic"), None));
    let again = tokio::time::timeout(Duration::from_secs(2), quic.endpoint.accept()).await;
    assert!(again.is_err(), "what runs over QUIC looks no further");
    assert_eq!(machine.host.state("online").await.tunnel, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_was_bettered_is_left_even_when_the_broker_does_not_close_it() {
    let machine = Machine::registered(Duration::ZERO);
    let mut broker = TcpBroker::start(&machine).await;
    machine.dial(format!("127.0.0.1:{}", broker.port()));
    machine.start_with(Settings { probe_first: Duration::from_millis(200), ..Settings::default() });
    let old = broker.welcome(1).await;
    broker.silence = None;
    let (authority, installation) = machine.control.get(|script| (script.authority(), script.installation));
    let quic = Broker::start_at(&authority, installation, broker.listener.local_addr().unwrap());
    tokio::spawn(quic.welcome(2).await.keep_alive());
    assert_eq!(in_time("its end", old.path.closed()).await, PathEnd::Closed(Some(CloseCode::Done)));
}

/// A CONNECT proxy that leads everything to one port of this machine; what it was asked goes to the log.
pub(crate) async fn proxy(
    to_port: u16,
    answer: &'static str,
) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (log, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let log = log.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                log.send(String::from_utf8(head).unwrap()).unwrap();
                // In two pieces, as networks do.
                let (first, second) = answer.split_at(answer.len() / 2);
                client.write_all(first.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
                client.write_all(second.as_bytes()).await.unwrap();
                let mut broker = TcpStream::connect(("127.0.0.1", to_port)).await.unwrap();
                tokio::io::copy_bidirectional(&mut client, &mut broker).await.ok();
            });
        }
    });
    (port, asked)
}

pub(crate) const CONNECTED: &str = "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn through_a_proxy_the_brokers_name_need_not_resolve_here_and_the_password_stays_unseen() {
    let machine = Machine::registered(Duration::ZERO);
    let broker = TcpBroker::start(&machine).await;
    let (port, mut asked) = proxy(broker.port(), CONNECTED).await;
    machine.dial("broker.invalid:7443");
    machine.start_with(proxied(&format!("http://ada:secret@127.0.0.1:{port}"), "other.invalid"));
    let agent = broker.welcome(7).await;
    let told = agent.hello.as_ref().unwrap().transport_reason.clone().unwrap();
    assert!(told.detail.contains("through the proxy"), "{told:?}");
    let status = machine.host.state("online").await;
    assert_eq!(status.transport.as_deref(), Some("tcp"));
    assert_eq!(status.broker.as_deref(), Some("broker.invalid:7443"));
    let why = status.why.unwrap();
    assert!(why.contains(&format!("through the proxy 127.0.0.1:{port}")) && !why.contains("secret"), "{why}");
    let head = asked.recv().await.unwrap();
    assert!(head.starts_with("CONNECT broker.invalid:7443 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nProxy-Authorization: Basic YWRhOnNlY3JldA==\r\n"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_named_with_its_status() {
    let machine = Machine::registered(Duration::ZERO);
    let (port, _asked) = proxy(1, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    machine.dial("broker.invalid:7443");
    machine.start_with(proxied(&format!("127.0.0.1:{port}"), ""));
    let status = machine.host.state("waiting").await;
    assert!(status.detail.contains("407") && status.detail.contains("HTTPS_PROXY"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_proxy_names_is_dialled_straight() {
    let machine = Machine::registered(Duration::ZERO);
    let broker = TcpBroker::start(&machine).await;
    let (port, mut asked) = proxy(broker.port(), CONNECTED).await;
    // This machine by an address that is not obviously this machine's.
    machine.dial(format!("0.0.0.0:{}", broker.port()));
    machine.start_with(proxied(&format!("127.0.0.1:{port}"), "elsewhere.example,0.0.0.0/32"));
    let _agent = broker.welcome(7).await;
    let status = machine.host.state("online").await;
    assert!(!status.why.unwrap().contains("proxy"));
    assert!(asked.try_recv().is_err(), "the proxy was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn nw_02_over_tcp_a_stranger_is_refused_and_sees_no_hello() {
    let machine = Machine::registered(Duration::ZERO);
    let mut broker = TcpBroker::start(&machine).await;
    let made = rcgen::generate_simple_self_signed(vec!["broker.example".into()]).unwrap();
    let stranger = rexec_shared::pki::Identity {
        certificate_pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem(),
    };
    broker.tls = Arc::new(tls_config(&stranger, None, &[ALPN_TUNNEL]));
    let finished = Arc::new(AtomicUsize::new(0));
    machine.dial(format!("127.0.0.1:{}", broker.port()));
    let count = Arc::clone(&finished);
    tokio::spawn(async move {
        let _silence = broker.silence;
        while let Ok((socket, _)) = broker.listener.accept().await {
            let done = tcp::accept(socket, Arc::clone(&broker.tls)).await.is_ok();
            count.fetch_add(usize::from(done), Ordering::Relaxed);
        }
    });
    machine.start_with(Settings::default());
    let status = machine.host.state("waiting").await;
    assert!(status.detail.contains("not this installation's broker"), "{status:?}");
    assert_eq!(finished.load(Ordering::Relaxed), 0, "the stranger saw a finished handshake");
}
