//! Tunnels: who is welcomed, what control is told, how they end.

use std::time::{Duration, Instant, SystemTime};

use rexec_broker::Drain;
use rexec_shared::broker_link::FromBroker;
use rexec_shared::close::CloseCode;
use rexec_shared::message::SessionKind;
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, SessionInfo};
use uuid::Uuid;

use crate::kit::{Agent, DEADLINE, Installation, Rig, Viewer};

fn session(cols: u16) -> SessionInfo {
    SessionInfo {
        session: Uuid::from_u128(7),
        kind: SessionKind::Terminal,
        title: "sh".into(),
        cols,
        rows: 24,
        viewers: 1,
        user: Uuid::from_u128(1),
        created: 0,
        exited: None,
    }
}

#[tokio::test]
async fn an_agent_is_welcomed_and_control_is_told_of_its_tunnel_and_its_end() {
    let mut rig = Rig::start().await;
    let machine = Uuid::new_v4();
    let agent = Agent::dial(&rig, machine).await;
    match rig.event().await {
        FromBroker::TunnelUp {
            machine: of,
            org,
            tunnel,
            hostname,
            transport,
            transport_reason,
            address,
            ..
        } => {
            assert_eq!((of, org, tunnel), (machine, rig.installation.org, agent.number));
            assert_eq!((hostname.as_str(), transport.as_str(), transport_reason), ("laptop", "quic", None));
            assert_eq!(address, agent.endpoint.local_addr().unwrap().to_string());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.broker.counts().tunnels, 1);
    agent.connection.close(0u32.into(), b"");
    match rig.event().await {
        FromBroker::TunnelDown { machine: of, tunnel, .. } => {
            assert_eq!((of, tunnel), (machine, agent.number))
        }
        other => panic!("{other:?}"),
    }
    rig.until(|counts| counts.tunnels == 0).await;
}

#[tokio::test]
async fn ma_01_an_agent_that_claims_another_machine_is_closed_and_audited() {
    let mut rig = Rig::start().await;
    let (own, claimed) = (Uuid::new_v4(), Uuid::new_v4());
    let _victim = Agent::dial(&rig, claimed).await;
    assert!(matches!(rig.event().await, FromBroker::TunnelUp { .. }));

    let identity = rig.installation.machine(own, SystemTime::now());
    let mut liar = Agent::connect(&rig, own, &identity).await;
    liar.hello(claimed).await;
    assert_eq!(liar.closed().await, Some(CloseCode::WrongInstallation));
    match rig.event().await {
        FromBroker::DialRefused { machine, claimed: told, code, .. } => {
            assert_eq!((machine, told, code), (own, Some(claimed), CloseCode::WrongInstallation));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.broker.counts().tunnels, 1, "the victim's tunnel stands");
}

#[tokio::test]
async fn the_newest_tunnel_displaces_the_older_which_is_told_why() {
    let mut rig = Rig::start().await;
    let machine = Uuid::new_v4();
    let old = Agent::dial(&rig, machine).await;
    let (mut viewer, _send, _recv) = rig.attached(&old).await;
    let new = Agent::dial(&rig, machine).await;
    assert_eq!(old.closed().await, Some(CloseCode::Displaced));
    assert_eq!(viewer.closed().await, CloseCode::TunnelLost, "a viewer comes again at once");
    assert!(new.number > old.number);
    let (_viewer, _send, _recv) = rig.attached(&new).await;

    new.connection.close(0u32.into(), b"");
    let mut ups = Vec::new();
    loop {
        match rig.event().await {
            FromBroker::TunnelUp { tunnel, .. } => ups.push(tunnel),
            FromBroker::TunnelDown { tunnel, .. } => {
                assert_eq!(tunnel, new.number, "the older tunnel's end is nobody's business");
                break;
            }
            _ => {}
        }
    }
    assert_eq!(ups, [old.number, new.number]);
}

#[tokio::test]
async fn control_ends_with_the_right_belief_however_often_an_agent_dies_and_returns() {
    let mut rig = Rig::start().await;
    let machine = Uuid::new_v4();
    let mut living = Vec::new();
    for round in 0..20 {
        let agent = Agent::dial(&rig, machine).await;
        // The others say nothing and are displaced.
        if round % 2 == 0 {
            agent.connection.close(0u32.into(), b"");
        }
        living.push(agent);
    }
    let last = living.last().unwrap().number;
    let (mut belief, mut newest) = (None, 0);
    while belief != Some(last) {
        match rig.event().await {
            FromBroker::TunnelUp { tunnel, .. } => {
                assert!(tunnel > newest, "numbers grow");
                (belief, newest) = (Some(tunnel), tunnel);
            }
            FromBroker::TunnelDown { tunnel, .. } if belief == Some(tunnel) => belief = None,
            _ => {}
        }
    }
    assert_eq!(rig.broker.counts().tunnels, 1);
}

#[tokio::test]
async fn the_newest_presence_is_never_lost() {
    let mut rig = Rig::start().await;
    let mut agent = Agent::dial(&rig, Uuid::new_v4()).await;
    assert!(matches!(rig.event().await, FromBroker::TunnelUp { .. }));
    for cols in 1..=500 {
        agent.say(&AgentMessage::Presence(vec![session(cols)])).await;
    }
    let mut told = 0;
    loop {
        let FromBroker::Presence { tunnel, sessions, .. } = rig.event().await else { panic!("presence") };
        assert_eq!(tunnel, agent.number);
        told += 1;
        if sessions == [session(500)] {
            break;
        }
    }
    assert!(told < 100, "a flood of presence is thinned out: {told}");
}

#[tokio::test]
async fn the_round_trip_is_measured_and_an_agents_ping_is_answered() {
    let mut rig = Rig::start().await;
    let mut agent = Agent::dial(&rig, Uuid::new_v4()).await;
    agent.say(&AgentMessage::Ping { t: 42 }).await;
    assert_eq!(agent.next().await, BrokerMessage::Pong { t: 42 });
    loop {
        if let FromBroker::Presence { rtt_ms: Some(rtt), .. } = rig.event().await {
            assert!(rtt > 0.0 && rtt < 1_000.0, "{rtt}");
            break;
        }
    }
}

#[tokio::test]
async fn ma_03_frames_that_are_too_long_or_padded_close_the_tunnel() {
    let rig = Rig::start().await;
    let hostile: [&[u8]; 5] = [
        &[0x42, 0xff, 0xff, 0x7f],
        &[0x42, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x42, 0x81, 0x80, 0x04],
        &[0x42, 0x80, 0x00],
        &[0x42, 0x02, b'{', b'!'],
    ];
    for bytes in hostile {
        let mut agent = Agent::dial(&rig, Uuid::new_v4()).await;
        agent.control.write_all(bytes).await.unwrap();
        assert_eq!(agent.closed().await, Some(CloseCode::ProtocolError), "{bytes:02x?}");
    }
}

#[tokio::test]
async fn ma_02_an_agent_gets_one_stream_of_its_own_no_datagrams_and_a_bounded_window() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let soon = Duration::from_millis(300);
    assert!(tokio::time::timeout(soon, agent.connection.open_bi()).await.is_err(), "a second stream");
    assert!(tokio::time::timeout(soon, agent.connection.open_uni()).await.is_err(), "a one-way stream");
    assert!(agent.connection.max_datagram_size().is_none());

    // The viewer does not read: the agent's stream stalls at its window and the socket's buffers.
    let (_viewer, mut send, _recv) = rig.attached(&agent).await;
    let mut written = 0usize;
    while let Ok(result) = tokio::time::timeout(Duration::from_secs(1), send.write(&[0; 65_536])).await {
        written += result.unwrap();
        assert!(written < 64 << 20, "the broker swallows without end");
    }
}

#[tokio::test]
async fn an_agent_that_says_hello_twice_or_not_at_all_is_closed() {
    let rig = Rig::start().await;
    let mut agent = Agent::dial(&rig, Uuid::new_v4()).await;
    agent.hello(agent.machine).await;
    assert_eq!(agent.closed().await, Some(CloseCode::ProtocolError));

    let machine = Uuid::new_v4();
    let mut agent =
        Agent::connect(&rig, machine, &rig.installation.machine(machine, SystemTime::now())).await;
    agent.say(&AgentMessage::Ping { t: 1 }).await;
    assert_eq!(agent.closed().await, Some(CloseCode::ProtocolError));

    let machine = Uuid::new_v4();
    let silent = Agent::connect(&rig, machine, &rig.installation.machine(machine, SystemTime::now())).await;
    let asked = Instant::now();
    assert_eq!(silent.closed().await, Some(CloseCode::TooSlow));
    assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
}

/// A broker that is killed: its socket closes, and it says nothing to anybody.
async fn killed(rig: Rig, runtime: tokio::runtime::Runtime) {
    tokio::task::spawn_blocking(move || {
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(rig);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn agents_of_a_broker_that_died_learn_it_with_their_next_packet() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let rig = runtime.spawn(Rig::start()).await.unwrap();
    let (installation, address) = (rig.installation.clone(), rig.broker.tunnel_addr());
    let mut agents = Vec::new();
    for _ in 0..20 {
        agents.push(Agent::dial(&rig, Uuid::new_v4()).await);
    }
    killed(rig, runtime).await;
    assert!(agents.iter().all(|agent| agent.connection.close_reason().is_none()), "nobody said goodbye");

    let rig = Rig::start_at(installation, address).await;
    let begun = Instant::now();
    for agent in &agents {
        // The kit's agents keep alive every 300 ms.
        let error = tokio::time::timeout(DEADLINE, agent.connection.closed()).await.expect("told in time");
        assert_eq!(error, quinn::ConnectionError::Reset);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let _back = Agent::dial(&rig, agents[0].machine).await;
}

#[tokio::test]
async fn a_draining_broker_tells_its_agents_leaves_streams_their_grace_and_ends() {
    let rig = Rig::start().await;
    let mut agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (mut viewer, mut send, _recv) = rig.attached(&agent).await;
    let broker = rig.broker.clone();
    let grace = Duration::from_millis(800);
    let begun = Instant::now();
    let drain = tokio::spawn(async move { broker.drain(Drain::Elsewhere(grace)).await });

    assert_eq!(agent.next().await, BrokerMessage::Drain { grace_ms: 800, elsewhere: true });
    send.write_all(b"still here").await.unwrap();
    assert_eq!(viewer.bytes().await.unwrap(), "still here");
    let late = Uuid::new_v4();
    let mut newcomer = Agent::connect(&rig, late, &rig.installation.machine(late, SystemTime::now())).await;
    newcomer.hello(late).await;
    assert_eq!(newcomer.closed().await, Some(CloseCode::Draining));
    let mut refused = Viewer::connect(&rig).await;
    let (ticket, session) = rig.ticket(agent.machine);
    refused.open(&ticket, session).await;
    assert_eq!(refused.closed().await, CloseCode::Draining);

    assert_eq!(viewer.closed().await, CloseCode::Draining);
    assert!(begun.elapsed() >= grace, "{:?}", begun.elapsed());
    assert_eq!(agent.closed().await, Some(CloseCode::Draining));
    tokio::time::timeout(DEADLINE, drain).await.expect("the drain ends").unwrap();
}

#[tokio::test]
async fn a_drain_without_streams_takes_no_grace() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let begun = Instant::now();
    rig.broker.drain(Drain::Elsewhere(Duration::from_secs(60))).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(agent.closed().await, Some(CloseCode::Draining));
}

#[tokio::test]
async fn a_broker_without_another_ends_within_seconds_whoever_is_attached_and_control_hears_of_every_end() {
    let mut rig = Rig::start().await;
    let mut agents = Vec::new();
    for _ in 0..10 {
        agents.push(Agent::dial(&rig, Uuid::new_v4()).await);
    }
    let (mut viewer, _s, _r) = rig.attached(&agents[0]).await;
    while rig.events.try_recv().is_ok() {}
    let begun = Instant::now();
    rig.broker.drain(Drain::Alone).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(viewer.closed().await, CloseCode::Draining, "which a viewer answers by coming again at once");
    let told = std::iter::from_fn(|| rig.events.try_recv().ok());
    let downs = told.filter(|event| matches!(event, FromBroker::TunnelDown { .. })).count();
    assert_eq!(downs, agents.len(), "told before the drain returned");
    for agent in &mut agents {
        assert_eq!(agent.next().await, BrokerMessage::Drain { grace_ms: 1_000, elsewhere: false });
        assert_eq!(agent.closed().await, Some(CloseCode::Draining));
    }
}

#[tokio::test]
async fn a_drained_brokers_successor_takes_its_agents_on_the_same_port() {
    let rig = Rig::start().await;
    let (installation, address) = (rig.installation.clone(), rig.broker.tunnel_addr());
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    rig.broker.drain(Drain::Alone).await;
    drop(rig);
    let freed = async {
        while std::net::UdpSocket::bind(address).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, freed).await.expect("the port is free again");
    let rig = Rig::start_at(installation, address).await;
    let begun = Instant::now();
    let _back = Agent::dial(&rig, agent.machine).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_renewed_certificate_is_for_new_dials_and_tunnels_that_stand_do_not_notice() {
    let rig = Rig::start().await;
    let Installation { id, authority, .. } = &*rig.installation;
    let identity = |now| authority.broker(*id, now).unwrap();
    let old = Agent::dial(&rig, Uuid::new_v4()).await;
    // One whose 90 days are over.
    rig.broker.renew(&identity(SystemTime::now() - Duration::from_secs(91 * 24 * 3_600))).unwrap();
    let refused = rig.try_dial(Uuid::new_v4()).await.unwrap_err();
    assert!(refused.to_string().contains("xpired"), "{refused}");
    rig.broker.renew(&identity(SystemTime::now())).unwrap();
    let _new = Agent::dial(&rig, Uuid::new_v4()).await;
    assert_eq!(old.connection.close_reason(), None);
    let (_viewer, _s, _r) = rig.attached(&old).await;
}

#[tokio::test]
async fn a_broker_whose_last_handle_is_dropped_closes_its_tunnels() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    drop(rig);
    assert_eq!(agent.closed().await, Some(CloseCode::Draining));
}
