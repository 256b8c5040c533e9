//! Handshakes: whose certificate is believed, and what many bad ones cost the good ones.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use quinn::ConnectionError;
use rexec_shared::close::CloseCode;
use rexec_shared::pki::{ALPN_TUNNEL, Identity, broker_name};
use uuid::Uuid;

use crate::kit::{Agent, Installation, Rig, close_code, quic};
use crate::memory::resident;

/// How a dial with this TLS configuration ends: the reason, or none when the broker let it come as far as the control stream.
async fn dial(rig: &Rig, tls: rustls::ClientConfig, server_name: &str) -> Option<ConnectionError> {
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let connecting = endpoint.connect_with(quic(tls), rig.broker.tunnel_addr(), server_name).unwrap();
    let connection = match connecting.await {
        Ok(connection) => connection,
        Err(error) => return Some(error),
    };
    // In TLS 1.3 a client is done before its certificate is judged: the judgement is the next thing it hears.
    tokio::time::timeout(Duration::from_secs(2), connection.closed()).await.ok()
}

#[tokio::test]
async fn nw_01_only_a_valid_machine_certificate_of_our_authority_comes_in() {
    let rig = Rig::start().await;
    let ours = &rig.installation;
    let (machine, now, day) = (Uuid::new_v4(), SystemTime::now(), Duration::from_secs(86_400));
    let name = broker_name(ours.id);
    let good = ours.machine(machine, now);
    assert_eq!(dial(&rig, ours.tls(Some(&good), ALPN_TUNNEL), &name).await, None, "the good one comes in");

    let other = Installation::new();
    let as_seen_by_us = |identity: &Identity| ours.tls(Some(identity), ALPN_TUNNEL);
    let cases: Vec<(&str, rustls::ClientConfig)> = vec![
        ("no certificate", ours.tls(None, ALPN_TUNNEL)),
        ("another authority's", as_seen_by_us(&other.machine(machine, now))),
        ("expired", as_seen_by_us(&ours.machine(machine, now - 3 * day))),
        ("not yet valid", as_seen_by_us(&ours.machine(machine, now + day))),
        ("a broker's", as_seen_by_us(&ours.authority.broker(ours.id, now).unwrap())),
        ("the authority's own", as_seen_by_us(&ours.authority_identity)),
        ("self-signed", as_seen_by_us(&self_signed())),
        ("another protocol", ours.tls(Some(&good), b"h3")),
        ("a later version of the protocol", ours.tls(Some(&good), b"rexec/2")),
    ];
    for (case, tls) in cases {
        match dial(&rig, tls, &name).await {
            Some(ConnectionError::ConnectionClosed(_)) => {}
            other => panic!("{case}: {other:?}"),
        }
    }
    let mut no_alpn = ours.tls(Some(&good), ALPN_TUNNEL);
    no_alpn.alpn_protocols.clear();
    assert!(dial(&rig, no_alpn, &name).await.is_some(), "no protocol at all");
    assert_eq!(rig.broker.counts().tunnels_total, 0);
}

pub(crate) fn self_signed() -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
}

#[tokio::test]
async fn nw_01_an_agent_refuses_a_broker_of_another_installation() {
    let (rig, other) = (Rig::start().await, Installation::new());
    let identity = rig.installation.machine(Uuid::new_v4(), SystemTime::now());
    let foreign_root = other.tls(Some(&identity), ALPN_TUNNEL);
    assert!(dial(&rig, foreign_root, &broker_name(rig.installation.id)).await.is_some(), "another root");
    let ours = rig.installation.tls(Some(&identity), ALPN_TUNNEL);
    assert!(dial(&rig, ours, &broker_name(other.id)).await.is_some(), "another name");
}

#[tokio::test]
async fn nw_05_there_is_nothing_to_resume_and_no_early_data() {
    let rig = Rig::start().await;
    let identity = rig.installation.machine(Uuid::new_v4(), SystemTime::now());
    let mut tls = rig.installation.tls(Some(&identity), ALPN_TUNNEL);
    tls.enable_early_data = true;
    tls.resumption = rustls::client::Resumption::in_memory_sessions(16);
    let config = quic(tls);
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let name = broker_name(rig.installation.id);
    for visit in 1..=2 {
        let connecting = endpoint.connect_with(config.clone(), rig.broker.tunnel_addr(), &name).unwrap();
        match connecting.into_0rtt() {
            Ok(_) => panic!("early data on visit {visit}"),
            Err(connecting) => {
                let connection = connecting.await.unwrap();
                // Long enough for a session ticket to come, if there were one.
                tokio::time::timeout(Duration::from_millis(300), connection.closed()).await.unwrap_err();
            }
        }
    }
}

/// First packets of real handshakes, each good for one stalled handshake, that never reached a broker.
async fn first_packets(installation: &Installation, count: usize) -> Vec<Vec<u8>> {
    let sink = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = sink.local_addr().unwrap();
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let config = quic(installation.tls(None, ALPN_TUNNEL));
    let name = broker_name(installation.id);
    let (mut packets, mut dials) = (std::collections::BTreeMap::new(), Vec::new());
    let mut buffer = vec![0; 65_536];
    while packets.len() < count {
        // Kept, because a dial that is dropped says goodbye.
        dials.push(endpoint.connect_with(config.clone(), target, &name).unwrap());
        while packets.len() < dials.len() {
            let (n, _) = sink.recv_from(&mut buffer).await.unwrap();
            // Long header: flags, version (4), length of the destination id, the id itself.
            let id = buffer[6..6 + usize::from(buffer[5])].to_vec();
            packets.entry(id).or_insert_with(|| buffer[..n].to_vec());
        }
    }
    packets.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ma_11_a_thousand_stalled_handshakes_do_not_keep_a_new_agent_waiting() {
    let rig = Rig::start().await;
    let packets = first_packets(&rig.installation, 1_000).await;
    let sources: Vec<UdpSocket> =
        (0..100).map(|n| UdpSocket::bind((Ipv4Addr::new(127, 0, 1, n), 0)).unwrap()).collect();
    for (packet, source) in packets.iter().zip(sources.iter().cycle()) {
        source.send_to(packet, rig.broker.tunnel_addr()).unwrap();
    }
    rig.until(|counts| counts.handshakes >= 900).await;
    let mut took = Vec::new();
    for _ in 0..30 {
        let begun = Instant::now();
        let _agent = Agent::dial(&rig, Uuid::new_v4()).await;
        took.push(begun.elapsed());
    }
    took.sort();
    println!(
        "beside {} stalled handshakes: p50 {:?}, worst {:?}",
        rig.broker.counts().handshakes,
        took[15],
        took[29]
    );
    assert!(took[29] < Duration::from_millis(500), "{:?}", took[29]);
    rig.until(|counts| counts.handshakes == 0).await;
}

/// THREATS names 50,000 packets a second for 20 s: this is a fifth of that for a fifth of the time, what a test may take of two shared cores.
const FLOOD: Duration = Duration::from_secs(4);
/// First packets per second. One core answers some 50,000; here agents, flood and broker share two with other tests.
const FLOOD_RATE: u32 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nw_03_a_flood_of_first_packets_neither_fills_memory_nor_locks_out_its_pretended_sender() {
    let rig = Rig::start().await;
    let packets = Arc::new(first_packets(&rig.installation, 2_000).await);
    let before = resident();
    let target = rig.broker.tunnel_addr();
    let flood = tokio::task::spawn_blocking(move || {
        // From the very address that honest agents dial from.
        let source = UdpSocket::bind("127.0.0.1:0").unwrap();
        let begun = Instant::now();
        let mut sent = 0u32;
        for packet in packets.iter().cycle() {
            if begun.elapsed() > FLOOD {
                break;
            }
            source.send_to(packet, target).ok();
            sent += 1;
            if sent.is_multiple_of(50) {
                std::thread::sleep(
                    (Duration::from_secs(1) / FLOOD_RATE * sent).saturating_sub(begun.elapsed()),
                );
            }
        }
        sent
    });
    let mut took = Vec::new();
    // One endpoint for all honest dials: its buffers are not what is measured here.
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    while !flood.is_finished() {
        let begun = Instant::now();
        let _agent = Agent::dial_on(&endpoint, &rig, Uuid::new_v4()).await;
        took.push(begun.elapsed());
    }
    took.sort();
    let (sent, grown) = (flood.await.unwrap(), resident().saturating_sub(before));
    println!(
        "{sent} packets in {FLOOD:?}: {} dials, worst {:?}, memory + {} KiB",
        took.len(),
        took.last(),
        grown >> 10
    );
    assert!(rig.broker.counts().handshakes <= 32, "{:?}", rig.broker.counts());
    assert!(took.last().is_some_and(|worst| *worst < Duration::from_secs(2)), "{took:?}");
    assert!(grown < 100 << 20, "{grown}");
}

#[tokio::test]
async fn ma_11_one_address_cannot_hold_more_than_its_share_of_handshakes() {
    let rig = Rig::start().await;
    let identity = rig.installation.machine(Uuid::new_v4(), SystemTime::now());
    let mut silent = Vec::new();
    // Real handshakes that end before the hello: they hold their place until the deadline.
    for _ in 0..60 {
        let dial = Agent::connect(&rig, Uuid::new_v4(), &identity);
        match tokio::time::timeout(Duration::from_millis(200), dial).await {
            Ok(agent) => silent.push(agent),
            Err(_) => break,
        }
    }
    assert!(silent.len() <= 32, "{}", silent.len());
    assert!(rig.broker.counts().handshakes <= 32);
    let code = close_code(&silent[0].connection.closed().await);
    assert_eq!(code, Some(CloseCode::TooSlow));
}
