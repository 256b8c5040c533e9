//! Revocation: what is no longer allowed ends within two seconds, and nothing else does (THREATS BU-03).

use std::time::{Duration, Instant, SystemTime};

use rexec_shared::broker_link::{FromBroker, ToBroker};
use rexec_shared::close::CloseCode;
use rexec_shared::ticket::{Feed, Signer};
use rexec_shared::tunnel::BrokerMessage;
use uuid::Uuid;

use crate::kit::{Agent, Rig, Viewer, unix_ms};

const CUT_WITHIN: Duration = Duration::from_secs(2);

fn token(order: &ToBroker) -> String {
    match order {
        ToBroker::Feed { token, .. } => token.clone(),
        ToBroker::Disconnect { .. } => panic!("not a feed"),
    }
}

#[tokio::test]
async fn bu_03_a_revoked_login_is_cut_within_two_seconds_and_others_go_on() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (mut revoked, _s, mut agent_recv) = rig.attached(&agent).await;

    let mut claims = rig.installation.claims(agent.machine);
    (claims.usr, claims.lgn) = (Uuid::from_u128(10), Uuid::from_u128(20));
    let mut other = Viewer::connect(&rig).await;
    other.open(&rig.installation.signer.ticket(&claims), claims.ses).await;
    let (mut other_send, _r) = agent.stream().await;

    let begun = Instant::now();
    rig.orders.send(rig.installation.feed(1, &[format!("login:{}", Uuid::from_u128(2))])).await.unwrap();
    assert_eq!(revoked.closed().await, CloseCode::Revoked);
    let reset = loop {
        match agent_recv.read_chunk(1024, true).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream was finished, not cut"),
            Err(error) => break error,
        }
    };
    assert_eq!(reset, quinn::ReadError::Reset(CloseCode::Revoked.number().into()));
    assert!(begun.elapsed() < CUT_WITHIN, "{:?}", begun.elapsed());

    other_send.write_all(b"on it goes").await.unwrap();
    assert_eq!(other.bytes().await.unwrap(), "on it goes");
}

#[tokio::test]
async fn bu_03_a_revoked_machine_is_cut_within_two_seconds_and_does_not_come_back() {
    let mut rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (mut viewer, _s, _r) = rig.attached(&agent).await;
    let begun = Instant::now();
    rig.orders.send(rig.installation.feed(1, &[format!("machine:{}", agent.machine)])).await.unwrap();
    assert_eq!(agent.closed().await, Some(CloseCode::Revoked));
    assert_eq!(viewer.closed().await, CloseCode::Revoked);
    assert!(begun.elapsed() < CUT_WITHIN, "{:?}", begun.elapsed());

    let identity = rig.installation.machine(agent.machine, SystemTime::now());
    let mut again = Agent::connect(&rig, agent.machine, &identity).await;
    again.hello(agent.machine).await;
    assert_eq!(again.closed().await, Some(CloseCode::Revoked));
    loop {
        if let FromBroker::DialRefused { code, claimed, .. } = rig.event().await {
            assert_eq!((code, claimed), (CloseCode::Revoked, None));
            break;
        }
    }
}

#[tokio::test]
async fn control_can_disconnect_a_machine() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (mut viewer, _s, _r) = rig.attached(&agent).await;
    let order = ToBroker::Disconnect { machine: agent.machine, code: CloseCode::Revoked, up_to: None };
    rig.orders.send(order).await.unwrap();
    assert_eq!(agent.closed().await, Some(CloseCode::Revoked));
    assert_eq!(viewer.closed().await, CloseCode::Revoked);
}

#[tokio::test]
async fn agents_get_each_newer_feed_as_control_signed_it() {
    let rig = Rig::start().await;
    let first = rig.installation.feed(1, &[]);
    let mut early = Agent::dial(&rig, Uuid::new_v4()).await;
    rig.orders.send(first.clone()).await.unwrap();
    assert_eq!(early.next().await, BrokerMessage::Feed { token: token(&first) });

    let mut late = Agent::dial(&rig, Uuid::new_v4()).await;
    assert_eq!(late.next().await, BrokerMessage::Feed { token: token(&first) }, "right after Welcome");

    let stranger = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let entries = Vec::new();
    let forged = stranger.feed(&Feed { org: rig.installation.org, seq: 99, issued: unix_ms(), entries });
    rig.orders.send(ToBroker::Feed { org: rig.installation.org, token: forged }).await.unwrap();
    rig.orders.send(first).await.unwrap();
    let second = rig.installation.feed(2, &[]);
    rig.orders.send(second.clone()).await.unwrap();
    for agent in [&mut early, &mut late] {
        assert_eq!(
            agent.next().await,
            BrokerMessage::Feed { token: token(&second) },
            "neither forged nor old"
        );
    }
}

#[tokio::test]
async fn with_control_gone_sessions_go_on_and_viewers_resume() {
    let mut rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (mut viewer, mut send, _r) = rig.attached(&agent).await;
    rig.events.close();
    while rig.events.recv().await.is_some() {}
    rig.orders = tokio::sync::mpsc::channel(1).0;

    send.write_all(b"still").await.unwrap();
    assert_eq!(viewer.bytes().await.unwrap(), "still");
    let mut claims = rig.installation.claims(agent.machine);
    claims.exp += 86_400_000;
    let mut resumed = Viewer::connect(&rig).await;
    resumed.attach(&rig.installation.signer.resume(&claims), claims.ses).await;
    let (mut send, _r) = agent.stream().await;
    send.write_all(b"again").await.unwrap();
    assert_eq!(resumed.bytes().await.unwrap(), "again");
}
