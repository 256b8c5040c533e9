//! A run that never was, for the tests of what is made from figures.

use crate::kind::PeerKind;
use crate::memory::{Memory, Resident};
use crate::recovery::Recovery;
use crate::report::{Bulk, Figures, Host, LeftOut, Network, OnGround, Report, Times};

/// Three peers on two grounds, a session lost, a peer left out.
pub(crate) fn sample() -> Report {
    let rexec = figures(PeerKind::Rexec, 0.2, Some((90.0, Some(2.5))));
    let ssh = figures(PeerKind::Ssh, 0.1, Some((80.0, None)));
    let reverse = figures(PeerKind::SshReverse, 0.3, Some((40.0, Some(6.0))));
    let far = [(PeerKind::Rexec, 31.0), (PeerKind::Ssh, 30.5), (PeerKind::SshReverse, 31.5)];
    let network = Network { rtt_ms: 30, loss_percent: 1.0 };
    Report {
        unix_s: 1_790_000_000,
        host: Host { cores: 2, kernel: "6.1.0".into() },
        commit: "abc1234".into(),
        left_out: vec![LeftOut { name: "mosh".into(), why: "mosh-server is not installed".into() }],
        grounds: vec![
            ground(None, vec![rexec, ssh, reverse]),
            ground(Some(network), far.map(|(peer, p50)| figures(peer, p50, None)).into()),
        ],
        memory: vec![memory(PeerKind::Rexec, 9_000.0, 300.0), memory(PeerKind::Ssh, 15_000.0, 9_100.0)],
        agent_bytes: Some(5_600_000),
        relay_killed: vec![recovery(PeerKind::Rexec, 1), recovery(PeerKind::SshReverse, 3)],
        network_cut: far.map(|(peer, _)| recovery(peer, 0)).into(),
    }
}

fn ground(network: Option<Network>, peers: Vec<Figures>) -> OnGround {
    OnGround { network, rounds: 3, keystrokes: 3_000, bulk_bytes: 100_000_000, peers }
}

fn figures(peer: PeerKind, p50: f64, bulk: Option<(f64, Option<f64>)>) -> Figures {
    Figures {
        peer,
        echo: Some(times(p50)),
        echo_beside_flood: Some(times(p50 * 1.2)),
        interrupt: Some(times(p50 * 2.0)),
        bulk: bulk.map(|(mb_per_s, relay_cpu_ms_per_mb)| Bulk {
            mb_per_s,
            slowest_mb_per_s: mb_per_s * 0.9,
            fastest_mb_per_s: mb_per_s * 1.1,
            relay_cpu_ms_per_mb,
        }),
    }
}

fn times(p50_ms: f64) -> Times {
    Times {
        samples: 3_000,
        min_ms: p50_ms * 0.5,
        p10_ms: p50_ms * 0.7,
        p25_ms: p50_ms * 0.8,
        p50_ms,
        p75_ms: p50_ms * 1.1,
        p90_ms: p50_ms * 1.3,
        p95_ms: p50_ms * 1.5,
        p99_ms: p50_ms * 2.0,
        max_ms: p50_ms * 4.0,
    }
}

fn memory(peer: PeerKind, one_kib: f64, further_kib: f64) -> Memory {
    let resident = |rss_kib: f64| Resident { rss_kib, pss_kib: rss_kib * 0.6 };
    Memory { peer, one_session: resident(one_kib), further_session: resident(further_kib) }
}

fn recovery(peer: PeerKind, lost: usize) -> Recovery {
    Recovery { peer, back_s: [0.4, 0.5, 0.6].into_iter().skip(lost).collect(), lost }
}
