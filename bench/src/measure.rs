//! The measurements: how long a keystroke takes to come back, alone and beside a flood, how long an interrupt takes, and how fast output flows.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rexec_e2e::process::family;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::peer::{Line, Peer, TYPED};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds; the peers take turns in each.
    pub(crate) rounds: usize,
    /// Keystrokes per peer and round.
    pub(crate) keystrokes: usize,
    /// Longest time for the keystrokes of a peer and round; a slow peer types fewer.
    pub(crate) typing_max: Duration,
    /// Bulk output per peer and round.
    pub(crate) bulk_bytes: usize,
}

impl Plan {
    /// Keystrokes that are not counted, at the beginning of each round.
    fn warm_up(&self) -> usize {
        self.keystrokes / 20
    }

    /// Longest time for those.
    fn warm_up_max(&self) -> Duration {
        self.typing_max / 5
    }
}

/// What a flood consists of.
const FLOOD_LINE: &str = "the-quick-brown-fox-jumps-over-the-lazy-dog";
/// How long a flood runs before it is interrupted.
const FLOOD_FILLS: Duration = Duration::from_secs(1);
/// How long the prompt is waited for after `^C`; one that comes later, or never, counts as having taken that long. (mosh 1.4 has lost one.)
const INTERRUPT_MAX: Duration = Duration::from_secs(10);
/// Kernel clock ticks of `/proc/PID/stat`: 100 a second on every Linux (`getconf CLK_TCK`).
const TICK: Duration = Duration::from_millis(10);

/// What one peer's bulk output cost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flood {
    /// Time of each round.
    pub(crate) times: Vec<Duration>,
    /// Processor time of the relay, all rounds together.
    pub(crate) relay_cpu: Option<Duration>,
}

/// Round trips of single keystrokes, for each peer: typed, echoed by a program without line discipline, seen.
pub(crate) async fn echo(peers: &[Peer<'_>], plan: &Plan) -> Result<Vec<Vec<Duration>>> {
    let mut lines = Vec::new();
    for peer in peers {
        lines.push(peer.run("exec cat").await.with_context(|| peer.name())?);
    }
    let mut taken = vec![Vec::new(); peers.len()];
    for _ in 0..plan.rounds {
        for (line, taken) in lines.iter_mut().zip(&mut taken) {
            keystrokes(line, plan, taken).await?;
        }
    }
    for line in lines {
        line.end().await?;
    }
    Ok(taken)
}

/// As [`echo`], while another session of the same peer to the same machine prints as fast as it is read.
pub(crate) async fn echo_beside_flood(peers: &[Peer<'_>], plan: &Plan) -> Result<Vec<Vec<Duration>>> {
    let mut taken = vec![Vec::new(); peers.len()];
    for _ in 0..plan.rounds {
        for (peer, taken) in peers.iter().zip(&mut taken) {
            let mut line = peer.run("exec cat").await.with_context(|| peer.name())?;
            // It waits for a key: mosh skips what it has no time to draw, its first word included.
            let script = format!("head -c 1 >/dev/null; exec yes {FLOOD_LINE}");
            let mut flood = peer.run(&script).await.with_context(|| peer.name())?;
            flood.write(b"\n").await?;
            let (stop, stopped) = oneshot::channel::<()>();
            let flood = tokio::spawn(async move {
                tokio::select! {
                    ended = flood.drain() => ended.map(drop),
                    _ = stopped => flood.end().await,
                }
            });
            keystrokes(&mut line, plan, taken).await?;
            ensure!(!flood.is_finished(), "the flood of {} ended by itself", peer.name());
            drop(stop);
            flood.await??;
            line.end().await?;
        }
    }
    Ok(taken)
}

/// The time from `^C` to the shell's prompt while `yes` prints as fast as it is read.
pub(crate) async fn interrupt(peers: &[Peer<'_>], plan: &Plan) -> Result<Vec<Vec<Duration>>> {
    let mut taken = vec![Vec::new(); peers.len()];
    for _ in 0..plan.rounds {
        for (peer, taken) in peers.iter().zip(&mut taken) {
            // A shared connection of OpenSSH makes a terminal without any mode where its input is a pipe.
            let shell =
                "stty sane; echo READY; read go; PS1='$(echo back)-again ' exec bash --norc --noprofile -i";
            let mut line = peer.start(shell).await.with_context(|| peer.name())?;
            line.write(b"\r").await?;
            line.read_until(b"back-again").await?;
            line.write(format!("yes {FLOOD_LINE}\r").as_bytes()).await?;
            // As much as fills every buffer on the way.
            let _ = timeout(FLOOD_FILLS, line.drain()).await;
            let began = Instant::now();
            line.write(b"\x03").await?;
            if let Ok(prompt) = timeout(INTERRUPT_MAX, line.read_until(b"back-again")).await {
                prompt?;
            }
            taken.push(began.elapsed());
            line.end().await?;
        }
    }
    Ok(taken)
}

async fn keystrokes(line: &mut Line, plan: &Plan, taken: &mut Vec<Duration>) -> Result<()> {
    let warming = Instant::now();
    for _ in 0..plan.warm_up() {
        keystroke(line).await?;
        if warming.elapsed() > plan.warm_up_max() {
            break;
        }
    }
    let typing = Instant::now();
    for _ in 0..plan.keystrokes {
        taken.push(keystroke(line).await?);
        if typing.elapsed() > plan.typing_max {
            break;
        }
    }
    Ok(())
}

/// Types, and waits for the echo; how long that took.
pub(crate) async fn keystroke(line: &mut Line) -> Result<Duration> {
    let began = Instant::now();
    line.write(&[TYPED]).await?;
    line.read(1).await?;
    Ok(began.elapsed())
}

/// The time a file of text takes from the machine to the viewer, for each peer; nothing for those that show only the end of it.
pub(crate) async fn bulk(peers: &[Peer<'_>], plan: &Plan, dir: &Path) -> Result<Vec<Flood>> {
    let file = dir.join("bulk");
    let line = "the quick brown fox jumps over the lazy dog 0123456789\r\n";
    let text: Vec<u8> = line.bytes().cycle().take(plan.bulk_bytes).collect();
    std::fs::write(&file, text)?;
    let mut floods = vec![Flood::default(); peers.len()];
    for _ in 0..plan.rounds {
        for (peer, flood) in peers.iter().zip(&mut floods).filter(|(peer, _)| peer.carries_every_byte()) {
            let script = format!("head -c 1 >/dev/null; cat '{}'; sleep 60", file.display());
            let mut program = peer.run(&script).await.with_context(|| peer.name())?;
            let before = peer.relay().map(processor_time);
            let began = Instant::now();
            program.write(b"x").await?;
            program.read(plan.bulk_bytes).await?;
            flood.times.push(began.elapsed());
            program.end().await?;
            if let (Some(relay), Some(before)) = (peer.relay(), before) {
                *flood.relay_cpu.get_or_insert_default() += processor_time(relay).saturating_sub(before);
            }
        }
    }
    Ok(floods)
}

/// Processor time of a process and its descendants, user and system (proc(5), fields 14 and 15 of stat).
pub(crate) fn processor_time(root: u32) -> Duration {
    let ticks = |pid: u32| -> Option<u32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?)
    };
    family(root).into_iter().filter_map(ticks).map(|ticks| TICK * ticks).sum()
}
