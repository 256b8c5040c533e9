//! Two muxes joined by pipes that split and delay, beside a model that is two byte strings per stream.
#![expect(clippy::disallowed_methods, reason = "a test may begin at any time")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::limits::STREAMS_PER_TUNNEL;

/// One direction of one stream as it should be.
#[derive(Default)]
struct Model {
    written: Vec<u8>,
    read: Vec<u8>,
    finished: bool,
    reset: Option<u32>,
    stopped: Option<u32>,
    /// What the reader was told last.
    told: Option<Read>,
}

struct Pair {
    muxes: [Mux; 2],
    /// `pipes[side]` carries what `side` has sent.
    pipes: [BytesMut; 2],
    /// By the side that writes.
    halves: BTreeMap<(usize, StreamId), Model>,
    /// Streams a side has opened or accepted.
    known: [Vec<StreamId>; 2],
    now: Instant,
}

const SIDES: [Side; 2] = [Side::Dialler, Side::Listener];
const CODES: [CloseCode; 3] = [CloseCode::Done, CloseCode::TooSlow, CloseCode::Internal];

#[derive(Debug, Clone)]
enum Op {
    Open(usize),
    Accept(usize),
    Write(usize, usize, usize),
    Finish(usize, usize),
    Reset(usize, usize, usize),
    Stop(usize, usize, usize),
    Read(usize, usize, usize),
    Send(usize, usize),
    Deliver(usize, usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (side, stream) = (0usize..2, 0usize..8);
    let sized = prop_oneof![1usize..200, 1usize..100_000];
    prop_oneof![
        1 => side.clone().prop_map(Op::Open),
        2 => side.clone().prop_map(Op::Accept),
        6 => (side.clone(), stream.clone(), sized.clone()).prop_map(|(a, b, c)| Op::Write(a, b, c)),
        1 => (side.clone(), stream.clone()).prop_map(|(a, b)| Op::Finish(a, b)),
        1 => (side.clone(), stream.clone(), 0usize..3).prop_map(|(a, b, c)| Op::Reset(a, b, c)),
        1 => (side.clone(), stream.clone(), 0usize..3).prop_map(|(a, b, c)| Op::Stop(a, b, c)),
        5 => (side.clone(), stream, sized.clone()).prop_map(|(a, b, c)| Op::Read(a, b, c)),
        5 => (side.clone(), sized.clone()).prop_map(|(a, b)| Op::Send(a, b)),
        5 => (side, sized).prop_map(|(a, b)| Op::Deliver(a, b)),
        1 => (0u64..3_000).prop_map(Op::Wait),
    ]
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            muxes: SIDES.map(|side| Mux::new(side, Timing::default(), now)),
            pipes: [BytesMut::new(), BytesMut::new()],
            halves: BTreeMap::new(),
            known: [Vec::new(), Vec::new()],
            now,
        }
    }

    fn half(&mut self, writer: usize, id: StreamId) -> &mut Model {
        self.halves.entry((writer, id)).or_default()
    }

    fn nth(&self, side: usize, n: usize) -> Option<StreamId> {
        self.known[side].get(n % self.known[side].len().max(1)).copied()
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Open(side) => self.known[side].extend(self.muxes[side].open().ok()),
            Op::Accept(side) => self.known[side].extend(self.muxes[side].accept()),
            Op::Write(side, n, len) => self.nth(side, n).into_iter().for_each(|id| self.write(side, id, len)),
            Op::Finish(side, n) => {
                if let Some(id) = self.nth(side, n) {
                    self.half(side, id).finished |= self.muxes[side].finish(id);
                }
            }
            Op::Reset(side, n, code) => {
                if let Some(id) = self.nth(side, n) {
                    let ended = self.muxes[side].outcome(id) != Outcome::Pending;
                    self.muxes[side].reset(id, CODES[code]);
                    let half = self.half(side, id);
                    if !ended && half.reset.is_none() {
                        half.reset = Some(CODES[code].number());
                    }
                }
            }
            Op::Stop(side, n, code) => {
                if let Some(id) = self.nth(side, n) {
                    self.muxes[side].stop(id, CODES[code]);
                    self.half(1 - side, id).stopped.get_or_insert(CODES[code].number());
                }
            }
            Op::Read(side, n, max) => self.nth(side, n).into_iter().for_each(|id| self.read(side, id, max)),
            Op::Send(side, budget) => self.send(side, budget),
            Op::Deliver(side, len) => self.deliver(side, len),
            Op::Wait(ms) => {
                self.now += Duration::from_millis(ms);
                // A pipe that delays for so long is another test's.
                self.muxes.iter_mut().for_each(|mux| mux.pulse.handle_heard(self.now));
                self.muxes.iter_mut().for_each(|mux| mux.handle_timeout(self.now));
            }
        }
        self.check();
    }

    fn write(&mut self, side: usize, id: StreamId, len: usize) {
        let start = self.half(side, id).written.len();
        let salt = id.0 as usize * 7 + side;
        let bytes: Bytes = (start..start + len).map(|at| (at * 31 / 3 + salt) as u8).collect();
        match self.muxes[side].write(id, &bytes) {
            Write::Taken => self.half(side, id).written.extend_from_slice(&bytes),
            Write::Stopped(code) => assert_eq!(self.half(side, id).stopped, Some(code)),
            Write::Ended => assert!(self.half(side, id).finished || self.half(side, id).reset.is_some()),
            Write::Full => {}
            Write::Lost => panic!("lost"),
        }
    }

    fn read(&mut self, side: usize, id: StreamId, max: usize) {
        let read = self.muxes[side].read(id, max).expect("not lost");
        let half = self.half(1 - side, id);
        if let Read::Bytes(bytes) = &read {
            assert!(!bytes.is_empty() && bytes.len() <= max);
            half.read.extend_from_slice(bytes);
            assert!(half.written.starts_with(&half.read), "every byte once, in order");
        }
        half.told = Some(read);
    }

    fn send(&mut self, side: usize, budget: usize) {
        let before = self.pipes[side].len();
        self.muxes[side].poll_output(&mut self.pipes[side], before + budget, self.now);
        assert!(
            self.pipes[side].len() < before + budget + FRAME_MAX + 4 * 11,
            "within the budget and one frame"
        );
    }

    fn deliver(&mut self, from: usize, len: usize) {
        let len = len.min(self.pipes[from].len());
        let bytes = self.pipes[from].split_to(len);
        self.muxes[1 - from].handle_input(&bytes, self.now);
    }

    fn check(&mut self) {
        for mux in &mut self.muxes {
            assert_eq!(mux.end(), None);
            while mux.poll_event().is_some() {}
            for stream in mux.streams.values() {
                assert!(stream.recv.held() <= STREAM_CREDIT + 2 * 4096, "{}", stream.recv.held());
            }
            assert!(mux.signals.len() <= mux.streams.len());
            let pooled: usize = mux.streams.values().map(|stream| stream.recv.pooled()).sum();
            assert_eq!(pooled + mux.pool.0, CREDIT_POOL, "no credit is lost or made");
        }
    }

    /// Accepts and reads everything until nothing moves.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut moved = false;
            for side in 0..2 {
                while let Some(id) = self.muxes[side].accept() {
                    self.known[side].push(id);
                    moved = true;
                }
                self.send(side, 50_000);
                moved |= !self.pipes[side].is_empty();
                self.deliver(side, usize::MAX);
                for id in self.known[1 - side].clone() {
                    let before = self.half(side, id).read.len();
                    self.read(1 - side, id, 30_000);
                    moved |= self.half(side, id).read.len() > before;
                }
            }
            self.check();
            if !moved {
                return;
            }
        }
        panic!("never settles");
    }

    fn verdict(&self) {
        for ((writer, id), half) in &self.halves {
            let opened = self.known[1 - writer].contains(id);
            if !opened {
                continue;
            }
            let outcome = self.muxes[*writer].outcome(*id);
            match (&half.told, half.stopped) {
                (Some(Read::Finished), _) => assert!(half.finished && half.read == half.written),
                (Some(Read::Reset(code)), None) => assert_eq!(Some(*code), half.reset),
                (Some(Read::Reset(_)), Some(_)) | (Some(Read::Stopped), Some(_)) => {}
                (Some(Read::Empty), None) => {
                    assert!(!half.finished && half.reset.is_none());
                    assert_eq!(half.read.len(), half.written.len(), "no byte is left behind");
                }
                told => panic!("{told:?}"),
            }
            let is_ended = half.finished || half.reset.is_some() || half.stopped.is_some();
            assert_eq!(outcome == Outcome::Pending, !is_ended, "the writer knows");
            if let (Outcome::Stopped(code), stopped) = (outcome, half.stopped) {
                assert_eq!(Some(code), stopped);
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_done_and_however_bytes_travel_each_half_is_the_model(ops in prop::collection::vec(op(), 1..150)) {
        let mut pair = Pair::new();
        ops.into_iter().for_each(|op| pair.apply(op));
        pair.settle();
        pair.verdict();
    }

    #[test]
    fn ma_03_mangled_input_never_panics(
        ops in prop::collection::vec(op(), 1..40),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut pair = Pair::new();
        ops.into_iter().for_each(|op| pair.apply(op));
        for side in 0..2 {
            pair.send(side, 100_000);
            let mut bytes = pair.pipes[side].to_vec();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            bytes.extend_from_slice(&noise);
            let peer = &mut pair.muxes[1 - side];
            peer.handle_input(&bytes, pair.now);
            let mut out = BytesMut::new();
            peer.poll_output(&mut out, 1 << 20, pair.now);
            while peer.poll_event().is_some() {}
            if let Some(End::Protocol(_)) = peer.end() {
                prop_assert_eq!(out.first(), Some(&0x07), "the last word is CLOSE");
            }
        }
    }
}

fn fed(side: Side, frames: &[Frame<'_>]) -> Mux {
    let now = Instant::now();
    let mut mux = Mux::new(side, Timing::default(), now);
    feed(&mut mux, frames);
    mux
}

fn feed(mux: &mut Mux, frames: &[Frame<'_>]) {
    let mut wire = BytesMut::new();
    frames.iter().for_each(|frame| frame.encode(&mut wire));
    mux.handle_input(&wire, Instant::now());
}

fn broken(side: Side, frames: &[Frame<'_>]) -> ProtocolError {
    match fed(side, frames).end() {
        Some(End::Protocol(error)) => *error,
        other => panic!("{other:?}"),
    }
}

fn sent(mux: &mut Mux) -> BytesMut {
    let mut out = BytesMut::new();
    mux.poll_output(&mut out, usize::MAX, Instant::now());
    out
}

#[test]
fn ma_04_a_frame_for_a_stream_that_never_was_ends_the_connection() {
    use Frame::*;
    for (stream, side) in [(0, Side::Listener), (1, Side::Listener), (1, Side::Dialler), (0, Side::Dialler)] {
        let frames = [
            Data { stream, bytes: b"x" },
            Fin { stream },
            Reset { stream, code: 0 },
            Stop { stream, code: 0 },
            Credit { stream, bytes: 1 },
        ];
        for frame in frames {
            assert_eq!(broken(side, &[frame]), ProtocolError::UnknownStream { stream });
        }
    }
    let mut early = Mux::new(Side::Listener, Timing::default(), Instant::now());
    early.open().unwrap();
    feed(&mut early, &[Stop { stream: 1, code: 0 }]);
    assert_eq!(
        early.end(),
        Some(&End::Protocol(ProtocolError::UnknownStream { stream: 1 })),
        "not yet announced"
    );
}

#[test]
fn ma_04_a_stream_number_is_used_once_in_its_turn_and_by_its_side() {
    use Frame::*;
    let not_next = |stream| ProtocolError::NotNext { stream };
    assert_eq!(broken(Side::Dialler, &[Open { stream: 3 }]), not_next(3));
    assert_eq!(broken(Side::Dialler, &[Open { stream: 0 }]), not_next(0), "ours to open");
    assert_eq!(broken(Side::Dialler, &[Open { stream: 1 }, Open { stream: 1 }]), not_next(1));
    let after = ProtocolError::AfterEnd { stream: 1 };
    assert_eq!(broken(Side::Dialler, &[Open { stream: 1 }, Fin { stream: 1 }, Fin { stream: 1 }]), after);
    assert_eq!(
        broken(Side::Dialler, &[Open { stream: 1 }, Fin { stream: 1 }, Data { stream: 1, bytes: b"x" }]),
        after
    );
}

#[test]
fn ma_04_a_race_with_the_end_of_a_stream_is_counted_and_nothing_else() {
    let mut mux = fed(Side::Dialler, &[Frame::Open { stream: 1 }, Frame::Fin { stream: 1 }]);
    let id = mux.accept().unwrap();
    mux.finish(id);
    sent(&mut mux);
    mux.release_send(id, CloseCode::Internal);
    mux.release_recv(id, CloseCode::Internal);
    assert!(mux.streams.is_empty());
    feed(&mut mux, &[Frame::Credit { stream: 1, bytes: 5 }, Frame::Stop { stream: 1, code: 0 }]);
    assert_eq!((mux.late(), mux.end()), (2, None));
    feed(&mut mux, &[Frame::Data { stream: 1, bytes: b"x" }]);
    assert_eq!(mux.end(), Some(&End::Protocol(ProtocolError::AfterEnd { stream: 1 })));
}

#[test]
fn ma_05_no_peer_opens_more_streams_than_the_limit_however_it_ends_them() {
    let mut mux = Mux::new(Side::Dialler, Timing::default(), Instant::now());
    for n in 0..=STREAMS_PER_TUNNEL {
        let stream = n * 2 + 1;
        assert_eq!(mux.end(), None, "{n}");
        // All that a peer can end by itself; the streams were never accepted.
        feed(
            &mut mux,
            &[Frame::Open { stream }, Frame::Stop { stream, code: 0 }, Frame::Reset { stream, code: 0 }],
        );
        sent(&mut mux);
    }
    assert_eq!(mux.end(), Some(&End::Protocol(ProtocolError::TooManyStreams { max: STREAMS_PER_TUNNEL })));
    assert_eq!(
        broken(Side::Listener, &[Frame::Open { stream: 0 }, Frame::Open { stream: 2 }]),
        ProtocolError::TooManyStreams { max: DIALLER_STREAMS }
    );
}

#[test]
fn ma_05_credit_is_neither_exceeded_nor_overflown() {
    let data = [7; DATA_MAX];
    let mut frames = vec![Frame::Open { stream: 1 }];
    frames.resize(1 + CREDIT_FIRST / DATA_MAX, Frame::Data { stream: 1, bytes: &data });
    let rest = CREDIT_FIRST % DATA_MAX;
    frames.push(Frame::Data { stream: 1, bytes: &data[..rest] });
    assert_eq!(fed(Side::Dialler, &frames).end(), None, "all of it");
    frames.push(Frame::Data { stream: 1, bytes: b"x" });
    assert_eq!(broken(Side::Dialler, &frames), ProtocolError::OverCredit { stream: 1 });
    for bytes in [(STREAM_CREDIT - CREDIT_FIRST + 1) as u32, u32::MAX] {
        let overflow = [Frame::Open { stream: 1 }, Frame::Credit { stream: 1, bytes }];
        assert_eq!(broken(Side::Dialler, &overflow), ProtocolError::CreditOverflow { stream: 1 });
    }
    assert_eq!(broken(Side::Dialler, &[Frame::Pong { token: 1 }]), ProtocolError::UnsolicitedPong);
}

#[test]
fn ma_05_one_byte_frames_cost_a_byte_each() {
    let mut mux = fed(Side::Dialler, &[Frame::Open { stream: 1 }]);
    assert_eq!(hex::encode(sent(&mut mux)), "03000000010004".to_owned() + "0003c000", "a whole window");
    feed(&mut mux, &vec![Frame::Data { stream: 1, bytes: b"x" }; 100_000]);
    assert_eq!(mux.end(), None);
    assert!(mux.streams[&1].recv.held() < 110_000, "{}", mux.streams[&1].recv.held());
}

/// A listener with its dialler, one stream of the listener's known to both.
fn joined(streams: usize) -> (Pair, Vec<StreamId>) {
    let mut pair = Pair::new();
    let ids: Vec<_> = (0..streams).map(|_| pair.muxes[1].open().unwrap()).collect();
    pair.settle();
    (pair, ids)
}

#[test]
fn a_stream_that_nobody_reads_holds_back_no_other() {
    let (mut pair, ids) = joined(2);
    let chunk = Bytes::from(vec![1; 64 * 1024]);
    for _ in 0..100 {
        pair.muxes[1].write(ids[0], &chunk);
        pair.send(1, 1 << 20);
        pair.deliver(1, usize::MAX);
    }
    assert_eq!(pair.muxes[1].write(ids[0], &chunk), Write::Full);
    for _ in 0..100 {
        pair.write(1, ids[1], 50_000);
        pair.send(1, 1 << 20);
        pair.deliver(1, usize::MAX);
        while pair.half(1, ids[1]).read.len() < pair.half(1, ids[1]).written.len() {
            pair.read(0, ids[1], 100_000);
        }
        pair.send(0, 1 << 20);
        pair.deliver(0, usize::MAX);
    }
    assert_eq!(pair.half(1, ids[1]).read.len(), 5_000_000);
    let held = pair.muxes[0].streams[&ids[0].0].recv.held();
    assert!((STREAM_CREDIT..STREAM_CREDIT + 8192).contains(&held), "{held}");
}

#[test]
fn ma_05_streams_that_nobody_reads_pin_the_pool_and_what_each_begins_with_however_many_they_are() {
    const STREAMS: usize = 100;
    let (mut pair, mut ids) = (Pair::new(), Vec::new());
    // In the order that pins most: each has filled its window before the next is there to share with.
    for _ in 0..STREAMS {
        let id = pair.muxes[1].open().unwrap();
        pair.apply(Op::Send(1, 1 << 20));
        pair.apply(Op::Deliver(1, usize::MAX));
        pair.apply(Op::Accept(0));
        for _ in 0..6 {
            pair.apply(Op::Send(0, 1 << 20));
            pair.apply(Op::Deliver(0, usize::MAX));
            pair.write(1, id, 50_000);
            pair.apply(Op::Send(1, 1 << 20));
            pair.apply(Op::Deliver(1, usize::MAX));
        }
        ids.push(id);
    }
    let held = |pair: &Pair, id: &StreamId| pair.muxes[0].streams[&id.0].recv.held();
    let pinned: usize = ids.iter().map(|id| held(&pair, id)).sum();
    assert!(pinned <= CREDIT_POOL + STREAMS * (CREDIT_FIRST + 8_192), "{pinned}");
    assert!(ids.iter().all(|id| held(&pair, id) >= CREDIT_FIRST), "each has what is its own");
    pair.known[1].clone_from(&ids);
    pair.settle();
    assert!(ids.iter().all(|id| pair.halves[&(1, *id)].read == pair.halves[&(1, *id)].written));
    // When most have gone, one that stays has a whole window, however small its own was.
    let gone = &ids[..STREAMS - 4];
    for (id, mux) in gone.iter().flat_map(|id| [(*id, 0), (*id, 1)]) {
        pair.muxes[mux].release_send(id, CloseCode::Done);
        pair.muxes[mux].release_recv(id, CloseCode::Done);
    }
    pair.known.iter_mut().for_each(|known| known.retain(|id| !gone.contains(id)));
    let last = ids[STREAMS - 1];
    for _ in 0..4 {
        pair.write(1, last, 50_000);
        pair.settle();
    }
    assert_eq!(pair.muxes[0].streams[&last.0].recv.pooled(), STREAM_CREDIT - CREDIT_FIRST);
}

#[test]
fn a_keystroke_waits_for_one_frame_of_bulk_at_most() {
    let (mut pair, ids) = joined(3);
    for id in &ids[..2] {
        pair.muxes[1].write(*id, &Bytes::from(vec![1; 60_000]));
    }
    let mut out = BytesMut::new();
    pair.muxes[1].poll_output(&mut out, 1, pair.now);
    assert_eq!(out.len(), FRAME_MAX, "bulk goes in frames of one TLS record");
    pair.muxes[1].write(ids[2], &Bytes::from_static(b"\x03"));
    let mut next = BytesMut::new();
    pair.muxes[1].poll_output(&mut next, 1, pair.now);
    assert_eq!(hex::encode(&next), "0200000005000103");
}

#[test]
fn a_stopped_stream_is_reset_with_the_same_code_and_leaves_room_for_another() {
    let (mut pair, ids) = joined(STREAMS_PER_TUNNEL as usize);
    assert_eq!(pair.muxes[1].open(), Err(OpenError::Full));
    let id = ids[0];
    pair.muxes[1].write(id, &Bytes::from(vec![1; 100]));
    pair.muxes[1].finish(id);
    pair.muxes[0].stop(id, CloseCode::TooSlow);
    pair.send(0, 1_000);
    pair.deliver(0, usize::MAX);
    assert_eq!(pair.muxes[1].outcome(id), Outcome::Stopped(CloseCode::TooSlow.number()));
    pair.muxes[0].finish(id);
    pair.settle();
    assert_eq!(pair.muxes[1].read(id, 1), Some(Read::Finished));
    assert!(pair.muxes[1].open().is_ok());
}

#[test]
fn a_close_is_the_last_word_and_what_came_before_can_be_read_after_it() {
    let (mut pair, ids) = joined(1);
    pair.write(1, ids[0], 100);
    pair.send(1, 1_000);
    pair.muxes[1].write(ids[0], &Bytes::from(vec![1; 60_000]));
    pair.muxes[1].close(CloseCode::Draining, "off I go");
    let before = pair.pipes[1].len();
    pair.send(1, 1_000);
    assert_eq!(hex::encode(&pair.pipes[1][before..]), "0700000000000c0000000a6f6666204920676f");
    assert!(!pair.muxes[1].has_output());
    pair.deliver(1, usize::MAX);
    let reader = &mut pair.muxes[0];
    assert_eq!(reader.end(), Some(&End::Peer { code: 10, reason: "off I go".into() }));
    assert!(matches!(reader.read(ids[0], 1_000), Some(Read::Bytes(bytes)) if bytes.len() == 100));
    assert_eq!(reader.read(ids[0], 1_000), None);
    assert_eq!(reader.write(ids[0], &Bytes::from_static(b"x")), Write::Lost);
    assert_eq!(reader.open(), Err(OpenError::Ended));
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let mut mux = Mux::new(Side::Listener, Timing::default(), Instant::now());
    let mut out = BytesMut::new();
    while mux.end().is_none() {
        let at = mux.poll_timeout().unwrap();
        mux.handle_timeout(at);
        mux.poll_output(&mut out, usize::MAX, at);
    }
    assert_eq!(mux.end(), Some(&End::TimedOut));
    assert_eq!(hex::encode(&out), "08000000000008".to_owned() + "0000000000000001");
}
