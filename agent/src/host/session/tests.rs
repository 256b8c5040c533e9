//! A session by itself: who may do what in it, and how it ends. Without sockets, and with a process only where one is needed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rexec_shared::frame::Decoder;
use rexec_shared::message::{
    Attach, HostMessage, Open, Proof, SessionKind, SignalName, Size, Spec, ViewerMessage,
};
use rexec_shared::ticket::{
    Actor, ActorKind, Capability, Claims, Feed, FeedState, PublicKey, Revocation, Signer, Verifier,
};
use rexec_shared::tunnel::SessionInfo;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::state::Session;
use super::{Arrival, Batch, Command, Outlet, StreamId};
use crate::host::handshake::{Intent, Request};
use crate::host::pty::{self, Leader};

const A: Uuid = Uuid::from_u128(1);
const CAPABILITIES: [Capability; 6] = [
    Capability::Terminal,
    Capability::Exec,
    Capability::FilesRead,
    Capability::FilesWrite,
    Capability::Forward,
    Capability::View,
];

pub(super) fn info() -> SessionInfo {
    SessionInfo {
        session: Uuid::from_u128(77),
        kind: SessionKind::Terminal,
        title: String::new(),
        cols: 80,
        rows: 24,
        viewers: 0,
        user: Uuid::nil(),
        created: 0,
        exited: None,
    }
}

pub(super) fn spec() -> Spec {
    let (env, cwd, command) = (BTreeMap::new(), None, None);
    Spec { kind: SessionKind::Terminal, cols: 80, rows: 24, env, cwd, command, port: None }
}

pub(super) fn claims(caps: &[Capability], viewer: Uuid) -> Claims {
    Claims {
        jti: Uuid::nil(),
        aud: Uuid::from_u128(3),
        org: Uuid::from_u128(4),
        usr: Uuid::from_u128(5),
        lgn: Uuid::from_u128(6),
        act: Actor { kind: ActorKind::Person, id: Uuid::from_u128(5), name: "Jo".to_owned() },
        ses: info().session,
        caps: caps.to_vec(),
        cnf: viewer.to_string(),
        iat: 1_000,
        exp: 2_000,
    }
}

fn request(viewer: Uuid, attempt: u64) -> Request {
    let intent = Intent::Attach { epoch: None, offset: None };
    Request {
        ticket: String::new(),
        viewer,
        attempt,
        session: info().session,
        input_seq: 0,
        snapshot_ack: true,
        intent,
    }
}

struct Bench {
    session: Session,
    feed: FeedState,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let session = Session::new(&info(), Leader::nobody(), now);
        Self { session, feed: FeedState::starting(now), now }
    }

    fn tell(&mut self, command: Command) {
        self.session.handle(command, &self.feed, None, self.now);
    }

    fn arrive(&mut self, viewer: Uuid, caps: &[Capability]) -> (StreamId, mpsc::Receiver<Batch>) {
        self.arrive_on(request(viewer, 0), caps)
    }

    fn arrive_on(&mut self, request: Request, caps: &[Capability]) -> (StreamId, mpsc::Receiver<Batch>) {
        let (batches, receiver) = mpsc::channel(1);
        let outlet = Outlet { socket: None, batches };
        let (stream, claims) = (StreamId::next(), Box::new(claims(caps, request.viewer)));
        self.tell(Command::Arrive(Box::new(Arrival { stream, request, claims, outlet })));
        (stream, receiver)
    }

    /// The code of the error that a stream is sent as its next batch.
    fn error(&mut self, batches: &mut mpsc::Receiver<Batch>) -> Option<String> {
        self.session.serve_viewers(self.now);
        let batch = batches.try_recv().ok()?;
        let mut decoder = Decoder::new();
        decoder.push(&batch.bytes);
        let frame = decoder.poll_frame().unwrap()?;
        let Some(HostMessage::Error(error)) = HostMessage::decode(&frame).unwrap() else { return None };
        assert!(batch.last, "the stream ends with an error");
        Some(error.code)
    }
}

fn every_message() -> Vec<ViewerMessage> {
    let size = Size { cols: 99, rows: 9 };
    let (v, features, ticket, viewer, session) = (1, Vec::new(), String::new(), A, info().session);
    vec![
        ViewerMessage::Open(Open {
            v,
            features: features.clone(),
            ticket: ticket.clone(),
            viewer,
            attempt: 0,
            session,
            input_seq: 0,
            spec: spec(),
        }),
        ViewerMessage::Attach(Attach {
            v,
            features,
            ticket,
            viewer,
            attempt: 0,
            session,
            epoch: None,
            offset: None,
            input_seq: 0,
        }),
        ViewerMessage::Proof(Proof { key: String::new(), signature: String::new() }),
        ViewerMessage::Ack { offset: 0 },
        ViewerMessage::Resize(size),
        ViewerMessage::Signal(SignalName::Kill),
        ViewerMessage::Eof,
        ViewerMessage::TakeLease(size),
        ViewerMessage::ReleaseLease,
        ViewerMessage::Ping { t: 1 },
        ViewerMessage::Detach,
        ViewerMessage::Close,
        ViewerMessage::SnapshotAck { bytes: 0 },
        ViewerMessage::Input { seq: 0, bytes: Bytes::from_static(b"rm -rf /\n") },
    ]
}

/// What a message is to a session: something that acts on it, that belongs at the beginning of a stream, or neither.
#[derive(Debug, PartialEq, Eq)]
enum Nature {
    Acts,
    Begins,
    Harmless,
}

/// Written down again, not derived from the code: a new message must be placed here too.
fn nature(message: &ViewerMessage) -> Nature {
    match message {
        ViewerMessage::Input { .. }
        | ViewerMessage::Resize(_)
        | ViewerMessage::Signal(_)
        | ViewerMessage::Eof
        | ViewerMessage::TakeLease(_)
        | ViewerMessage::Close => Nature::Acts,
        ViewerMessage::Open(_) | ViewerMessage::Attach(_) | ViewerMessage::Proof(_) => Nature::Begins,
        ViewerMessage::Ack { .. }
        | ViewerMessage::SnapshotAck { .. }
        | ViewerMessage::ReleaseLease
        | ViewerMessage::Ping { .. }
        | ViewerMessage::Detach => Nature::Harmless,
    }
}

#[test]
fn bu_02_every_frame_under_every_set_of_capabilities_does_what_the_set_allows_and_no_more() {
    for set in 0..1u32 << CAPABILITIES.len() {
        let caps: Vec<Capability> =
            (0..CAPABILITIES.len()).filter(|bit| set >> bit & 1 == 1).map(|bit| CAPABILITIES[bit]).collect();
        let writer = caps.contains(&Capability::Terminal);
        for message in every_message() {
            let mut bench = Bench::new();
            let (stream, mut batches) = bench.arrive(A, &caps);
            assert_eq!(bench.session.lease.holder(), writer.then_some(A), "{caps:?}");
            let nature = nature(&message);
            bench.tell(Command::Message(stream, message.clone()));
            let expected = match nature {
                Nature::Acts if !writer => Some("forbidden"),
                Nature::Begins => Some("protocol_error"),
                Nature::Harmless if message == ViewerMessage::Detach => Some("done"),
                Nature::Acts | Nature::Harmless => None,
            };
            assert_eq!(bench.error(&mut batches).as_deref(), expected, "{message:?} with {caps:?}");
            if expected.is_some() {
                assert!(!bench.session.should_write(), "{message:?} with {caps:?} types");
                assert_eq!(bench.session.wanted_size, None, "{message:?} with {caps:?} sizes");
                assert_eq!(bench.session.lease.holder(), None, "{message:?} with {caps:?} holds the lease");
            }
        }
    }
}

#[test]
fn bu_03_a_viewer_that_arrives_after_its_revocation_was_told_is_turned_away() {
    let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let Claims { org, lgn, iat, .. } = claims(&[], A);
    let mut bench = Bench::new();
    let mut verifier = Verifier::new(PublicKey::parse(&signer.public_key()).unwrap(), org, bench.now);
    let entries = vec![Revocation { principal: format!("login:{lgn}"), at: iat }];
    let token = signer.feed(&Feed { org, seq: 1, issued: iat, entries });
    bench.feed = verifier.handle_feed(&token, bench.now).unwrap().clone();
    // The session was told when nobody was here; the viewer was let in by the hub just before.
    bench.session.handle_feed(&bench.feed.clone(), bench.now);
    let (_, mut batches) = bench.arrive(A, &[Capability::Terminal]);
    assert_eq!(bench.error(&mut batches).as_deref(), Some("revoked"));
    assert!(bench.session.viewers.is_empty() && bench.session.lease.holder().is_none());
}

#[test]
fn a_stream_that_its_viewer_gave_up_is_refused_when_it_comes_after_the_newer_one() {
    let caps = [Capability::Terminal];
    let mut bench = Bench::new();
    let (newer, mut batches) = bench.arrive_on(request(A, 2), &caps);
    bench.tell(Command::Message(newer, ViewerMessage::Input { seq: 0, bytes: Bytes::from_static(b"ls") }));
    let (older, mut late) = bench.arrive_on(request(A, 1), &caps);
    assert_eq!(bench.error(&mut late).as_deref(), Some("displaced"));
    bench.tell(Command::Message(older, ViewerMessage::Input { seq: 2, bytes: Bytes::from_static(b"x") }));
    assert_eq!((bench.error(&mut batches), bench.session.viewers.len()), (None, 1));
    assert_eq!((bench.session.lease.holder(), bench.session.input.len()), (Some(A), 2));
    let (_, mut newest) = bench.arrive_on(request(A, 3), &caps);
    assert_eq!(bench.error(&mut newest), None);
}

proptest! {
    /// Frames of streams that never were here, or are no more, in any order.
    #[test]
    fn ma_04_unknown_channel_never_reaches_handler(picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..40)) {
        let mut bench = Bench::new();
        let (present, mut batches) = bench.arrive(A, &[Capability::Terminal]);
        let (left, _gone) = bench.arrive(Uuid::from_u128(2), &[Capability::Terminal]);
        bench.tell(Command::Left(left));
        prop_assert_eq!(bench.error(&mut batches), None);
        let messages = every_message();
        for (pick, was_here) in picks {
            let stream = if was_here { left } else { StreamId::next() };
            bench.tell(Command::Message(stream, pick.get(&messages).clone()));
            bench.tell(Command::Written(stream, BytesMut::new()));
            bench.tell(Command::Left(stream));
        }
        prop_assert!(!bench.session.should_write(), "nothing is typed");
        prop_assert_eq!(bench.session.wanted_size, None);
        prop_assert_eq!(bench.session.lease.holder(), Some(A));
        let streams: Vec<StreamId> = bench.session.viewers.keys().copied().collect();
        prop_assert_eq!(streams, vec![present]);
        prop_assert_eq!(bench.error(&mut batches), None, "and who is here hears nothing of it");
    }
}

#[test]
fn a_viewer_that_is_over_and_takes_nothing_is_let_go_after_five_seconds() {
    let mut bench = Bench::new();
    let (_, mut stuck) = bench.arrive(A, &[Capability::Terminal]);
    bench.session.serve_viewers(bench.now);
    // Its first batch is never written; the viewer comes back on another stream.
    let (_, mut newer) = bench.arrive(A, &[Capability::Terminal]);
    assert_eq!(bench.error(&mut newer), None);
    assert_eq!(bench.session.viewers.len(), 2);
    bench.now += Duration::from_secs(4);
    bench.session.serve_viewers(bench.now);
    assert_eq!(bench.session.viewers.len(), 2);
    let deadline = bench.session.poll_timeout(bench.now).unwrap();
    assert!(deadline <= bench.now + Duration::from_secs(1), "somebody looks when the time is over");
    bench.now += Duration::from_secs(1);
    bench.session.serve_viewers(bench.now);
    assert_eq!(bench.session.viewers.len(), 1);
    assert!(stuck.try_recv().is_ok(), "the first batch lies where it was");
    assert!(matches!(stuck.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)), "its stream is told");
}

#[test]
fn viewers_that_are_over_count_until_they_are_gone() {
    let mut bench = Bench::new();
    let mut streams = Vec::new();
    let mut refused = 0;
    for _ in 0..1_000 {
        let (_, mut batches) = bench.arrive(A, &[Capability::Terminal]);
        // Nobody takes a batch, so none that is displaced goes.
        refused += usize::from(bench.error(&mut batches).as_deref() == Some("limit_reached"));
        streams.push(batches);
    }
    assert_eq!(refused, 1_000 - 2 * rexec_shared::limits::VIEWERS_MAX);
    assert_eq!(bench.session.viewers.len(), 2 * rexec_shared::limits::VIEWERS_MAX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_leader_printed_last_is_read_however_late_there_is_a_turn_to_read_it() {
    let script = "stty raw -echo; printf '%2000s' last";
    let command = Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
    let (pty, leader) =
        pty::spawn(Uuid::nil(), &Spec { command, ..spec() }, Size { cols: 80, rows: 24 }).unwrap();
    let mut session = Session::new(&info(), leader, Instant::now());
    let mut pty = Some(pty);
    let deadline = Instant::now() + Duration::from_secs(30);
    while session.is_alive() {
        session.handle_child();
        assert!(Instant::now() < deadline, "the leader never ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The machine was busy elsewhere: the first turn comes when all deadlines have passed.
    session.handle_time(&mut pty, Instant::now() + Duration::from_secs(10));
    assert_eq!((pty.is_none(), session.log.head()), (true, 2_000));
    assert_eq!(session.public.exit.map(|exit| exit.offset), Some(2_000));
}
