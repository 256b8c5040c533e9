//! A session at full speed with two viewers, of whom one stops reading. The other is to notice nothing; the one that comes back gets the screen as
//! it is, and then exactly what follows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rexec_shared::message::Snapshot;
use uuid::Uuid;

use super::Promise;
use super::neighbour::rate;
use crate::Api;
use crate::echo::Times;
use crate::viewer::{ViewerClient, terminal};

const SOON: Duration = Duration::from_secs(60);
/// Keys typed into the flooding session, which floods until it has read them.
const KEYS: usize = 300;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(8);
/// A typed byte is in the PTY, and the typist has been told, within this, one in a hundred excepted; or within half as long again as where nobody
/// has stopped reading, on a machine that is slow by itself.
const TYPED: Duration = Duration::from_millis(50);
/// Numbers after the one that had stopped is back: some 340 kB, which the log holds.
const REST: u64 = 50_000;

/// What the reader got.
struct Seen {
    bytes: usize,
    rate: f64,
    typing: Times,
    lost: u64,
    reader: ViewerClient,
}

pub(super) async fn stops_reading(api: Api, machine: Uuid) -> Result<Vec<Promise>> {
    let alone = read(&api, machine, None).await?;
    let mut stuck = None;
    let mut beside = read(&api, machine, Some(&mut stuck)).await?;
    let stuck = stuck.context("nobody stopped")?;
    let (ratio, lost) = (beside.rate / alone.rate, beside.lost);
    let bulk = format!("{:.0} MB/s (alone {:.0})", beside.rate, alone.rate);
    let typing = format!("{:.1} ms (alone {:.1})", ms(beside.typing), ms(alone.typing));
    let most = TYPED.max(alone.typing.p99 * 3 / 2);
    let bar = format!("≤ {} ms", most.as_millis());
    let mut promises = vec![
        Promise::of("the reader's bulk", "≥ 0.7 × alone", bulk, ratio >= 0.7),
        Promise::of("the reader's numbers lost or doubled", 0, lost, lost == 0),
        Promise::of("typing into the flood, p99", bar, typing, beside.typing.p99 <= most),
    ];
    promises.push(comes_back(stuck, &mut beside).await?);
    Ok(promises)
}

fn ms(times: Times) -> f64 {
    times.p99.as_secs_f64() * 1e3
}

/// Reads a flood and types into it; somebody else may come to it first and then never read.
async fn read(api: &Api, machine: Uuid, stuck: Option<&mut Option<ViewerClient>>) -> Result<Seen> {
    let script = format!(
        "stty raw -echo opost onlcr; echo READY; head -c 1 >/dev/null; seq 1 1000000000 & \
         head -c {KEYS} >/dev/null; kill $!; wait $! 2>/dev/null; echo; echo HALF; head -c 1 >/dev/null; seq 1 {REST}; echo OVER; sleep 600"
    );
    let command = ["/bin/bash".into(), "-c".into(), script];
    let mut reader = ViewerClient::open(api, machine, terminal(Some(command.into()))).await?;
    reader.wait_for("READY\r\n", SOON).await?;
    if let Some(stuck) = stuck {
        let mut second = ViewerClient::attach(api, machine, reader.session()).await?;
        second.until("a screen", SOON, |viewer| shown(viewer).is_some()).await?;
        *stuck = Some(second);
    }
    let (began, from) = (Instant::now(), reader.output().len());
    reader.type_bytes(b"g")?;
    reader.until_typed(SOON).await?;
    let mut trips = Vec::new();
    for _ in 0..KEYS {
        let typed = Instant::now();
        reader.type_bytes(b"x")?;
        reader.until_typed(SOON).await?;
        trips.push(typed.elapsed());
        reader.drive_for(PAUSE).await?;
    }
    let bytes = reader.output().len() - from;
    let rate = rate(bytes, began.elapsed());
    reader.wait_for("HALF\r\n", SOON).await?;
    let lost = out_of_order(reader.output().get(from..).unwrap_or_default()) + u64::from(reader.gaps());
    Ok(Seen { bytes, rate, typing: Times::of(trips), lost, reader })
}

/// Lines that are not the number after the one before; the last number was cut off by the signal that ended it.
fn out_of_order(output: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(output);
    let numbers = text.rsplit_once("\r\nHALF").map_or(text.as_ref(), |(numbers, _)| numbers);
    let mut next = 1u64;
    let mut wrong = 0;
    let mut lines = numbers.split("\r\n").peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        if !is_last && line.parse() != Ok(next) {
            wrong += 1;
        }
        next += 1;
    }
    wrong
}

/// The one that had stopped reads again, and the session goes on: what it is shown and what follows are what the reader saw.
async fn comes_back(mut stuck: ViewerClient, beside: &mut Seen) -> Result<Promise> {
    ensure!(beside.bytes > 20_000_000, "no flood: {} bytes", beside.bytes);
    let reader = &mut beside.reader;
    let is_late = |viewer: &ViewerClient| shown(viewer).is_some_and(|screen| screen.offset > 1_000_000);
    stuck.until("a screen from after the gap", SOON, |viewer| viewer.gaps() > 0 && is_late(viewer)).await?;
    reader.type_bytes(b"g")?;
    let (one, two) = tokio::join!(reader.wait_for("OVER\r\n", SOON), stuck.wait_for("OVER\r\n", SOON));
    one.and(two)?;
    let from = shown(&stuck).context("no screen")?.offset;
    let tail = reader.output().get(usize::try_from(from)?..).unwrap_or_default();
    let is_exact = tail == stuck.output() && tail.len() > 300_000;
    let seen = format!(
        "screen at {from}, then {} bytes{}",
        stuck.output().len(),
        if is_exact { "" } else { ", WRONG" }
    );
    Ok(Promise::of("the one that comes back", "screen and exact rest", seen, is_exact))
}

fn shown(viewer: &ViewerClient) -> Option<Snapshot> {
    viewer.screen().map(|(snapshot, _)| *snapshot)
}
