//! The uplink against a broker on a real socket and a session host's end of the link.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use rexec_agent::state::{MachineKey, Profile, Registration};
use rexec_agent::uplink::{self, Settings};
use rexec_shared::close::CloseCode;
use rexec_shared::enrol::TunnelTarget;
use rexec_shared::frame::Decoder;
use rexec_shared::message::SessionKind;
use rexec_shared::pki::broker_name;
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, LinkAnswer, LinkMessage, SessionInfo, UplinkStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::{Agent, Broker};
use crate::control::Control;
use crate::support::{Home, in_time};

/// A registered machine with a broker, a control, and this test as its session host.
pub(crate) struct Machine {
    pub(crate) broker: Broker,
    pub(crate) control: Control,
    pub(crate) home: Home,
    pub(crate) host: HostEnd,
    pub(crate) boot: Uuid,
    stop: CancellationToken,
}

/// The session host's end of the link.
pub(crate) struct HostEnd {
    pub(crate) heard: mpsc::UnboundedReceiver<LinkMessage>,
    pub(crate) say: mpsc::UnboundedSender<LinkAnswer>,
    status: Arc<Mutex<UplinkStatus>>,
}

impl HostEnd {
    /// Waits for a state of the uplink.
    pub(crate) async fn state(&self, state: &str) -> UplinkStatus {
        in_time(state, async {
            loop {
                let status = self.status.lock().unwrap().clone();
                if status.state == state {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    fn listen(profile: &Profile, boot: Uuid) -> Self {
        let listener = UnixListener::bind(profile.link_socket().unwrap()).unwrap();
        let (heard_in, heard) = mpsc::unbounded_channel();
        let (say, mut saying) = mpsc::unbounded_channel::<LinkAnswer>();
        let status = Arc::new(Mutex::new(UplinkStatus::default()));
        let shown = Arc::clone(&status);
        tokio::spawn(async move {
            let (mut read, mut write) = listener.accept().await.unwrap().0.into_split();
            let mut first = BytesMut::new();
            LinkAnswer::Sessions { boot, sessions: Vec::new() }.encode(&mut first);
            write.write_all(&first).await.unwrap();
            tokio::spawn(async move {
                while let Some(answer) = saying.recv().await {
                    let mut out = BytesMut::new();
                    answer.encode(&mut out);
                    write.write_all(&out).await.unwrap();
                }
            });
            let mut decoder = Decoder::new();
            while read.read_buf(decoder.buffer_mut()).await.is_ok_and(|n| n > 0) {
                while let Some(frame) = decoder.poll_frame().unwrap() {
                    let message = LinkMessage::decode(&frame).unwrap().unwrap();
                    if let LinkMessage::Status(status) = &message {
                        *shown.lock().unwrap() = status.clone();
                    }
                    let _ = heard_in.send(message);
                }
            }
        });
        Self { heard, say, status }
    }
}

impl Machine {
    /// Registered, its certificate as old as told.
    pub(crate) fn registered(certificate_age: Duration) -> Self {
        let (home, control) = (Home::new(), Control::start());
        let (authority, installation, name) =
            control.get(|script| (script.authority(), script.installation, script.name));
        let broker = Broker::start(&authority, installation);
        let (profile, key) = (home.profile(), MachineKey::generate().unwrap());
        let csr = key.signing_request().unwrap();
        control.set(|script| {
            script.tunnel_addr = broker.address.to_string();
            script.public_point = rexec_shared::pki::request_public_point(&csr).unwrap();
        });
        profile.keep_key(&key).unwrap();
        let certificate = authority.sign_machine(&csr, name, SystemTime::now() - certificate_age).unwrap();
        profile.keep_certificate(&certificate).unwrap();
        let tunnel = TunnelTarget {
            addr: broker.address.to_string(),
            addrs: Vec::new(),
            server_name: broker_name(installation),
            ca: authority.certificate_pem().into(),
            ticket_key: "A".repeat(43),
        };
        let server = control.url().parse().unwrap();
        let registration =
            Registration { server, machine: name.machine, org: name.org, name: "test".into(), tunnel };
        profile.keep_registration(&registration).unwrap();
        let boot = Uuid::new_v4();
        let host = HostEnd::listen(&profile, boot);
        Self { broker, control, home, host, boot, stop: CancellationToken::new() }
    }

    pub(crate) fn up(certificate_age: Duration) -> Self {
        let machine = Self::registered(certificate_age);
        machine.start();
        machine
    }

    /// Has the agent dial another broker than its own.
    pub(crate) fn dial(&self, address: impl std::fmt::Display) {
        let profile = self.home.profile();
        let mut registration = profile.registration().unwrap().unwrap();
        registration.tunnel.addr = address.to_string();
        profile.keep_registration(&registration).unwrap();
    }

    fn start(&self) {
        self.start_with(Settings::default());
    }

    pub(crate) fn start_with(&self, settings: Settings) {
        tokio::spawn(uplink::run(self.home.profile(), settings, self.stop.clone()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn session(title: &str) -> SessionInfo {
    SessionInfo {
        session: Uuid::new_v4(),
        kind: SessionKind::Terminal,
        title: title.into(),
        cols: 80,
        rows: 24,
        viewers: 0,
        user: Uuid::new_v4(),
        created: 1,
        exited: None,
    }
}

/// The next message that is no ping; pings are answered.
async fn next_said(agent: &mut Agent) -> Option<AgentMessage> {
    in_time("a message", async {
        loop {
            match agent.next().await {
                Some(AgentMessage::Ping { t }) => agent.tell(&BrokerMessage::Pong { t }).await,
                other => return other,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_presence_feed_and_status_find_their_way() {
    let mut machine = Machine::up(Duration::ZERO);
    let mut agent = machine.broker.welcome(41).await;
    let name = machine.control.get(|script| script.name);
    assert_eq!((agent.hello.machine, agent.hello.boot), (name.machine, machine.boot));
    assert_eq!(next_said(&mut agent).await, Some(AgentMessage::Presence(Vec::new())));
    let list = vec![session("vim")];
    machine.host.say.send(LinkAnswer::Sessions { boot: machine.boot, sessions: list.clone() }).unwrap();
    assert_eq!(next_said(&mut agent).await, Some(AgentMessage::Presence(list)));
    agent.tell(&BrokerMessage::Feed { token: "rxf1.x.y".into() }).await;
    agent.tell(&BrokerMessage::Ping { t: 9 }).await;
    assert_eq!(next_said(&mut agent).await, Some(AgentMessage::Pong { t: 9 }));
    in_time("the feed", async {
        while machine.host.heard.recv().await != Some(LinkMessage::Feed { token: "rxf1.x.y".into() }) {}
    })
    .await;
    let status = machine.host.state("online").await;
    assert_eq!((status.tunnel, status.transport.as_deref()), (Some(41), Some("quic")));
    assert_eq!(status.broker, Some(machine.broker.address.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uplink_that_is_displaced_or_revoked_stops_says_why_and_dials_no_more() {
    for (code, words) in [(CloseCode::Displaced, "took over"), (CloseCode::Revoked, "removed")] {
        let machine = Machine::up(Duration::ZERO);
        let agent = machine.broker.welcome(1).await;
        machine.host.state("online").await;
        agent.connection.close(code.number().into(), b"");
        let status = machine.host.state("stopped").await;
        assert!(status.detail.contains(words), "{status:?}");
        let again = tokio::time::timeout(Duration::from_secs(2), machine.broker.endpoint.accept()).await;
        assert!(again.is_err(), "a stopped uplink dialled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_brokers_streams_go_on_beside_the_next_tunnel() {
    let machine = Machine::up(Duration::ZERO);
    let viewers = UnixListener::bind(machine.home.profile().viewer_socket().unwrap()).unwrap();
    let mut first = machine.broker.welcome(1).await;
    let (mut send, mut recv) = first.connection.open_bi().await.unwrap();
    send.write_all(b"hello").await.unwrap();
    let mut host = in_time("a stream", viewers.accept()).await.unwrap().0;
    first.tell(&BrokerMessage::Drain { grace_ms: 10_000, elsewhere: true }).await;
    let began = Instant::now();
    let _second = machine.broker.welcome(2).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let mut five = [0; 5];
    host.read_exact(&mut five).await.unwrap();
    host.write_all(b"still here").await.unwrap();
    let mut ten = [0; 10];
    in_time("bytes of the old tunnel", recv.read_exact(&mut ten)).await.unwrap();
    assert_eq!(&ten, b"still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_nowhere_else_to_go_is_kept_until_it_closes_and_its_successor_is_dialled_at_once() {
    let machine = Machine::registered(Duration::ZERO);
    let (authority, installation) = machine.control.get(|script| (script.authority(), script.installation));
    let broker = Broker::start(&authority, installation);
    let address = broker.address;
    machine.dial(address);
    machine.start();
    let mut first = broker.welcome(1).await;
    machine.host.state("online").await;
    first.tell(&BrokerMessage::Drain { grace_ms: 1_000, elsewhere: false }).await;
    let again = tokio::time::timeout(Duration::from_millis(500), broker.endpoint.accept()).await;
    assert!(again.is_err(), "it would be refused");
    first.tell(&BrokerMessage::Feed { token: "rxf1.a.b".into() }).await;
    first.tell(&BrokerMessage::Ping { t: 7 }).await;
    while next_said(&mut first).await != Some(AgentMessage::Pong { t: 7 }) {}
    assert_eq!(first.connection.close_reason(), None);
    first.connection.close(CloseCode::Draining.number().into(), b"");
    broker.endpoint.close(0u32.into(), b"");
    broker.endpoint.wait_idle().await;
    drop((first, broker));
    in_time("the port", async {
        while std::net::UdpSocket::bind(address).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // The worst moment: QUIC alone would send its first packet again 2.1 and then 4.5 s after the dial began.
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    let began = Instant::now();
    let again = Broker::start_at(&authority, installation, address);
    let _agent = again.welcome(2).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_lost_while_its_broker_drains_is_followed_by_a_dial_at_once() {
    let machine = Machine::up(Duration::ZERO);
    let mut first = machine.broker.welcome(1).await;
    first.tell(&BrokerMessage::Drain { grace_ms: 10_000, elsewhere: true }).await;
    for _ in 0..4 {
        let refused = machine.broker.accept().await;
        refused.connection.close(CloseCode::Draining.number().into(), b"");
    }
    first.tell(&BrokerMessage::Ping { t: 7 }).await;
    while next_said(&mut first).await != Some(AgentMessage::Pong { t: 7 }) {}
    first.connection.close(CloseCode::Draining.number().into(), b"");
    let began = Instant::now();
    let _second = machine.broker.welcome(2).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_brokers_tunnel_stands_until_the_next_one_is_welcomed() {
    let machine = Machine::up(Duration::ZERO);
    let viewers = UnixListener::bind(machine.home.profile().viewer_socket().unwrap()).unwrap();
    let first = machine.broker.welcome(1).await;
    let (mut send, mut recv) = first.connection.open_bi().await.unwrap();
    send.write_all(b"!").await.unwrap();
    let mut host = in_time("a stream", viewers.accept()).await.unwrap().0;
    let began = Instant::now();
    // It answers no ping, but carries bytes all the while.
    let second = machine.broker.accept().await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(host.read_u8().await.unwrap(), b'!');
    host.write_all(b"still here").await.unwrap();
    let mut ten = [0; 10];
    in_time("bytes of the old tunnel", recv.read_exact(&mut ten)).await.unwrap();
    let _second = second.welcomed(2).await;
    let closed = in_time("the end of the old one", first.connection.closed()).await;
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_and_started_again_is_noticed_by_its_reset_and_dialled_at_once() {
    let machine = Machine::registered(Duration::ZERO);
    let (authority, installation) = machine.control.get(|script| (script.authority(), script.installation));
    // A runtime of its own, thrown away without a goodbye: as near to kill -9 as one process gets.
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let broker = {
        let _guard = doomed.enter();
        Broker::start(&authority, installation)
    };
    let address = broker.address;
    machine.dial(address);
    let (up, is_up) = tokio::sync::oneshot::channel();
    doomed.spawn(async move {
        let agent = broker.welcome(1).await;
        let _ = up.send(());
        agent.keep_alive().await;
    });
    machine.start();
    in_time("the first tunnel", is_up).await.unwrap();
    machine.host.state("online").await;
    doomed.shutdown_background();
    tokio::time::sleep(Duration::from_secs(1)).await;
    in_time("the port", async {
        while std::net::UdpSocket::bind(address).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let began = Instant::now();
    let again = Broker::start_at(&authority, installation, address);
    let _agent = again.welcome(2).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_answering_is_given_up_and_dialled_again() {
    let machine = Machine::up(Duration::ZERO);
    let _silent = machine.broker.welcome(1).await;
    let began = Instant::now();
    let _again = machine.broker.welcome(2).await;
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ended_months_ago_is_renewed_before_dialling() {
    let machine = Machine::up(Duration::from_secs(200 * 24 * 3600));
    let _agent = machine.broker.welcome(1).await;
    assert_eq!(machine.control.get(|script| script.renewals), 1);
    let status = machine.host.state("online").await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(status.certificate_until.is_some_and(|until| u64::try_from(until).unwrap() > now + 23 * 3600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_past_a_third_of_its_life_is_renewed_beside_the_running_tunnel() {
    let machine = Machine::up(Duration::from_secs(9 * 3600));
    let mut agent = machine.broker.welcome(1).await;
    in_time("a renewal", async {
        while machine.control.get(|script| script.renewals) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(next_said(&mut agent).await, Some(AgentMessage::Presence(Vec::new())), "the tunnel stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_removed_while_it_slept_stops_and_says_so() {
    let machine = Machine::registered(Duration::from_secs(200 * 24 * 3600));
    machine.control.set(|script| script.is_revoked = true);
    machine.start();
    let status = machine.host.state("stopped").await;
    assert!(status.detail.contains("removed from Rexec") && status.detail.contains("register"), "{status:?}");
}
