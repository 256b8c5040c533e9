//! Opening, resuming, sharing and ending sessions.

use rexec_shared::message::{Size, ViewerMessage};
use uuid::Uuid;

use crate::support::{Host, Term, shell, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_answers_what_is_typed() {
    let host = Host::start().await;
    let mut term = host.open("exec /bin/sh").await;
    term.type_text("echo $((40 + 2))\n");
    term.until_seen("42\r\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_comes_back_sees_exactly_the_rest() {
    let host = Host::start().await;
    let mut term = host
        .open("stty -echo; i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.002; done; cat")
        .await;
    for round in 0..8 {
        let mark = format!("line {}\r\n", round * 40);
        term.until_seen(&mark).await;
        term.cut();
        term.resume(&host).await;
    }
    term.until_seen("line 399\r\n").await;
    let expected: String = (0..400).map(|i| format!("line {i}\r\n")).collect();
    assert_eq!(String::from_utf8(term.seen).unwrap(), expected);
    assert!(term.gaps.is_empty() && term.screens.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_open_finds_its_own_session() {
    let host = Host::start().await;
    let mut term = host.open("echo once; cat").await;
    term.until_seen("once").await;
    let mut again = Term::new(term.session(), shell("echo twice; cat"));
    let ticket = host.ticket(term.session(), &again.viewer.confirmation());
    again.connect(&host, &ticket, true).await;
    assert_eq!(again.opened().await.epoch, term.opened.unwrap().epoch);
    again.until("the screen comes", |term| term.screens.len() == 1).await;
    assert!(again.screens[0].1.starts_with(b"once"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_behind_the_log_is_told_of_the_gap_and_gets_the_screen() {
    let host = Host::start().await;
    let mut term = host.open("read go; yes 0123456789abcdef | head -c 9000000; echo end; cat").await;
    term.type_text("go\n");
    term.until_seen("0123456789abcdef\r\n").await;
    let before = term.viewer.offset().unwrap();
    term.cut();
    // Nobody looks, so it runs free.
    let mut other = host.join(term.session()).await;
    other.until_seen_or_painted("end\r\n").await;
    term.resume(&host).await;
    term.until("the screen comes", |term| term.screens.len() == 1).await;
    let (offset, bytes) = &term.screens[0];
    assert_eq!(term.gaps, [(before, *offset)]);
    assert!(bytes.windows(3).any(|window| window == b"end"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_viewers_of_a_session_see_the_same_and_both_type() {
    let host = Host::start().await;
    let mut first = host.open("stty -echo; echo ready; cat").await;
    first.until_seen("ready").await;
    let mut second = host.join(first.session()).await;
    second.opened().await;
    first.until("both are listed", |term| term.viewers == 2).await;
    first.type_text("from the first\n");
    first.until_seen("from the first\r\n").await;
    second.type_text("from the second\n");
    second.until_seen("from the first\r\nfrom the second\r\n").await;
    first.until_seen("from the first\r\nfrom the second\r\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_is_the_lease_holders() {
    let host = Host::start().await;
    let mut first =
        host.open("stty -echo; trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done").await;
    first.until_seen("ready").await;
    let mut second = host.join(first.session()).await;
    second.opened().await;
    second.until("the lease is told", |term| term.holder.is_some()).await;
    assert_eq!(second.holder, Some(first.viewer.id()));
    second.send(&ViewerMessage::Resize(Size { cols: 33, rows: 11 }));
    second.send(&ViewerMessage::Ping { t: 1 });
    second.until("the ping is answered", |term| term.pongs == [1]).await;
    first.send(&ViewerMessage::Resize(Size { cols: 100, rows: 30 }));
    first.until_seen("30 100\r\n").await;
    second
        .until("the new size is told", |term| term.sizes.last() == Some(&Size { cols: 100, rows: 30 }))
        .await;
    second.send(&ViewerMessage::TakeLease(Size { cols: 50, rows: 20 }));
    second.until_seen("20 50\r\n").await;
    first.until("the lease went over", |term| term.holder == Some(second.viewer.id())).await;
    assert!(!second.sizes.contains(&Size { cols: 33, rows: 11 }));
    second.cut();
    first.until("the lease comes back", |term| term.holder == Some(first_id(term))).await;
}

fn first_id(term: &Term) -> Uuid {
    term.viewer.id()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_session_can_still_be_looked_at() {
    let host = Host::start().await;
    let mut term = host.open("echo the last words; exit 7").await;
    term.until("the exit is told", |term| term.exit.is_some()).await;
    let exit = term.exit.unwrap();
    assert_eq!((exit.code, exit.signal), (Some(7), None));
    assert_eq!(exit.offset, term.seen.len() as u64);
    let mut late = host.join(term.session()).await;
    late.until("the exit is told", |term| term.exit.is_some()).await;
    assert_eq!(late.exit, Some(exit));
    assert!(late.screens[0].1.starts_with(b"the last words"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completion_is_the_leaders_exit_not_the_closing_of_the_pty() {
    let host = Host::start().await;
    let pid = host.file("pid");
    let mut term =
        host.open(&format!("trap '' HUP; sleep 300 & echo $! > {}; kill -TERM $$", pid.display())).await;
    term.until("the exit is told", |term| term.exit.is_some()).await;
    assert_eq!(term.exit.unwrap().signal, Some(15));
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "the job goes on");
    std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_a_session_ends_everything_in_it() {
    let host = Host::start().await;
    let pids = host.file("pids");
    let script = format!(
        "trap '' HUP; (trap '' HUP; sleep 300) & echo $! $$ > {}; echo ready; while :; do sleep 0.1; done",
        pids.display()
    );
    let mut term = host.open(&script).await;
    term.until_seen("ready").await;
    term.send(&ViewerMessage::Close);
    term.until("the exit is told", |term| term.exit.is_some()).await;
    assert_eq!(term.exit.unwrap().signal, Some(9));
    for pid in std::fs::read_to_string(pids).unwrap().split_whitespace() {
        let stat = format!("/proc/{pid}/stat");
        until("the process is gone", || {
            std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z"))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_stream_of_a_viewer_displaces_its_older_one() {
    let host = Host::start().await;
    let mut term = host.open("cat").await;
    let session = term.session();
    let old = std::mem::replace(&mut term, Term::new(session, shell("true")));
    let mut old = old;
    let stream = old.take_stream();
    old.resume(&host).await;
    let code = Term::error_on(stream).await;
    assert_eq!(code, "displaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_proof_on_a_stream_that_its_viewer_gave_up_displaces_nothing() {
    use tokio::io::AsyncWriteExt;

    let host = Host::start().await;
    let mut term = host.open("cat").await;
    let permission = host.resume(term.session(), &term.viewer.confirmation());
    term.connect(&host, &permission, false).await;
    assert!(term.turn().await, "a challenge comes");
    let (proof, mut given_up) = (term.viewer.poll_transmit().unwrap(), term.take_stream());
    term.resume(&host).await;
    given_up.write_all(&proof).await.unwrap();
    assert_eq!(Term::error_on(given_up).await, "displaced");
    term.type_text("still here\n");
    term.until_seen("still here").await;
    assert_eq!(term.error, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_not_there_says_so() {
    let host = Host::start().await;
    let mut spec = shell("");
    spec.command = Some(vec!["/nowhere/program".to_owned()]);
    let mut term = Term::new(Uuid::new_v4(), spec);
    let ticket = host.ticket(term.session(), &term.viewer.confirmation());
    term.connect(&host, &ticket, true).await;
    assert_eq!(term.refused().await, "internal");
    assert!(term.error.unwrap().message.contains("/nowhere/program"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_are_answered_by_the_host_and_titles_are_told() {
    let host = Host::start().await;
    let answer = host.file("answer");
    let script = format!(
        "stty raw -echo; printf '\\033]0;my title\\007\\033[6n'; dd bs=1 count=6 of={} 2>/dev/null; stty sane; echo done; cat",
        answer.display()
    );
    let mut term = host.open(&script).await;
    term.until_seen("done").await;
    assert_eq!(std::fs::read(answer).unwrap(), b"\x1b[1;1R");
    term.until("the title is told", |term| term.titles == ["my title"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_07_marks_of_success_that_a_program_prints_do_not_change_how_it_ended() {
    let host = Host::start().await;
    let marks = r"\033]133;D;0\007\033]133;D;0\033\\\033]633;D;0\007\033]633;E;true\007\033]1337;exit=0\007\033]777;exit;0\007";
    let mut term = host.open(&format!("printf '{marks}'; exit 7")).await;
    term.until("the exit is told", |term| term.exit.is_some()).await;
    let exit = term.exit.unwrap();
    assert_eq!((exit.code, exit.signal), (Some(7), None));
    assert!(crate::support::contains(&term.seen, b"\x1b]633;D;0\x07"), "the bytes themselves are passed on");
}
