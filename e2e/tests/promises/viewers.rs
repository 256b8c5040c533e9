//! Reload, a second viewer, and one that stops reading.

use std::time::Duration;

use anyhow::{Context, Result};
use rexec_e2e::counter::{Counter, check_lines, check_output};
use rexec_e2e::process::resident_kib;
use rexec_e2e::viewer::shell;
use rexec_e2e::{Installation, Machine, ViewerClient};

const SOON: Duration = Duration::from_secs(20);
/// A stuck viewer may cost its session's log and its own queues, not what it failed to read (limits.rs: 4 MiB log, 256 KiB windows).
const STUCK_COST_MAX_KIB: u64 = 16 * 1024;

async fn counting(installation: &Installation, machine: &Machine) -> Result<(Counter, ViewerClient)> {
    let counter = Counter::new(installation.scratch(), 1);
    let viewer = counter.start(installation.owner(), machine.id()).await?;
    Ok((counter, viewer))
}

#[tokio::test]
async fn a_reload_in_the_middle_of_a_counting_loop_shows_every_number_once() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let (counter, mut page) = counting(&installation, &machine).await?;
    page.wait_for("n300\r", SOON).await?;
    let session = page.session();
    drop(page);

    let mut page = ViewerClient::attach(installation.owner(), machine.id(), session).await?;
    page.until("the screen", SOON, |page| page.screen().is_some()).await?;
    page.wait_for("n900\r", SOON).await?;
    counter.stop()?;
    page.type_bytes(b"x")?;
    page.wait_for("OVER", SOON).await?;

    let lines = page.rendered().lines();
    let (count, _) = check_lines(lines.iter().map(String::as_str))?;
    assert!(count > 900, "{count}");
    Ok(())
}

#[tokio::test]
async fn a_viewer_that_comes_back_sees_no_gap_and_nothing_twice() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let (counter, mut viewer) = counting(&installation, &machine).await?;
    for number in [100, 200, 300, 400, 500] {
        viewer.wait_for(&format!("n{number}\r"), SOON).await?;
        viewer.drop_stream();
    }
    counter.stop()?;
    viewer.type_bytes(b"x")?;
    viewer.wait_for("OVER", SOON).await?;
    check_output(viewer.output())?;
    assert_eq!((viewer.gaps(), viewer.streams()), (0, 6));
    assert!(
        viewer.screen().is_none_or(|(screen, _)| screen.offset == 0),
        "it resumed and was not painted anew"
    );
    Ok(())
}

#[tokio::test]
async fn two_viewers_of_one_session_see_the_same() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let mut first = ViewerClient::open(installation.owner(), machine.id(), shell()).await?;
    first
        .type_bytes(b"PS1='$ '; printf '\\033[1;32mgreen\\033[0m %s\\n' {1..200}; echo first-was''-here\n")?;
    first.wait_for("first-was-here\r\n", SOON).await?;

    let mut second = ViewerClient::attach(installation.owner(), machine.id(), first.session()).await?;
    second.type_bytes("echo 'second: 日本語 🦀'\necho e''nd\n".as_bytes())?;
    let (one, two) = tokio::join!(first.wait_for("end\r\n", SOON), second.wait_for("end\r\n", SOON));
    one.and(two)?;
    let (one, two) = (first.rendered().lines(), second.rendered().lines());
    let tail = |lines: &[String]| lines.iter().rev().take(100).rev().cloned().collect::<Vec<_>>();
    assert_eq!(tail(&one), tail(&two));
    assert!(two.iter().any(|line| line == "second: 日本語 🦀"), "{two:?}");
    Ok(())
}

#[tokio::test]
async fn a_viewer_that_stops_reading_stalls_nobody_and_costs_bounded_memory() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let mut reader = ViewerClient::open(installation.owner(), machine.id(), shell()).await?;
    let mut stuck = ViewerClient::attach(installation.owner(), machine.id(), reader.session()).await?;
    reader.type_bytes(b"PS1='$ '; echo b''egin\n")?;
    reader.wait_for("begin\r\n", SOON).await?;
    stuck.wait_for("begin\r\n", SOON).await?;

    let pids = [machine.host_pid()?, machine.uplink_pid()?, installation.control_pid()?];
    // A first flood fills what is filled once: the log, the screen's history.
    flood(&mut reader, 8_000_000, "warm").await?;
    let before = pids.map(resident_kib);
    flood(&mut reader, 60_000_000, "over").await?;
    for (pid, before) in pids.into_iter().zip(before) {
        let (before, (_, peak)) = (before.context("a process")?.0, resident_kib(pid).context("a process")?);
        let grown = peak.saturating_sub(before);
        assert!(grown < STUCK_COST_MAX_KIB, "{pid} grew by {grown} KiB");
    }

    let at_the_prompt =
        |viewer: &ViewerClient| viewer.rendered().lines().last().is_some_and(|last| last == "$");
    stuck.wait_for("over\r\n", SOON).await?;
    stuck.until("the prompt", SOON, at_the_prompt).await?;
    assert!(stuck.gaps() > 0, "what it did not read is gone, and it was told");
    assert_eq!(reader.gaps(), 0);
    let tail =
        |viewer: &ViewerClient| viewer.rendered().lines().into_iter().rev().take(20).collect::<Vec<_>>();
    assert_eq!(tail(&stuck), tail(&reader));
    Ok(())
}

/// That many bytes of text, and a word after them.
async fn flood(viewer: &mut ViewerClient, bytes: usize, word: &str) -> Result<()> {
    let (head, rest) = word.split_at(1);
    viewer.type_bytes(
        format!("yes 0123456789abcdefghij | head -c {bytes}; echo {head}''{rest}\n").as_bytes(),
    )?;
    viewer.wait_for(&format!("{word}\r\n"), Duration::from_secs(90)).await?;
    viewer.wait_for("$ ", SOON).await
}
