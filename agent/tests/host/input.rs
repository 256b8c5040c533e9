//! Typing: exactly once, interleaved with output, in any amount.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rexec_shared::limits::INPUT_WINDOW;
use rexec_shared::message::{SignalName, ViewerMessage};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::support::{Host, Term, until_file};

/// Data of one frame.
const FRAME: usize = 32 * 1024;

/// Bytes that no line discipline in raw mode alters and no pattern hides a loss in.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paste_of_5_mb_into_cat_arrives_whole_beside_its_own_echo() {
    let host = Host::start().await;
    let path = host.file("pasted");
    let script = format!("echo ready; head -c 5000000 > {}; echo; echo received", path.display());
    let mut term = host.open(&script).await;
    term.until_seen("ready").await;
    let line = "The quick brown fox jumps over the lazy dog 0123456789 äöü 日本.\n";
    let text: Vec<u8> = line.bytes().cycle().take(5_000_000).collect();
    assert_eq!(term.viewer.type_bytes(&text), text.len());
    // The last line has no end of its own.
    term.type_text("\n");
    term.until_seen("received").await;
    assert!(std::fs::read(path).unwrap() == text, "what was pasted is what arrived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binary_input_in_raw_mode_is_not_altered() {
    let host = Host::start().await;
    let path = host.file("received");
    let mut term = host
        .open(&format!("stty raw -echo; echo ready; head -c 1000000 > {}; echo done", path.display()))
        .await;
    term.until_seen("ready").await;
    let bytes = noise(1_000_000);
    assert_eq!(term.viewer.type_bytes(&bytes), bytes.len());
    term.until_seen("done").await;
    assert!(std::fs::read(path).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_typed_arrives_once_over_streams_that_keep_dying() {
    let host = Host::start().await;
    let path = host.file("received");
    let mut term = host
        .open(&format!("stty raw -echo; echo ready; head -c 400000 > {}; echo done", path.display()))
        .await;
    term.until_seen("ready").await;
    let bytes = noise(400_000);
    for (round, chunk) in bytes.chunks(10_000).enumerate() {
        assert_eq!(term.viewer.type_bytes(chunk), chunk.len());
        // Frames are sent and the stream dies before, while or after they are acknowledged.
        let patience = Duration::from_micros(200 * (round as u64 % 7));
        let _ = timeout(patience, term.turn()).await;
        if round % 3 == 0 {
            term.cut();
            term.resume(&host).await;
        }
    }
    term.until_seen("done").await;
    assert!(std::fs::read(path).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_stops_a_flood_at_once() {
    let host = Host::start().await;
    let mut term = host.open("trap 'echo; echo stopped; exec cat' INT; echo ready; yes").await;
    term.until_seen("y\r\ny\r\n").await;
    term.until("a flood came by", |term| term.seen.len() > 2_000_000).await;
    let begin = Instant::now();
    term.type_text("\x03");
    term.until_seen("stopped").await;
    assert!(begin.elapsed() < Duration::from_secs(3), "took {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_reaches_the_foreground_group() {
    let host = Host::start().await;
    let mut term = host.open("trap 'echo got it' USR1; echo ready; while :; do sleep 0.01; done").await;
    term.until_seen("ready").await;
    term.send(&ViewerMessage::Signal(SignalName::Usr1));
    term.until_seen("got it").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_of_file_ends_what_reads() {
    let host = Host::start().await;
    let mut term = host.open("echo ready; cat; echo over").await;
    term.until_seen("ready").await;
    term.send(&ViewerMessage::Eof);
    term.until_seen("over").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ma_05_input_beyond_a_gap_or_the_window_ends_the_stream() {
    let host = Host::start().await;
    for (seq, len) in [(5, 1), (0, INPUT_WINDOW as usize)] {
        let mut term = host.open("stty raw -echo; echo ready; kill -STOP $$").await;
        term.until_seen("ready").await;
        let mut out = BytesMut::new();
        // A PTY that nobody reads takes some KiB; a second window on top is too much whatever it took.
        for at in (0..2 * len).step_by(FRAME) {
            let bytes = Bytes::from(vec![b'x'; FRAME.min(len)]);
            ViewerMessage::Input { seq: seq + at as u64, bytes }.encode(&mut out);
        }
        let mut stream = term.take_stream();
        // The host may be done with us before it has read all of it.
        let _ = stream.write_all(&out).await;
        assert_eq!(Term::error_on(stream).await, "protocol_error");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_viewers_goes_on() {
    let host = Host::start().await;
    let path = host.file("finished");
    let mut term = host
        .open(&format!("echo ready; yes | head -c 20000000; echo finished > {}; cat", path.display()))
        .await;
    term.until_seen("ready").await;
    term.cut();
    until_file(&path, |bytes| bytes == b"finished\n").await;
}
