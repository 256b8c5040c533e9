//! A panic in the handling of one peer's input ends that peer's connection and nothing else (THREATS MA-12).
//!
//! No input is known that panics, so two are made up, which exist in tests alone: [`PING`] and [`SESSION`].
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one event among many")]

#[path = "../tests/broker/kit.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod kit;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rexec_shared::close::CloseCode;
use rexec_shared::tunnel::AgentMessage;
use uuid::Uuid;

use self::kit::{Agent, Rig, Viewer, read_first};

/// A tunnel's task panics at this.
pub(crate) const PING: u64 = 0xdead_beef;
/// A viewer's task panics at this.
pub(crate) const SESSION: Uuid = Uuid::from_u128(0xdead_beef);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ma_12_a_panic_ends_one_connection_and_the_others_go_on() {
    let rig = Rig::start().await;
    let neighbour = Agent::dial(&rig, Uuid::new_v4()).await;
    let (mut viewer, mut send, mut recv) = rig.attached(&neighbour).await;
    let _first = read_first(&mut recv).await;
    for _ in 0..20 {
        let mut agent = Agent::dial(&rig, Uuid::new_v4()).await;
        agent.say(&AgentMessage::Ping { t: PING }).await;
        assert_eq!(agent.closed().await, Some(CloseCode::Internal));

        let (ticket, _) = rig.ticket(neighbour.machine);
        let mut doomed = Viewer::connect(&rig).await;
        doomed.open(&ticket, SESSION).await;
        assert_eq!(doomed.bytes().await, None);

        let begun = Instant::now();
        viewer.send(Bytes::from_static(b"x")).await;
        assert_eq!(recv.read_chunk(16, true).await.unwrap().unwrap().bytes, "x");
        send.write_all(b"y").await.unwrap();
        assert_eq!(viewer.bytes().await.unwrap(), "y");
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }
    rig.until(|counts| counts.tunnels == 1 && counts.streams == 1).await;
    let _back = Agent::dial(&rig, Uuid::new_v4()).await;
}
