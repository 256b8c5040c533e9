//! What decoding may cost: no input of at most a frame makes any decoder hold more than a mebibyte (THREATS MA-03).
#![expect(unsafe_code, reason = "a counting allocator is one")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use rexec_shared::frame::{Decoder, Frame, put_frame};
use rexec_shared::limits::FRAME_MAX;
use rexec_shared::message::{HostMessage, ViewerMessage};
use rexec_shared::ticket::{PublicKey, Signer};
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, LinkAnswer, LinkMessage};

/// Most that one input may cost, bytes.
const COST_MAX: usize = 1 << 20;

/// Counts what this thread holds and the most it ever held.
struct Counting;

thread_local! {
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(change: isize) {
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + change, most.max(now + change)));
    });
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` held at once, bytes.
fn cost(work: impl FnOnce()) -> usize {
    let before = HELD.with(Cell::get).0;
    HELD.with(|held| held.set((before, before)));
    work();
    usize::try_from(HELD.with(Cell::get).1 - before).unwrap_or(0)
}

/// Shows bytes to every decoder there is, as a socket would bring them.
fn decode_all(bytes: &[u8], key: &PublicKey) {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    while let Ok(Some(Frame { kind, payload })) = decoder.poll_frame() {
        let frame = Frame { kind, payload };
        let _ = ViewerMessage::decode(&frame);
        let _ = HostMessage::decode(&frame);
        let _ = AgentMessage::decode(&frame);
        let _ = BrokerMessage::decode(&frame);
        let _ = LinkMessage::decode(&frame);
        let _ = LinkAnswer::decode(&frame);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = key.permission(text);
        let _ = key.feed(text);
    }
}

/// Random numbers that a failure can name.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 20
}

fn filled(kind: u8, head: &str, item: &str, tail: &str) -> Vec<u8> {
    let mut payload = head.to_owned();
    while payload.len() + item.len() + tail.len() + 1 < FRAME_MAX {
        payload.push_str(item);
        payload.push(',');
    }
    let _ = payload.pop();
    payload.push_str(tail);
    let mut out = BytesMut::new();
    put_frame(&mut out, kind, payload.as_bytes());
    out.to_vec()
}

/// Inputs that ask for as much as they can.
fn greedy() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for kind in 0..=u8::MAX {
        for length in [
            &[0xff, 0xff, 0xff, 0xff, 0x0f][..],
            &[0xff, 0xff, 0x7f],
            &[0x81, 0x80, 0x04],
            &[0x80, 0x80, 0x04],
        ] {
            inputs.push([&[kind], length, &[b'['; 64]].concat());
        }
    }
    let id = "00000000-0000-0000-0000-000000000000";
    for kind in (0..0x80).filter(|kind| kind & 0x0f < 0x0e) {
        inputs.push(filled(kind, r#"{"features":["#, r#""""#, "]}"));
        inputs.push(filled(kind, r#"{"v":1,"nonce":"","features":["#, r#""""#, "]}"));
        inputs.push(filled(kind, r#"{"sessions":["#, "{}", "]}"));
        inputs.push(filled(
            kind,
            r#"{"viewers":["#,
            &format!(r#"{{"viewer":"{id}","name":"","role":"view","lease":true}}"#),
            "]}",
        ));
        inputs.push(filled(kind, r#"{"spec":{"kind":"exec","cols":1,"rows":1,"command":["#, r#""""#, "]}}"));
        inputs.push(filled(kind, "[", "[", ""));
        inputs.push(filled(kind, r#"{"a":"#, r#"{"a":1}"#, ""));
    }
    inputs
}

#[test]
fn ma_03_no_input_makes_a_decoder_hold_more_than_a_mebibyte() {
    let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let key = PublicKey::parse(&signer.public_key()).unwrap();
    let mut most = 0;
    let mut check = |bytes: &[u8], what: &dyn std::fmt::Debug| {
        let cost = cost(|| decode_all(bytes, &key));
        assert!(cost < COST_MAX, "{cost} bytes for {what:?}");
        most = most.max(cost);
    };
    let greedy = greedy();
    for (n, input) in greedy.iter().enumerate() {
        check(input, &(n, &input[..input.len().min(80)]));
    }
    for seed in 0..3_000u64 {
        let mut state = seed;
        let mut input = greedy[next(&mut state) as usize % greedy.len()].clone();
        for _ in 0..next(&mut state) % 20 {
            let at = next(&mut state) as usize % input.len();
            input[at] = next(&mut state) as u8;
        }
        check(&input, &seed);
        let noise: Vec<u8> = (0..next(&mut state) % 300).map(|_| next(&mut state) as u8).collect();
        check(&noise, &seed);
    }
    assert!(most > FRAME_MAX, "the allocator counts");
}
