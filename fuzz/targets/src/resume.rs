//! Orders of three bytes for a log and an input stream, beside models that keep everything.

use bytes::BytesMut;
use rexec_shared::ledger::{InputLedger, InputQueue};
use rexec_shared::log::{OutputLog, ResumeAnswer};
use uuid::Uuid;

pub(crate) fn target(bytes: &[u8]) {
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
