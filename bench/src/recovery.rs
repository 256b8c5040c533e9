//! How long until typing works again: after the relay was killed, and after the network was away.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::ground::Ground;
use crate::kind::PeerKind;
use crate::measure::keystroke;
use crate::peer::Line;

/// A relay that was killed is started again after this.
const RELAY_AWAY: Duration = Duration::from_secs(1);
/// How long the network is cut.
const CUT: Duration = Duration::from_secs(10);
/// Whoever does not type again within this, never will.
const GIVE_UP: Duration = Duration::from_secs(60);

/// What became of one peer's session, one entry for each round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recovery {
    /// The peer.
    pub(crate) peer: PeerKind,
    /// Times until a keystroke came back, seconds, counted from when what was broken was whole again.
    pub(crate) back_s: Vec<f64>,
    /// Rounds in which the session was lost.
    pub(crate) lost: usize,
}

/// Kills each relay and starts it again a second later. Peers without a relay are left out.
pub(crate) async fn relay_killed(kinds: &[PeerKind], rounds: usize) -> Result<Vec<Recovery>> {
    let mut ground = Ground::loopback(kinds)?;
    let mut measured: Vec<Recovery> = Vec::new();
    for kind in kinds {
        let mut recovery = Recovery::new(*kind);
        for _ in 0..rounds {
            let mut line = typing(&ground, *kind).await?;
            if !ground.kill_relay(*kind)? {
                line.end().await?;
                break;
            }
            sleep(RELAY_AWAY).await;
            ground.start_relay(*kind)?;
            let again = Instant::now();
            let echo = timeout(GIVE_UP, keystroke(&mut line)).await;
            recovery.note(matches!(echo, Ok(Ok(_))).then(|| again.elapsed()));
            if matches!(echo, Ok(Ok(_))) {
                line.end().await?;
            }
        }
        if !recovery.back_s.is_empty() || recovery.lost > 0 {
            measured.push(recovery);
        }
    }
    Ok(measured)
}

/// Cuts the network of all peers at once, types a key into each, and mends it ten seconds later.
pub(crate) async fn network_cut(kinds: &[PeerKind], rounds: usize) -> Result<Vec<Recovery>> {
    let mut measured: Vec<Recovery> = kinds.iter().map(|kind| Recovery::new(*kind)).collect();
    for _ in 0..rounds {
        // Each time anew: a connection remembers how bad its path was.
        let ground = Ground::network(kinds)?;
        let mut lines = Vec::new();
        for kind in kinds {
            lines.push(typing(&ground, *kind).await?);
        }
        ground.line()?.cut();
        let echoes: Vec<_> = lines.into_iter().map(until_echo).collect();
        sleep(CUT).await;
        ground.line()?.mend();
        let mended = Instant::now();
        for (echo, recovery) in echoes.into_iter().zip(&mut measured) {
            let left = GIVE_UP.saturating_sub(mended.elapsed());
            let back = echo.come(left).await?.map(|at| at.checked_duration_since(mended));
            ensure!(back != Some(None), "an echo came through a network that was cut");
            recovery.note(back.flatten());
        }
    }
    Ok(measured)
}

/// A session that has echoed.
async fn typing(ground: &Ground, kind: PeerKind) -> Result<Line> {
    let mut line = ground.peer(kind)?.run("exec cat").await.with_context(|| kind.name())?;
    keystroke(&mut line).await.with_context(|| kind.name())?;
    Ok(line)
}

/// A keystroke under way, whose echo is waited for.
struct Echo(JoinHandle<Option<Instant>>);

fn until_echo(mut line: Line) -> Echo {
    Echo(tokio::spawn(async move {
        let at = keystroke(&mut line).await.ok().map(|_| Instant::now());
        if at.is_some() {
            let _ = line.end().await;
        }
        at
    }))
}

impl Echo {
    /// When it came, if it did within this.
    async fn come(mut self, within: Duration) -> Result<Option<Instant>> {
        match timeout(within, &mut self.0).await {
            Ok(ended) => Ok(ended?),
            Err(_) => {
                self.0.abort();
                Ok(None)
            }
        }
    }
}

impl Recovery {
    fn new(peer: PeerKind) -> Self {
        Self { peer, back_s: Vec::new(), lost: 0 }
    }

    fn note(&mut self, back: Option<Duration>) {
        match back {
            Some(back) => self.back_s.push(back.as_secs_f64()),
            None => self.lost += 1,
        }
    }

    /// Median and worst of the times, none when a session was lost.
    pub(crate) fn median_and_worst(&self) -> Option<(f64, f64)> {
        let mut times = self.back_s.clone();
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len().saturating_sub(1) / 2)?;
        (self.lost == 0).then_some((*median, *times.last()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lost_once_is_no_recovery() {
        let mut recovery = Recovery::new(PeerKind::Ssh);
        assert_eq!(recovery.median_and_worst(), None);
        for ms in [300, 100, 200] {
            recovery.note(Some(Duration::from_millis(ms)));
        }
        assert_eq!(recovery.median_and_worst(), Some((0.2, 0.3)));
        recovery.note(None);
        assert_eq!(recovery.median_and_worst(), None);
    }
}
