//! A session and its viewers, joined by nodes that delay, stall, cut and double their connections, in a time of their own.
//!
//! Both ends are the real ones: [`Session`] with its log, screen, pacing, ledgers and lease, and [`Viewer`]. Only the PTY is played, by a program that
//! prints what it likes and reads when it likes. A failure names its seed; `REXEC_SIM_SEED=n` plays that one alone.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rexec_shared::frame::Decoder;
use rexec_shared::limits::{INPUT_WINDOW, OUTPUT_WINDOW};
use rexec_shared::message::{ATTACH, OPEN, ViewerMessage};
use rexec_shared::proof::ViewerKey;
use rexec_shared::ticket::{Capability, FeedState};
use rexec_shared::viewer::{Event, Viewer};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::state::Session;
use super::tests::{claims, info, spec};
use super::{Arrival, Batch, Command, Outlet, StreamId};
use crate::host::handshake::{self, Request};
use crate::host::pty::Leader;

/// Seeds played in an ordinary run.
const SEEDS: u64 = 1_000;
/// Turns with faults, and as many as may be needed until all is well once the faults are over.
const TURNS: usize = 150;
const HEALING_TURNS: usize = 4_000;
/// The log of a simulated session: small, so that it overflows.
const LOG_MAX: usize = 192 * 1024;
/// Most that is printed in one turn: with what the screen may lack, still less than the log.
const PRINT_MAX: usize = 24 * 1024;
/// Bytes that sockets and nodes hold before whoever writes has to wait: on every other connection, and on the rest.
const PIPE_MAX: [usize; 2] = [64 * 1024, 8 * 1024 * 1024];
/// Data of one batch and what frames and controls add to it, bytes.
const BATCH_MAX: usize = 96 * 1024;
/// Control frames that may lie beside a window of data, bytes.
const CONTROL_MAX: usize = 128 * 1024;

/// One direction of a connection: bytes and when they may arrive.
#[derive(Debug, Default)]
struct Pipe {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    stalled_until: Option<Instant>,
}

impl Pipe {
    fn len(&self) -> usize {
        self.chunks.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    fn push(&mut self, bytes: &[u8], at: Instant) {
        self.chunks.push_back((at, bytes.to_vec()));
    }

    /// What has arrived, in pieces that have nothing to do with frames.
    fn take(&mut self, now: Instant, rng: &mut StdRng) -> Option<Vec<u8>> {
        let stalled = self.stalled_until.is_some_and(|until| now < until);
        let (_, bytes) = self.chunks.front_mut().filter(|(at, _)| !stalled && *at <= now)?;
        let len = rng.random_range(1..=bytes.len());
        let rest = bytes.split_off(len);
        let piece = std::mem::replace(bytes, rest);
        if bytes.is_empty() {
            self.chunks.pop_front();
        }
        Some(piece)
    }
}

/// A connection as the host sees it. One that the viewer has given up may go on here for a while.
struct Link {
    number: usize,
    up: Pipe,
    down: Pipe,
    decoder: Decoder,
    stream: Option<StreamId>,
    batches: Option<mpsc::Receiver<Batch>>,
    /// A batch that the socket has not taken.
    waiting: Option<Batch>,
    gone: bool,
}

/// A viewer, what it has typed and what it has seen.
struct Person {
    viewer: Viewer,
    /// The connection it holds.
    link: Option<usize>,
    typed: Vec<u8>,
    /// Where the output that it shows began.
    shown_from: Option<u64>,
    /// Whether it shows any.
    shows: bool,
    gap: Option<(u64, u64)>,
    /// Its bytes have this upper half.
    mark: u8,
}

struct World {
    rng: StdRng,
    now: Instant,
    session: Session,
    feed: FeedState,
    people: Vec<Person>,
    links: BTreeMap<usize, Link>,
    streams: usize,
    /// Everything the program printed, and everything it read.
    printed: Vec<u8>,
    read: Vec<u8>,
    healing: bool,
    /// Of a hundred turns, those in which much is printed, and those in which a viewer without a connection makes one.
    flood: u32,
    haste: u32,
    tally: Tally,
}

/// What happened, so that a simulation in which nothing does is noticed.
#[derive(Debug, Default)]
struct Tally {
    gaps: usize,
    screens: usize,
    resumed: usize,
    /// Connections that came after a newer one of their viewer, and were refused.
    late: usize,
    typed: usize,
    printed: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let session = Session::with_log(&info(), Leader::nobody(), LOG_MAX, now);
        let people = (0..rng.random_range(1..=3u8)).map(|n| Person {
            viewer: Viewer::new(
                Uuid::from_u128(u128::from(n) + 1),
                info().session,
                spec(),
                ViewerKey::generate().unwrap(),
            ),
            link: None,
            typed: Vec::new(),
            shown_from: None,
            shows: false,
            gap: None,
            mark: n << 4,
        });
        let (people, feed) = (people.collect(), FeedState::starting(now));
        Self {
            rng,
            now,
            session,
            feed,
            people,
            links: BTreeMap::new(),
            streams: 0,
            printed: Vec::new(),
            read: Vec::new(),
            healing: false,
            flood: if seed.is_multiple_of(5) { 80 } else { 5 },
            haste: if seed.is_multiple_of(3) { 4 } else { 50 },
            tally: Tally::default(),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn turn(&mut self) {
        self.now += Duration::from_millis(self.rng.random_range(0..if self.healing { 5 } else { 40 }));
        self.program();
        for person in 0..self.people.len() {
            self.person(person);
        }
        self.hosts_side();
        // The real one stops after some time by the clock on the wall, which would be another at each run.
        if self.healing || self.chance(50) {
            self.session.catch_up_fully();
        }
        self.session.handle_time(&mut None, self.now);
        self.session.serve_viewers(self.now);
        self.hosts_side();
        self.check_bounds();
    }

    /// The program prints as long as it is read, and reads sometimes.
    fn program(&mut self) {
        let busy = self.chance(if self.healing { 0 } else { 50 });
        if busy && self.session.should_read(self.now) {
            let most = if self.chance(self.flood) { PRINT_MAX } else { 600 };
            let len = self.rng.random_range(1..=most);
            let begin = self.printed.len();
            self.printed.extend(
                (begin..begin + len).map(|at| if at % 61 == 0 { b'\n' } else { b'a' + (at % 23) as u8 }),
            );
            let Self { session, printed, now, .. } = self;
            session.handle_output(&printed[begin..], *now);
        }
        if self.healing || self.chance(40) {
            let mut room = self.rng.random_range(1..40_000usize);
            let Self { session, read, .. } = self;
            session.write_with(64 * 1024, |bytes| {
                let len = bytes.len().min(room);
                room -= len;
                read.extend_from_slice(&bytes[..len]);
                len
            });
        }
    }

    fn person(&mut self, n: usize) {
        if !self.healing {
            self.type_something(n);
            self.fault(n);
        }
        if self.people[n].link.is_none() && (self.healing || self.chance(self.haste)) {
            self.connect(n);
        }
        self.send(n);
        for _ in 0..self.rng.random_range(1..40) {
            let Some(link) = self.people[n].link.and_then(|link| self.links.get_mut(&link)) else { break };
            let Some(bytes) = link.down.take(self.now, &mut self.rng) else { break };
            self.people[n].viewer.handle_bytes(&bytes).expect("a host keeps to the protocol");
            self.events(n);
        }
        // The terminal parses sometimes all, sometimes nothing.
        let parses = self.healing || self.chance(70);
        if let Some(offset) = self.people[n].viewer.offset().filter(|_| parses) {
            self.people[n].viewer.parsed(offset);
        }
        self.send(n);
    }

    fn type_something(&mut self, n: usize) {
        if !self.chance(30) {
            return;
        }
        let most = if self.chance(3) { 100_000 } else { 30 };
        let len = self.rng.random_range(1..=most);
        let person = &mut self.people[n];
        let at = person.typed.len();
        let bytes: Vec<u8> = (at..at + len).map(|at| person.mark | (at % 13) as u8).collect();
        let taken = person.viewer.type_bytes(&bytes);
        person.typed.extend_from_slice(&bytes[..taken]);
    }

    fn fault(&mut self, n: usize) {
        let Some(link) = self.people[n].link else { return };
        let waits = self.links.get(&link).is_some_and(|link| link.stream.is_none());
        match self.rng.random_range(0..100) {
            // Both ends see it end.
            0..4 => self.links.get_mut(&link).into_iter().for_each(|link| link.gone = true),
            // The viewer gives up; what it has sent still arrives, and the host finds out late or never.
            4..8 => {}
            8..14 => {
                let until = self.now + Duration::from_millis(self.rng.random_range(0..6_000));
                let Some(link) = self.links.get_mut(&link) else { return };
                let pipe = if self.rng.random_bool(0.5) { &mut link.up } else { &mut link.down };
                pipe.stalled_until = Some(until);
                return;
            }
            // It has no patience with a connection that does not begin.
            14..40 if waits => {}
            _ => return,
        }
        self.people[n].link = None;
    }

    fn connect(&mut self, n: usize) {
        let number = self.streams;
        self.streams += 1;
        let (mut up, down) = (Pipe::default(), Pipe::default());
        if !self.healing && self.chance(15) {
            up.stalled_until = Some(self.now + Duration::from_millis(self.rng.random_range(0..2_000)));
        }
        let (decoder, stream, batches, waiting, gone) = (Decoder::new(), None, None, None, false);
        self.links.insert(number, Link { number, up, down, decoder, stream, batches, waiting, gone });
        let person = &mut self.people[n];
        person.link = Some(number);
        person.viewer.start("a permission", number.is_multiple_of(3));
    }

    fn send(&mut self, n: usize) {
        let at =
            self.now + Duration::from_millis(self.rng.random_range(0..if self.healing { 2 } else { 60 }));
        let Self { people, links, .. } = self;
        let person = &mut people[n];
        let Some(link) = person.link.and_then(|link| links.get_mut(&link)) else { return };
        while let Some(bytes) = person.viewer.poll_transmit() {
            link.up.push(&bytes, at);
        }
    }

    fn events(&mut self, n: usize) {
        let Self { people, printed, session, tally, .. } = self;
        let person = &mut people[n];
        while let Some(event) = person.viewer.poll_event() {
            match event {
                Event::Opened(opened) => {
                    tally.resumed += usize::from(person.shows);
                    if person.shown_from.is_none() && opened.offset == 0 {
                        person.shown_from = Some(0);
                    }
                }
                Event::Output { offset, bytes } => {
                    assert!(person.shown_from.is_some(), "output before anything it continues");
                    assert!(person.gap.is_none(), "output after a gap and before its screen");
                    person.shows = true;
                    assert_eq!(bytes, printed[offset as usize..][..bytes.len()], "at {offset}");
                }
                Event::Gap { from, to } => {
                    assert!(from < session.log.start(), "the log still has what it says is gone");
                    person.gap = Some((from, to));
                    tally.gaps += 1;
                }
                Event::Screen { snapshot, .. } => {
                    // One that was told to begin at the first byte and has seen none may be painted instead.
                    let fresh = !person.shows;
                    assert!(
                        fresh || person.gap.is_some_and(|(_, to)| to == snapshot.offset),
                        "a screen nobody asked for"
                    );
                    (person.shown_from, person.gap, person.shows) = (Some(snapshot.offset), None, true);
                    tally.screens += 1;
                }
                Event::Error(error) => {
                    assert_eq!(error.code, "too_slow", "{error:?}");
                    person.link = None;
                }
                Event::InputAck(_)
                | Event::Resized(_)
                | Event::Viewers(_)
                | Event::Lease(_)
                | Event::Exit(_)
                | Event::Title(_)
                | Event::Pong(_) => {}
            }
        }
    }

    /// What streams do at the host: bytes to commands, batches to bytes.
    fn hosts_side(&mut self) {
        let numbers: Vec<usize> = self.links.keys().copied().collect();
        for number in numbers {
            let Some(mut link) = self.links.remove(&number) else { continue };
            let alive = self.receive(&mut link) && self.transmit(&mut link);
            if alive && !link.gone {
                self.links.insert(number, link);
            } else if let Some(stream) = link.stream {
                self.tell(Command::Left(stream));
                // What was sent may still be under way to the viewer.
                if !link.gone {
                    (link.stream, link.batches) = (None, None);
                    self.links.insert(number, link);
                }
            }
        }
        let held: Vec<usize> = self.people.iter().filter_map(|person| person.link).collect();
        self.links.retain(|number, link| held.contains(number) || link.stream.is_some() || link.up.len() > 0);
        let Self { people, links, .. } = self;
        people
            .iter_mut()
            .for_each(|person| person.link = person.link.filter(|link| links.contains_key(link)));
    }

    fn tell(&mut self, command: Command) {
        self.session.handle(command, &self.feed, None, self.now);
    }

    fn receive(&mut self, link: &mut Link) -> bool {
        while let Some(bytes) = link.up.take(self.now, &mut self.rng) {
            link.decoder.push(&bytes);
            while let Some(frame) = link.decoder.poll_frame().unwrap() {
                match link.stream {
                    Some(stream) => {
                        let message = ViewerMessage::decode(&frame).unwrap().unwrap();
                        self.tell(Command::Message(stream, message));
                    }
                    None if matches!(frame.kind, OPEN | ATTACH) => {
                        self.arrive(link, handshake::parse_first(&frame).unwrap());
                    }
                    // The stream was ended and its reader is gone.
                    None => return true,
                }
            }
        }
        true
    }

    /// A challenge takes no time here: a viewer that has given this connection up may have answered it, or not.
    fn arrive(&mut self, link: &mut Link, mut request: Request) {
        let given_up = !self.people.iter().any(|person| person.link == Some(link.number));
        if given_up && self.chance(50) {
            return;
        }
        let (batches, receiver) = mpsc::channel(1);
        let outlet = Outlet { socket: None, batches };
        let stream = StreamId::next();
        (link.stream, link.batches) = (Some(stream), Some(receiver));
        request.snapshot_ack &= link.number % 4 != 3;
        let claims = Box::new(claims(&[Capability::Terminal], request.viewer));
        self.tell(Command::Arrive(Box::new(Arrival { stream, request, claims, outlet })));
        self.tally.late += usize::from(given_up && !self.session.viewers.contains_key(&stream));
    }

    /// Returns whether the stream goes on.
    fn transmit(&mut self, link: &mut Link) -> bool {
        let (Some(stream), Some(batches)) = (link.stream, link.batches.as_mut()) else { return true };
        if link.waiting.is_none() {
            match batches.try_recv() {
                Ok(batch) => link.waiting = Some(batch),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
        if link.down.len() >= PIPE_MAX[link.number % 2] {
            return true;
        }
        let Some(batch) = link.waiting.take() else { return true };
        assert!(batch.bytes.len() <= BATCH_MAX, "a batch of {} bytes", batch.bytes.len());
        let at =
            self.now + Duration::from_millis(self.rng.random_range(0..if self.healing { 2 } else { 60 }));
        link.down.push(&batch.bytes, at);
        if batch.last {
            return false;
        }
        self.tell(Command::Written(stream, BytesMut::new()));
        true
    }

    fn check_bounds(&mut self) {
        let window = OUTPUT_WINDOW as usize + CONTROL_MAX;
        for link in self.links.values().filter(|link| link.number % 4 != 3) {
            let waiting = link.waiting.as_ref().map_or(0, |batch| batch.bytes.len());
            let in_flight = link.down.len() + waiting;
            assert!(in_flight <= window, "{in_flight} bytes in flight to an unread stream");
        }
        let queued = self.session.input.len();
        assert!(
            queued <= self.people.len() * INPUT_WINDOW as usize + 8 * 1024,
            "{queued} bytes of input wait"
        );
        assert!(self.session.log.head() - self.session.log.start() <= LOG_MAX as u64);
        assert!(self.session.viewers.len() <= self.links.len(), "streams that are gone are forgotten");
    }

    fn is_well(&self) -> bool {
        let head = self.session.log.head();
        self.people.iter().all(|person| {
            person.link.is_some()
                && person.viewer.pending_input() == 0
                && person.viewer.offset() == Some(head)
        })
    }

    fn check_end(&self) {
        assert_eq!(self.session.log.head(), self.printed.len() as u64);
        for person in &self.people {
            let read: Vec<u8> = self.read.iter().copied().filter(|byte| byte & 0xf0 == person.mark).collect();
            assert!(read == person.typed, "typed {} bytes, read {}", person.typed.len(), read.len());
        }
    }
}

fn play(seed: u64) -> Tally {
    let mut world = World::new(seed);
    for _ in 0..TURNS {
        world.turn();
    }
    world.healing = true;
    for link in world.links.values_mut() {
        (link.up.stalled_until, link.down.stalled_until) = (None, None);
    }
    for _ in 0..HEALING_TURNS {
        if world.is_well() {
            world.check_end();
            let (typed, printed) = (world.read.len(), world.printed.len());
            return Tally { typed, printed, ..world.tally };
        }
        world.turn();
    }
    let stand: Vec<_> =
        world.people.iter().map(|p| (p.link, p.viewer.offset(), p.viewer.pending_input())).collect();
    let (log, pacer) = (&world.session.log, &world.session.pacer);
    panic!("not well when all was: log from {} to {}, {stand:?}, {pacer:?}", log.start(), log.head());
}

#[test]
fn whatever_the_network_does_output_is_whole_and_input_is_applied_once() {
    let seeds = match std::env::var("REXEC_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let mut sum = Tally::default();
    let alone = seeds.end - seeds.start == 1;
    for seed in seeds {
        let played = std::panic::catch_unwind(|| play(seed));
        let Ok(tally) = played else { panic!("play it again with REXEC_SIM_SEED={seed}") };
        sum.gaps += tally.gaps;
        sum.screens += tally.screens;
        sum.resumed += tally.resumed;
        sum.late += tally.late;
        sum.typed += tally.typed;
        sum.printed += tally.printed;
    }
    let much = sum.gaps > 20 && sum.screens > 100 && sum.resumed > 1_000 && sum.late > 20;
    assert!(alone || much, "hardly anything happened: {sum:?}");
}
