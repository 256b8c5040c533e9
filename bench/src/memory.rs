//! What stays resident on the machine while nobody types: with one session, and for each further one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rexec_e2e::process::family;
use serde::{Deserialize, Serialize};

use crate::ground::Ground;
use crate::kind::PeerKind;
use crate::peer::Line;

/// Those with a process of their own on the machine; whatever goes by ssh has sshd's.
const WITH_SERVERS: [PeerKind; 3] = [PeerKind::Rexec, PeerKind::Ssh, PeerKind::Mosh];
/// Sessions beside the first.
const FURTHER: u32 = 20;
/// Memory is at rest when it has not changed by more than this, for this long.
const REST_KIB: f64 = 32.0;
const REST: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_secs(10);

/// Resident memory in KiB: all of it, and with pages that processes share divided among them (proc(5), `smaps_rollup`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resident {
    /// RSS.
    pub(crate) rss_kib: f64,
    /// PSS.
    pub(crate) pss_kib: f64,
}

/// One peer's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The peer.
    pub(crate) peer: PeerKind,
    /// Everything that serves one idle session, its program aside.
    pub(crate) one_session: Resident,
    /// What each further session adds.
    pub(crate) further_session: Resident,
}

/// Measures the peers that have a server of their own.
pub(crate) async fn memory(kinds: &[PeerKind]) -> Result<Vec<Memory>> {
    let mut measured = Vec::new();
    for kind in WITH_SERVERS.into_iter().filter(|kind| kinds.contains(kind)) {
        // A ground for each, so that nobody else's copy of a program shares its pages.
        let ground = Ground::loopback(&[kind])?;
        measured.push(of(&ground, kind).await.with_context(|| kind.name())?);
    }
    Ok(measured)
}

async fn of(ground: &Ground, kind: PeerKind) -> Result<Memory> {
    let peer = ground.peer(kind)?;
    let mut lines = vec![peer.run("exec cat").await?];
    let one_session = at_rest(ground, kind, &lines).await?;
    for _ in 0..FURTHER {
        lines.push(peer.run("exec cat").await?);
    }
    let all = at_rest(ground, kind, &lines).await?;
    for line in lines {
        line.end().await?;
    }
    let each = |all: f64, one: f64| (all - one) / f64::from(FURTHER);
    let further_session = Resident {
        rss_kib: each(all.rss_kib, one_session.rss_kib),
        pss_kib: each(all.pss_kib, one_session.pss_kib),
    };
    Ok(Memory { peer: kind, one_session, further_session })
}

/// What the servers hold once that stays the same.
async fn at_rest(ground: &Ground, kind: PeerKind, lines: &[Line]) -> Result<Resident> {
    let began = Instant::now();
    let mut last = Resident::default();
    loop {
        let now = sum(&servers(ground, kind, lines)?)?;
        if (now.rss_kib - last.rss_kib).abs() <= REST_KIB {
            return Ok(now);
        }
        ensure!(began.elapsed() < DEADLINE, "memory does not come to rest");
        last = now;
        tokio::time::sleep(REST).await;
    }
}

fn servers(ground: &Ground, kind: PeerKind, lines: &[Line]) -> Result<Vec<u32>> {
    if kind == PeerKind::Rexec {
        return Ok(ground.agent()?.into());
    }
    if kind == PeerKind::Mosh {
        return Ok(lines.iter().filter_map(Line::mosh_server).collect());
    }
    let is_sshd = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("sshd"))
    };
    Ok(family(ground.sshd()).into_iter().filter(is_sshd).collect())
}

fn sum(pids: &[u32]) -> Result<Resident> {
    let mut all = Resident::default();
    for pid in pids {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("smaps_rollup")?;
        let one = parse(&text).context("no Rss and Pss in smaps_rollup")?;
        all.rss_kib += one.rss_kib;
        all.pss_kib += one.pss_kib;
    }
    Ok(all)
}

fn parse(rollup: &str) -> Option<Resident> {
    let field = |name: &str| {
        rollup.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    Some(Resident { rss_kib: field("Rss:")?, pss_kib: field("Pss:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rss_and_pss_are_read_from_what_the_kernel_says() {
        let text = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:     3128 kB\nPss:     1711 kB\nPss_Dirty: 12 kB\n";
        assert_eq!(parse(text), Some(Resident { rss_kib: 3128.0, pss_kib: 1711.0 }));
        assert_eq!(parse("Rss: 1 kB\n"), None);
    }

    #[test]
    fn a_running_process_has_resident_memory() {
        let own = sum(&[std::process::id()]).unwrap();
        assert!(own.rss_kib >= own.pss_kib && own.pss_kib > 100.0, "{own:?}");
    }
}
