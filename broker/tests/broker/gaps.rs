//! An agent that sends crumbs and never what stands before them: the broker must keep them, and must not choke on them (THREATS MA-02).

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::SystemTime;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, SendStream, TokioRuntime, UdpPoller};
use rexec_shared::pki::ALPN_TUNNEL;
use rexec_shared::tunnel::BrokerMessage;
use uuid::Uuid;

use crate::kit::{Agent, Rig, transport};
use crate::memory::resident;

/// A stream's window at the broker, bytes.
const WINDOW: usize = 256 * 1024;
const CRUMB: usize = 6;
/// Viewers' streams, besides the control stream.
const STREAMS: usize = 3;

/// A socket that loses a datagram when told to, or all of them.
#[derive(Debug)]
struct Lossy {
    inner: Arc<dyn AsyncUdpSocket>,
    lose_next: AtomicBool,
    lose_all: AtomicBool,
}

impl AsyncUdpSocket for Lossy {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit) -> std::io::Result<()> {
        if self.lose_next.swap(false, Ordering::Relaxed) || self.lose_all.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<std::io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }
}

/// An agent that never takes a packet for lost, so that what its socket loses is never sent again.
async fn dial(rig: &Rig) -> (Agent, Arc<Lossy>) {
    let inner = TokioRuntime.wrap_udp_socket(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let socket =
        Arc::new(Lossy { inner, lose_next: AtomicBool::new(false), lose_all: AtomicBool::new(false) });
    let runtime = Arc::new(TokioRuntime);
    let endpoint = quinn::Endpoint::new_with_abstract_socket(
        quinn::EndpointConfig::default(),
        None,
        socket.clone(),
        runtime,
    )
    .unwrap();
    let machine = Uuid::new_v4();
    let identity = rig.installation.machine(machine, SystemTime::now());
    let mut stubborn = transport();
    stubborn.packet_threshold(u32::MAX).time_threshold(1e6);
    let mut config = crate::kit::quic(rig.installation.tls(Some(&identity), ALPN_TUNNEL));
    config.transport_config(Arc::new(stubborn));
    let broker = rig.broker.tunnel_addr();
    let mut agent = Agent::connect_on(endpoint, config, &rig.installation, broker, machine).await;
    agent.hello(machine).await;
    assert!(matches!(agent.next().await, BrokerMessage::Welcome(_)));
    (agent, socket)
}

/// A gap of one byte, and behind it a whole window in crumbs, each in a packet of its own.
async fn crumble(send: &mut SendStream, socket: &Lossy) {
    socket.lose_next.store(true, Ordering::Relaxed);
    send.write_all(&[0]).await.unwrap();
    while socket.lose_next.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
    for _ in 0..(WINDOW - 1 - 1_024) / CRUMB {
        send.write_all(&[0; CRUMB]).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn ma_02_windows_full_of_crumbs_behind_a_gap_cost_bounded_memory() {
    let rig = Rig::start().await;
    let (mut agent, socket) = dial(&rig).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(rig.attached(&agent).await);
    }
    let granted = |agent: &Agent| agent.connection.stats().frame_rx.max_stream_data;
    let (before, granted_before) = (resident(), granted(&agent));
    for (_, send, _) in &mut streams {
        crumble(send, &socket).await;
    }
    crumble(&mut agent.control, &socket).await;
    socket.lose_all.store(true, Ordering::Relaxed);
    let packets = agent.connection.stats().udp_tx.datagrams;
    let grown = resident().saturating_sub(before);
    println!("{packets} packets of {CRUMB} bytes: memory + {} KiB, both ends together", grown >> 10);
    assert!(packets > (STREAMS * WINDOW / CRUMB / 2) as u64, "the crumbs went out together: {packets}");
    assert_eq!(granted(&agent), granted_before, "a gap was filled: nothing was kept");
    assert!(grown < 16 << 20, "{grown}");
    let other = Agent::dial(&rig, Uuid::new_v4()).await;
    let (_viewer, _s, _r) = rig.attached(&other).await;
}
