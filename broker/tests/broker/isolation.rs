//! What one viewer, one agent or one path does wrong, the others do not notice.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rexec_shared::broker_link::{FromBroker, ToBroker};
use rexec_shared::close::CloseCode;
use rexec_shared::tunnel::{AgentMessage, BrokerMessage};
use uuid::Uuid;

use crate::cable::Cable;
use crate::kit::{Agent, Rig, read_first};

const STUCK: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_viewers_that_stop_reading_leave_the_tunnel_to_its_other_viewer_and_its_pings() {
    let rig = Rig::start().await;
    let mut agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (mut stuck, mut floods) = (Vec::new(), Vec::new());
    for _ in 0..STUCK {
        let (viewer, mut flood, recv) = rig.attached(&agent).await;
        stuck.push((viewer, recv));
        floods.push(tokio::spawn(async move {
            let mut written = 0usize;
            // What a socket's buffers take on both sides, and then the stream's window.
            while let Ok(Ok(n)) =
                tokio::time::timeout(Duration::from_secs(1), flood.write(&[0; 65_536])).await
            {
                written += n;
            }
            (written, flood)
        }));
    }
    let mut held = Vec::new();
    for flood in floods {
        held.push(flood.await.unwrap());
    }
    let written: usize = held.iter().map(|(written, _)| written).sum();
    assert!(written > STUCK * 256 * 1024, "each has filled its window: {written}");

    let (mut neighbour, mut echo_send, mut echo_recv) = rig.attached(&agent).await;
    let _first = read_first(&mut echo_recv).await;
    for t in 1..=20u64 {
        let begun = Instant::now();
        neighbour.send(Bytes::from_static(b"x")).await;
        assert_eq!(echo_recv.read_chunk(16, true).await.unwrap().unwrap().bytes, "x");
        echo_send.write_all(b"y").await.unwrap();
        assert_eq!(neighbour.bytes().await.unwrap(), "y");
        agent.say(&AgentMessage::Ping { t }).await;
        while agent.next().await != (BrokerMessage::Pong { t }) {}
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    assert_eq!(agent.connection.close_reason(), None, "the tunnel stays");
    assert_eq!(rig.broker.counts().tunnels, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_viewers_that_stop_reading_a_tunnel_carries_so_many_and_cuts_the_rest() {
    const SLOW_MAX: u64 = 64;
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (mut stuck, mut floods) = (Vec::new(), tokio::task::JoinSet::new());
    for _ in 0..SLOW_MAX + 16 {
        let (viewer, mut flood, recv) = rig.attached(&agent).await;
        stuck.push((viewer, recv));
        floods.spawn(async move { while flood.write(&[0; 65_536]).await.is_ok() {} });
    }
    let begun = Instant::now();
    rig.until(|counts| counts.streams <= SLOW_MAX).await;
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "before its own deadline cuts each: {:?}",
        begun.elapsed()
    );
    let (mut neighbour, mut echo_send, mut echo_recv) = rig.attached(&agent).await;
    let _first = read_first(&mut echo_recv).await;
    neighbour.send(Bytes::from_static(b"x")).await;
    assert_eq!(echo_recv.read_chunk(16, true).await.unwrap().unwrap().bytes, "x");
    echo_send.write_all(b"y").await.unwrap();
    assert_eq!(neighbour.bytes().await.unwrap(), "y");
    assert_eq!(agent.connection.close_reason(), None, "the tunnel stays");
}

#[tokio::test]
async fn a_half_open_tunnel_is_found_within_seconds_when_a_viewer_is_attached() {
    let mut rig = Rig::start().await;
    let cable = Cable::to(rig.broker.tunnel_addr()).await;
    let mut agent = Agent::dial_to(&rig.installation, cable.address, Uuid::new_v4()).await;
    let (mut viewer, _s, _r) = rig.attached(&agent).await;
    // As agents do every second while viewers are attached.
    agent.say(&AgentMessage::Ping { t: 1 }).await;
    while agent.next().await != (BrokerMessage::Pong { t: 1 }) {}
    cable.cut();
    let begun = Instant::now();
    assert_eq!(viewer.closed().await, CloseCode::TunnelLost);
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    loop {
        if let FromBroker::TunnelDown { tunnel, .. } = rig.event().await {
            assert_eq!(tunnel, agent.number);
            break;
        }
    }
}

#[tokio::test]
async fn a_half_open_idle_tunnel_is_found_within_five_seconds_of_its_agents_last_word() {
    let mut rig = Rig::start().await;
    let cable = Cable::to(rig.broker.tunnel_addr()).await;
    let mut agent = Agent::dial_to(&rig.installation, cable.address, Uuid::new_v4()).await;
    agent.say(&AgentMessage::Ping { t: 1 }).await;
    while agent.next().await != (BrokerMessage::Pong { t: 1 }) {}
    cable.cut();
    let begun = Instant::now();
    loop {
        if let FromBroker::TunnelDown { tunnel, reason, .. } = rig.event().await {
            assert_eq!(tunnel, agent.number);
            assert_eq!(reason, "the agent fell silent");
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_millis(5_500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_agent_that_leaves_its_control_stream_unread_is_closed_at_once_all_the_same() {
    let rig = Rig::start().await;
    let mut agent = Agent::dial(&rig, Uuid::new_v4()).await;
    // More answers than its stream's window holds.
    let pings = async {
        for _ in 0..60_000 {
            agent.say(&AgentMessage::Ping { t: u64::MAX }).await;
        }
    };
    // The broker stops reading once it cannot answer any more.
    tokio::time::timeout(Duration::from_secs(3), pings).await.ok();
    let begun = Instant::now();
    let order = ToBroker::Disconnect { machine: agent.machine, code: CloseCode::Revoked, up_to: None };
    rig.orders.send(order).await.unwrap();
    assert_eq!(agent.closed().await, Some(CloseCode::Revoked));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_agent_that_answers_when_asked_keeps_its_tunnel() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (_viewer, _s, _r) = rig.attached(&agent).await;
    // The kit's agents say nothing by themselves; QUIC's keep-alive is sign of life enough.
    let ended = tokio::time::timeout(Duration::from_secs(8), agent.connection.closed()).await;
    assert!(ended.is_err(), "{ended:?}");
}
