//! One end of a multiplexed connection, its peer an enemy and its application in no hurry: orders of one byte with their arguments.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rexec_shared::close::CloseCode;
use rexec_shared::mux::{DATA_MAX, HEADER, Mux, Read, STREAM_CREDIT, Side, StreamId, Timing, Write};

use crate::Input;

/// What both ends have said so far, bytes, and the streams there are.
#[derive(Default)]
struct Told {
    received: usize,
    read: usize,
    streams: Vec<StreamId>,
}

pub(crate) fn target(bytes: &[u8]) {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let mut input = Input(bytes);
    let side = if input.byte().is_multiple_of(2) { Side::Dialler } else { Side::Listener };
    let mut now = *START;
    let mut mux = Mux::new(side, Timing::default(), now);
    let mut told = Told::default();
    while !input.is_empty() {
        order(&mut mux, &mut input, &mut told, &mut now);
        while mux.poll_event().is_some() {}
        assert!(told.read <= told.received, "nothing is read that was not received");
        assert!(told.streams.len() <= bytes.len(), "a stream costs its peer a frame");
    }
    mux.handle_lost();
    assert!(mux.end().is_some() && !mux.has_output() && mux.open().is_err());
}

fn order(mux: &mut Mux, input: &mut Input<'_>, told: &mut Told, now: &mut Instant) {
    let what = input.byte();
    if what < 0x60 {
        let len = if what == 0 { input.short() } else { usize::from(what) };
        let bytes = input.take(len);
        told.received += bytes.len();
        return mux.handle_input(bytes, *now);
    }
    let code = CloseCode::ALL[usize::from(what) % CloseCode::ALL.len()];
    match what % 16 {
        0 => told.streams.extend(mux.open().ok()),
        1 => told.streams.extend(mux.accept()),
        2 => {
            *now += Duration::from_millis(input.short() as u64);
            mux.handle_timeout(*now);
        }
        3 => output(mux, input.short(), *now),
        4 => mux.close(code, "the end"),
        5 => mux.probe(*now),
        what => {
            let Some(stream) = told.streams.get(usize::from(input.byte()) % told.streams.len().max(1)) else {
                return;
            };
            on_stream(mux, *stream, what, code, input, &mut told.read);
        }
    }
}

fn on_stream(
    mux: &mut Mux,
    stream: StreamId,
    what: u8,
    code: CloseCode,
    input: &mut Input<'_>,
    read: &mut usize,
) {
    match what {
        6 => drop(mux.finish(stream)),
        7 => mux.reset(stream, code),
        8 => mux.stop(stream, code),
        9 => mux.release_send(stream, code),
        10 => mux.release_recv(stream, code),
        11 => mux.set_urgent(stream, input.byte().is_multiple_of(2)),
        12 | 13 => {
            let chunk = Bytes::from(vec![what; input.short() + 1]);
            let written = mux.write(stream, &chunk);
            assert!(written != Write::Lost || mux.end().is_some());
        }
        _ => {
            let max = input.short();
            if let Some(Read::Bytes(bytes)) = mux.read(stream, max) {
                assert!(bytes.len() <= max.max(1) && bytes.len() <= STREAM_CREDIT);
                *read += bytes.len();
            }
        }
    }
    let _ = mux.outcome(stream);
}

/// What is sent is whole frames, at most one more than asked for.
fn output(mux: &mut Mux, budget: usize, now: Instant) {
    let mut out = BytesMut::new();
    mux.poll_output(&mut out, budget, now);
    assert!(out.len() <= budget + HEADER + DATA_MAX);
    let mut rest = &out[..];
    while !rest.is_empty() {
        let (header, after) = rest.split_at(HEADER);
        assert!((1..=9).contains(&header[0]), "type {}", header[0]);
        rest = after.split_at(usize::from(u16::from_be_bytes([header[5], header[6]]))).1;
    }
}
