//! What the chart shows: which figures stand side by side, and on what scale.

use crate::kind::PeerKind;
use crate::recovery::Recovery;
use crate::report::{Figures, OnGround, Report, Times};

/// Figures of one kind, a group for each peer.
#[derive(Debug)]
pub(crate) struct Panel {
    /// What is shown.
    pub(crate) title: String,
    /// Unit, what the two bars of a group are, and which way is good.
    pub(crate) note: &'static str,
    /// The scale.
    pub(crate) scale: Scale,
    /// The groups.
    pub(crate) groups: Vec<Group>,
}

/// How a figure becomes a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero.
    Linear,
    /// Each decade as long as the next.
    Logarithmic,
}

/// One peer's bars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Group {
    /// The peer.
    pub(crate) peer: PeerKind,
    /// The first bar and the second, if there are figures.
    pub(crate) figures: Option<(f64, Option<f64>)>,
}

const LATENCY: &str = "milliseconds, log scale · median, below it the 99th percentile · less is better";

/// All of them, in the order they are drawn: two side by side.
pub(crate) fn panels(report: &Report) -> Vec<Panel> {
    let mut panels: Vec<Panel> = report.grounds.iter().flat_map(latencies).collect();
    let bulk = report.ground(false).map(|ground| Panel {
        title: "Bulk output, loopback".into(),
        note: "MB/s, median of the rounds · more is better",
        scale: Scale::Linear,
        groups: groups(ground, |peer| Some((peer.bulk?.mb_per_s, None))),
    });
    let relay = report.ground(false).map(|ground| Panel {
        title: "Processor time of the relay during bulk output".into(),
        note: "milliseconds per MB · less is better",
        scale: Scale::Linear,
        groups: groups(ground, |peer| Some((peer.bulk?.relay_cpu_ms_per_mb?, None))),
    });
    panels.extend(bulk);
    panels.extend(relay);
    panels.push(back("Network cut for 10 s: until typing works again", &report.network_cut));
    panels.push(back("Relay killed, back 1 s later: until typing works again", &report.relay_killed));
    panels.push(memory(report));
    panels.retain(|panel| !panel.groups.is_empty());
    panels
}

fn latencies(ground: &OnGround) -> Vec<Panel> {
    let panel = |what: &str, of: fn(&Figures) -> Option<Times>| Panel {
        title: format!("{what}, {}", ground.name()),
        note: LATENCY,
        scale: Scale::Logarithmic,
        groups: groups(ground, |peer| of(peer).map(|times| (times.p50_ms, Some(times.p99_ms)))),
    };
    vec![
        panel("Keystroke echo", |peer| peer.echo),
        panel("Echo beside a flood", |peer| peer.echo_beside_flood),
        Panel {
            note: "milliseconds, log scale · median, below it the worst · less is better",
            groups: groups(ground, |peer| peer.interrupt.map(|times| (times.p50_ms, Some(times.max_ms)))),
            ..panel("^C during yes until the prompt", |peer| peer.interrupt)
        },
    ]
}

/// Peers that have figures.
fn groups(ground: &OnGround, of: impl Fn(&Figures) -> Option<(f64, Option<f64>)>) -> Vec<Group> {
    let group = |peer: &Figures| Some(Group { peer: peer.peer, figures: Some(of(peer)?) });
    ground.peers.iter().filter_map(group).collect()
}

fn back(title: &str, rows: &[Recovery]) -> Panel {
    let group = |row: &Recovery| Group {
        peer: row.peer,
        figures: row.median_and_worst().map(|(median, worst)| (median, Some(worst))),
    };
    Panel {
        title: title.into(),
        note: "seconds, log scale · median, below it the worst · less is better",
        scale: Scale::Logarithmic,
        groups: rows.iter().map(group).collect(),
    }
}

fn memory(report: &Report) -> Panel {
    let mib = |kib: f64| kib / 1024.0;
    let groups = report.memory.iter().map(|of| Group {
        peer: of.peer,
        figures: Some((mib(of.one_session.rss_kib), Some(mib(of.further_session.rss_kib)))),
    });
    Panel {
        title: "Resident memory on the machine".into(),
        note: "MiB · with one idle session, below it each further one · less is better",
        scale: Scale::Linear,
        groups: groups.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::sample;

    #[test]
    fn a_panel_that_would_be_empty_is_not_drawn() {
        let all = panels(&sample());
        assert!(all.iter().all(|panel| !panel.groups.is_empty()));
        let few = panels(&Report { network_cut: Vec::new(), ..sample() });
        assert_eq!(few.len(), all.len() - 1);
    }
}
