//! Output: every byte, at the pace of who keeps up, in bounded memory.

use std::time::{Duration, Instant};

use rexec_shared::limits::{OUTPUT_WINDOW, VIEWER_SILENT};
use tokio::time::timeout;

use crate::support::{Host, Term, until_file};

/// Resident memory of this process, where the host runs, bytes. It says something of one test only where each has a process of its own, as
/// nextest does it; elsewhere 0.
fn resident() -> usize {
    if std::env::var_os("NEXTEST").is_none() {
        return 0;
    }
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_megabytes_arrive_byte_for_byte() {
    let host = Host::start().await;
    let path = host.file("bytes");
    let mut state = 1_u64;
    let bytes: Vec<u8> = (0..50_000_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    std::fs::write(&path, &bytes).unwrap();
    let mut term = host.open(&format!("stty raw -echo; cat {}; exec cat >/dev/null", path.display())).await;
    let begin = Instant::now();
    term.until("everything came", |term| term.seen.len() >= bytes.len()).await;
    let rate = bytes.len() as f64 / 1e6 / begin.elapsed().as_secs_f64();
    // Not a claim: what a slow machine does is no failure. The figure is for whoever reads the log.
    eprintln!("{rate:.0} MB/s of binary through the host");
    assert!(term.seen == bytes);
    assert!(term.gaps.is_empty() && term.screens.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_of_text_arrive_whole() {
    let host = Host::start().await;
    let line = "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789";
    let mut term = host
        .open(&format!("stty -echo; echo ready; yes '{line}' | head -c 100000000; exec cat >/dev/null"))
        .await;
    let begin = Instant::now();
    let (mut total, mut last) = (0, Vec::new());
    let lines = 100_000_000usize.div_ceil(line.len() + 1) - 1;
    while total < 100_000_000 + lines + 7 {
        assert!(term.turn().await, "{:?}", term.error);
        total += term.seen.len();
        std::mem::swap(&mut last, &mut term.seen);
        term.seen.clear();
    }
    let rate = total as f64 / 1e6 / begin.elapsed().as_secs_f64();
    eprintln!("{rate:.0} MB/s of text through the host");
    assert!(term.gaps.is_empty() && term.screens.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_stops_reading_stalls_nobody_and_costs_bounded_memory() {
    let host = Host::start().await;
    let mut reader = host.open("stty -echo; read go; yes 0123456789abcdef0123456789abcdef | head -c 60000000; echo; echo over; cat").await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut viewer = host.join(reader.session()).await;
        viewer.opened().await;
        stalled.push(viewer);
    }
    let before = resident();
    reader.type_text("go\n");
    // The reader's own copy is dropped as it goes, so that only the host's memory is measured.
    let mut total = 0;
    loop {
        assert!(reader.turn().await, "{:?}", reader.error);
        total += reader.seen.len();
        if crate::support::contains(&reader.seen, b"over\r\n") {
            break;
        }
        let keep = reader.seen.len().saturating_sub(16);
        reader.seen.drain(..keep);
        total -= reader.seen.len();
    }
    assert!(total > 60_000_000 && reader.gaps.is_empty(), "the reader saw everything");
    let grown = resident().saturating_sub(before);
    assert!(
        grown < 40 << 20,
        "{grown} bytes more for eight stalled viewers, a full log and a full scrollback"
    );
    // One that reads again is told what it missed and stands where the others stand.
    let late = &mut stalled[0];
    late.until_seen_or_painted("over").await;
    assert!(!late.gaps.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_costs_less_than_a_mebibyte() {
    let host = Host::start().await;
    let mut terms = vec![host.open("echo ready; cat").await];
    let before = resident();
    for _ in 0..40 {
        let mut term = host.open("echo ready; cat").await;
        term.until_seen("ready").await;
        terms.push(term);
    }
    let each = resident().saturating_sub(before) / 40;
    eprintln!("{} KiB resident per idle session, its viewer included", each / 1024);
    assert!(each < 1 << 20, "{each} bytes per session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pty_waits_for_a_writer_that_reads_without_acknowledging_but_not_for_ever() {
    let host = Host::start().await;
    let path = host.file("finished");
    let begin = Instant::now();
    let mut term = host
        .open(&format!(
            "stty -echo; echo ready; yes | head -c 3000000; echo finished > {}; cat",
            path.display()
        ))
        .await;
    term.acknowledges = false;
    while term.seen.len() < OUTPUT_WINDOW as usize
        && timeout(Duration::from_secs(1), term.turn()).await == Ok(true)
    {}
    assert!(term.seen.len() <= OUTPUT_WINDOW as usize, "{} bytes unacknowledged", term.seen.len());
    until_file(&path, |bytes| bytes == b"finished\n").await;
    assert!(begin.elapsed() >= VIEWER_SILENT);
    assert!(term.seen.len() <= OUTPUT_WINDOW as usize, "and still no more than a window is in flight");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_in_one_session_does_not_delay_another() {
    let host = Host::start().await;
    let mut quiet = host.open("stty raw -echo; echo ready; exec cat").await;
    quiet.until_seen("ready").await;
    let alone = echoes(&mut quiet).await;
    let mut flood = host.open("yes").await;
    let pump = tokio::spawn(async move {
        while flood.turn().await {
            flood.seen.clear();
        }
    });
    let beside = echoes(&mut quiet).await;
    pump.abort();
    let at = |times: &[Duration], share: usize| times[(times.len() - 1) * share / 100];
    for (what, times) in [("alone", &alone), ("beside a flood", &beside)] {
        eprintln!("echo {what}: p50 {:?}, p99 {:?}", at(times, 50), at(times, 99));
    }
    assert!(at(&beside, 99) < Duration::from_millis(250));
}

/// How long 500 keystrokes take to come back, sorted.
async fn echoes(term: &mut Term) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..500 {
        term.seen.clear();
        let begin = Instant::now();
        term.type_text("x");
        term.until_seen("x").await;
        times.push(begin.elapsed());
    }
    times.sort();
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_was_painted_and_idle_for_long_still_holds_the_pty() {
    let host = Host::start().await;
    let path = host.file("finished");
    let script = "stty -echo; echo ready; read go; yes | head -c 2000000; echo finished >";
    let mut first = host.open(&format!("{script} {}; cat", path.display())).await;
    first.until_seen("ready").await;
    first.cut();
    let mut term = host.join(first.session()).await;
    term.until("it is painted", |term| term.screens.len() == 1).await;
    let idle = Instant::now() + VIEWER_SILENT + Duration::from_secs(1);
    while let Some(left) = idle.checked_duration_since(Instant::now()) {
        let _ = timeout(left, term.turn()).await;
    }
    term.acknowledges = false;
    term.type_text("go\n");
    let held = Instant::now() + VIEWER_SILENT / 2;
    while let Some(left) = held.checked_duration_since(Instant::now()) {
        let _ = timeout(left, term.turn()).await;
    }
    assert!(term.seen.len() <= OUTPUT_WINDOW as usize && !path.exists(), "the PTY waits");
    term.acknowledges = true;
    let offset = term.viewer.offset().unwrap();
    term.viewer.parsed(offset);
    term.until("everything came", |term| term.seen.len() >= 3_000_000).await;
    assert!(term.gaps.is_empty() && term.screens.len() == 1);
}

/// A session whose screen takes more than a window to paint, and its size.
async fn large_screen(host: &Host) -> Term {
    let mut term = host.open("stty -echo; yes 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz | head -n 6000; echo ready; cat").await;
    term.until_seen("ready").await;
    term
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_nobody_acknowledges_stops_at_a_window_and_goes_on_when_it_is() {
    let host = Host::start().await;
    let painter = large_screen(&host).await;
    let mut term = host.join(painter.session()).await;
    term.opened().await;
    term.speaks = false;
    let silent = Instant::now() + Duration::from_secs(1);
    while let Some(left) = silent.checked_duration_since(Instant::now()) {
        let _ = timeout(left, term.turn()).await;
    }
    assert!(term.screens.is_empty(), "it is larger than a window");
    assert!(term.received > 32 * 1024, "a first window came, not {} bytes", term.received);
    assert!(term.received < OUTPUT_WINDOW as usize + 16 * 1024, "{} bytes came", term.received);
    term.speaks = true;
    // Somebody has to speak first, and what was held back is that.
    term.send(&rexec_shared::message::ViewerMessage::Ping { t: 1 });
    term.until("it is painted", |term| term.screens.len() == 1).await;
    assert!(crate::support::contains(&term.screens[0].1, b"ready"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_of_an_older_version_that_acknowledges_no_snapshot_is_painted_all_the_same() {
    use rexec_shared::message::{Attach, HostMessage, ViewerMessage};
    use tokio::io::AsyncReadExt;

    let host = Host::start().await;
    let painter = large_screen(&host).await;
    let key = rexec_shared::proof::ViewerKey::generate().unwrap();
    let session = painter.session();
    let ticket = host.ticket(session, &key.confirmation());
    let (v, features, viewer) = (1, Vec::new(), uuid::Uuid::new_v4());
    let (attempt, epoch, offset, input_seq) = (0, None, None, 0);
    let mut first = bytes::BytesMut::new();
    let attach = Attach { v, features, ticket, viewer, attempt, session, epoch, offset, input_seq };
    ViewerMessage::Attach(attach).encode(&mut first);
    let (mut stream, mut decoder) =
        crate::support::present(host.viewer_socket(), &first, &key).await.unwrap();
    let (mut announced, mut came) = (u64::MAX, 0);
    while came < announced {
        while let Some(frame) = decoder.poll_frame().unwrap() {
            match HostMessage::decode(&frame).unwrap() {
                Some(HostMessage::Snapshot(snapshot)) => announced = snapshot.bytes,
                Some(HostMessage::SnapshotData(bytes)) => came += bytes.len() as u64,
                _ => {}
            }
        }
        let read = timeout(crate::support::DEADLINE, stream.read_buf(decoder.buffer_mut()));
        assert!(came >= announced || read.await.unwrap().unwrap() > 0);
    }
    assert!(came > OUTPUT_WINDOW && came == announced);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_displaced_stream_that_takes_nothing_is_let_go() {
    let host = Host::start().await;
    let mut term = host.open("stty -echo; echo ready; read go; yes").await;
    term.until_seen("ready").await;
    term.type_text("go\n");
    term.until_seen("y\r\ny").await;
    // It reads no more, and its socket fills up.
    let stuck = term.take_stream();
    tokio::time::sleep(Duration::from_millis(500)).await;
    term.resume(&host).await;
    let pump = tokio::spawn(async move {
        while term.turn().await {
            term.seen.clear();
        }
    });
    let begin = Instant::now();
    crate::support::until("its end of the socket is closed", || stuck.try_write(&[0x0a]).is_err()).await;
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    pump.abort();
}

/// Processor time of this process, where the host runs.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_closes_its_terminal_and_lives_costs_no_processor_time_and_may_open_it_again() {
    let host = Host::start().await;
    let (closed, again) = (host.file("closed"), host.file("again"));
    let script = format!(
        "stty raw -echo; exec </dev/null >/dev/null 2>&1; touch {}; while [ ! -e {} ]; do sleep 0.1; done; \
         exec </dev/tty >/dev/tty; echo opened; exec cat",
        closed.display(),
        again.display()
    );
    let mut term = host.open(&script).await;
    crate::support::until("the terminal is closed", || closed.exists()).await;
    // More than the kernel holds for a terminal that nobody reads.
    term.type_text(&"x".repeat(60_000));
    let quiet = |mut term: Term, time: Duration| async move {
        let (end, begin) = (Instant::now() + time, processor_time());
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let _ = timeout(left, term.turn()).await;
        }
        (term, processor_time() - begin)
    };
    let (term, used) = quiet(term, Duration::from_secs(2)).await;
    assert!(used < Duration::from_millis(500), "{used:?} of two seconds while it is closed");
    std::fs::write(&again, "").unwrap();
    let mut term = term;
    term.until_seen("opened").await;
    term.type_text("here again");
    term.until_seen("here again").await;
    let (_term, used) = quiet(term, Duration::from_secs(2)).await;
    assert!(used < Duration::from_millis(500), "{used:?} of two seconds once it is open again");
}
