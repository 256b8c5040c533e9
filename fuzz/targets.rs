//! What the fuzz targets do with their bytes. Included by each target and by `shared/tests/corpus.rs`, which replays the corpus in an ordinary run.

use bytes::{Bytes, BytesMut};
use rexec_shared::frame::{Decoder, Frame, put_frame};
use rexec_shared::ledger::{InputLedger, InputQueue};
use rexec_shared::limits::FRAME_MAX;
use rexec_shared::log::{OutputLog, ResumeAnswer};
use rexec_shared::message::{HostMessage, ViewerMessage};
use rexec_shared::ticket::PublicKey;
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, LinkAnswer, LinkMessage};
use uuid::Uuid;

/// A byte stream, cut where its first byte says: every decoder takes it or refuses it, and what a decoder takes survives its own encoder.
pub(crate) fn frames(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let mut decoder = Decoder::new();
    for piece in bytes.chunks(usize::from(*cut) + 1) {
        decoder.push(piece);
        while let Ok(Some(frame)) = decoder.poll_frame() {
            assert!(frame.payload.len() <= FRAME_MAX);
            messages(&frame);
        }
    }
}

fn messages(frame: &Frame) {
    if let Ok(Some(message)) = ViewerMessage::decode(frame) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        assert_eq!(ViewerMessage::decode(&only(&out)).ok().flatten(), Some(message));
    }
    if let Ok(Some(message)) = HostMessage::decode(frame) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        assert_eq!(HostMessage::decode(&only(&out)).ok().flatten(), Some(message));
    }
    let _ = AgentMessage::decode(frame);
    let _ = BrokerMessage::decode(frame);
    let _ = LinkMessage::decode(frame);
    let _ = LinkAnswer::decode(frame);
}

fn only(bytes: &[u8]) -> Frame {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    let none = Frame { kind: 0, payload: Bytes::new() };
    decoder.poll_frame().ok().flatten().unwrap_or(none)
}

/// A text: no ticket, resume capability or feed that nobody signed is taken.
pub(crate) fn permissions(bytes: &[u8]) {
    let Ok(key) = PublicKey::parse("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo") else { return };
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(key.permission(text).is_err());
        assert!(key.feed(text).is_err());
        let _ = PublicKey::parse(text);
    }
    let mut framed = BytesMut::new();
    put_frame(&mut framed, 1, bytes.get(..FRAME_MAX).unwrap_or(bytes));
    frames(&framed);
}

/// Orders of three bytes for a log and an input stream, beside models that keep everything.
pub(crate) fn resume(bytes: &[u8]) {
    let epoch = Uuid::from_u128(1);
    let (mut log, mut produced) = (OutputLog::new(100), Vec::new());
    let (mut queue, mut ledger) = (InputQueue::new(300), InputLedger::new(0));
    let (mut typed, mut taken) = (Vec::new(), Vec::new());
    for order in bytes.chunks_exact(3) {
        let [what, a, b] = [order[0], order[1], order[2]];
        let (len, offset) = (usize::from(a), u64::from(u16::from_be_bytes([a, b])));
        match what % 6 {
            0 => {
                let new: Vec<u8> = (0..len).map(|at| b.wrapping_add(at as u8)).collect();
                log.append(&new);
                produced.extend(new);
            }
            1 => answered(&log, &produced, log.resume(epoch, Some(epoch), Some(offset)), offset),
            2 => {
                let new = vec![b; len];
                typed.extend_from_slice(&new[..queue.push(&new)]);
            }
            3 => {
                if let Some((seq, bytes)) = queue.poll_frame() {
                    let lost = b % 4 == 0;
                    let new = if lost { None } else { ledger.handle_input(seq, bytes).ok() };
                    taken.extend(new.into_iter().flatten());
                    if lost {
                        queue.handle_opened(ledger.acknowledged()).expect("what is written was sent");
                    }
                }
            }
            4 => ledger.handle_written(len),
            _ => queue.handle_ack(ledger.acknowledged()).expect("what is written was sent"),
        }
        assert_eq!(taken, typed[..taken.len()], "input is taken once and in order");
        assert!(ledger.acknowledged() <= ledger.expected() && ledger.expected() == taken.len() as u64);
    }
}

fn answered(log: &OutputLog, produced: &[u8], answer: ResumeAnswer, offset: u64) {
    let head = produced.len() as u64;
    match answer {
        ResumeAnswer::Rest { from } => {
            let mut out = BytesMut::new();
            assert_eq!(log.read(from, usize::MAX, &mut out), Some(produced.len() - offset as usize));
            assert_eq!(out, produced[offset as usize..]);
        }
        ResumeAnswer::Lost { from, to } => assert!(from == offset && from < to && to == log.start()),
        ResumeAnswer::Impossible => assert!(offset > head),
        ResumeAnswer::Fresh => unreachable!("the epoch is the log's own"),
    }
}
