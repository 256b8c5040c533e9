//! What we want to hold, and whether this run does.

use crate::kind::PeerKind;
use crate::report::{Figures, Report};

/// One thing to hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    /// What of.
    pub(crate) what: &'static str,
    /// The bar.
    pub(crate) limit: String,
    /// What came.
    pub(crate) measured: String,
    /// Whether it is held.
    pub(crate) met: bool,
}

const BESIDE_FLOOD_ON_BAD_NETWORK_MS: (f64, f64) = (35.0, 90.0);
const RELAY_CPU_MS_PER_MB: f64 = 3.0;
const RELAY_BACK_S: f64 = 2.0;
const NETWORK_BACK_S: f64 = 1.0;
const AGENT_MIB: f64 = 10.0;
const SESSION_MIB: f64 = 1.0;
const AGENT_MB: f64 = 8.0;

/// Those that this run has figures for; what a bar compares was measured in the same run.
pub(crate) fn bars(report: &Report) -> Vec<Bar> {
    let all = [on_loopback(report), on_bad_network(report), recovery(report), memory(report)];
    all.into_iter().flatten().flatten().collect()
}

type Bars = Vec<Option<Bar>>;

fn on_loopback(report: &Report) -> Bars {
    let of = |peer| report.ground(false).and_then(|ground| ground.of(peer));
    let (own, ssh) = (of(PeerKind::Rexec), of(PeerKind::Ssh));
    let own_echo = own.and_then(|own| own.echo);
    let reverse = of(PeerKind::SshReverse).and_then(|reverse| reverse.echo);
    let rate = |peer: &Figures| Some(peer.bulk?.mb_per_s);
    vec![
        own_echo.zip(reverse).map(|(own, reverse)| {
            at_most("echo p50 on loopback, beside ssh -R", own.p50_ms, reverse.p50_ms, "ms")
        }),
        own_echo.map(|own| at_most("echo p99, 3 × own p50", own.p99_ms, 3.0 * own.p50_ms, "ms")),
        own_echo.zip(own.and_then(|own| own.echo_beside_flood)).map(|(idle, flood)| {
            at_most("echo p99 beside a flood, 1.5 × own idle p99", flood.p99_ms, 1.5 * idle.p99_ms, "ms")
        }),
        own.and_then(rate)
            .zip(ssh.and_then(rate))
            .map(|(own, ssh)| at_least("bulk output, 1.3 × ssh", own, 1.3 * ssh, "MB/s")),
        own.and_then(|own| own.bulk?.relay_cpu_ms_per_mb)
            .map(|own| at_most("processor time in the broker", own, RELAY_CPU_MS_PER_MB, "ms/MB")),
    ]
}

fn on_bad_network(report: &Report) -> Bars {
    let ground = report.ground(true);
    let own = ground.and_then(|ground| ground.of(PeerKind::Rexec));
    let trip_ms = ground.and_then(|ground| ground.network).map_or(0.0, |network| network.rtt_ms as f64);
    let (p50, p99) = BESIDE_FLOOD_ON_BAD_NETWORK_MS;
    let flood = own.and_then(|own| own.echo_beside_flood);
    vec![
        flood.map(|own| at_most("echo p50 beside a flood on the bad network", own.p50_ms, p50, "ms")),
        flood.map(|own| at_most("echo p99 beside a flood on the bad network", own.p99_ms, p99, "ms")),
        own.and_then(|own| own.interrupt).map(|own| {
            at_most("^C during yes on the bad network, 3 round trips", own.p50_ms, 3.0 * trip_ms, "ms")
        }),
    ]
}

fn recovery(report: &Report) -> Bars {
    let worst = |what: &'static str, rows: &[crate::recovery::Recovery], limit: f64| {
        let own = rows.iter().find(|row| row.peer == PeerKind::Rexec)?;
        Some(match own.median_and_worst() {
            Some((_, worst)) => at_most(what, worst, limit, "s"),
            None => {
                Bar { what, limit: format!("≤ {limit} s"), measured: "session lost".into(), met: false }
            }
        })
    };
    vec![
        worst("typing again after the network was cut for 10 s, worst", &report.network_cut, NETWORK_BACK_S),
        worst("typing again after the broker was killed, worst", &report.relay_killed, RELAY_BACK_S),
    ]
}

fn memory(report: &Report) -> Bars {
    let own = report.memory.iter().find(|memory| memory.peer == PeerKind::Rexec);
    let mib = |kib: f64| kib / 1024.0;
    vec![
        own.map(|own| {
            at_most(
                "RSS of both agent processes, one idle session",
                mib(own.one_session.rss_kib),
                AGENT_MIB,
                "MiB",
            )
        }),
        own.map(|own| {
            at_most("RSS of each further session", mib(own.further_session.rss_kib), SESSION_MIB, "MiB")
        }),
        report.agent_bytes.map(|bytes| at_most("the agent's binary", bytes as f64 / 1e6, AGENT_MB, "MB")),
    ]
}

fn at_most(what: &'static str, measured: f64, limit: f64, unit: &str) -> Bar {
    let (limit_text, measured_text) = (format!("≤ {limit:.2} {unit}"), format!("{measured:.2} {unit}"));
    Bar { what, limit: limit_text, measured: measured_text, met: measured <= limit }
}

fn at_least(what: &'static str, measured: f64, limit: f64, unit: &str) -> Bar {
    let (limit_text, measured_text) = (format!("≥ {limit:.2} {unit}"), format!("{measured:.2} {unit}"));
    Bar { what, limit: limit_text, measured: measured_text, met: measured >= limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::sample;

    #[test]
    fn a_bar_is_held_by_the_figures_of_the_same_run() {
        let report = sample();
        let named = |what: &str| bars(&report).into_iter().find(|bar| bar.what.starts_with(what)).unwrap();
        assert!(named("echo p50 on loopback").met, "0.2 beside 0.3 ms");
        assert!(!named("bulk output").met, "90 is less than 1.3 × 80 MB/s");
        assert!(!named("typing again after the broker").met, "a session was lost");
    }

    #[test]
    fn what_was_not_measured_has_no_bar() {
        assert_eq!(bars(&Report { agent_bytes: None, ..Report::new(Vec::new()) }), []);
    }
}
