//! The figures as tables in Markdown, which a person reads in a terminal as well.

use crate::bars::Bar;
use crate::kind::PeerKind;
use crate::memory::Memory;
use crate::recovery::Recovery;
use crate::report::{Figures, OnGround, Report};

/// A table; its first column is text, the others are figures.
#[derive(Debug)]
struct Table {
    rows: Vec<Vec<String>>,
}

/// Everything as Markdown.
pub(crate) fn tables(report: &Report, bars: &[Bar]) -> String {
    let mut parts: Vec<String> = report.grounds.iter().map(ground).collect();
    if !report.network_cut.is_empty() {
        parts.push(section(
            "Typing again",
            "Seconds from when what was broken is whole again until a keystroke comes back: median and, in brackets, worst.",
            &recovery(report),
        ));
    }
    if !report.memory.is_empty() {
        parts.push(section("Resident memory", &memory_note(report), &memory(&report.memory)));
    }
    if !bars.is_empty() {
        parts.push(section("Bars", "What this run says about what we want to hold.", &verdicts(bars)));
    }
    if !report.left_out.is_empty() {
        let names = report.left_out.iter().map(|peer| format!("{} ({})", peer.name, peer.why));
        parts.push(format!("Left out: {}.\n", names.collect::<Vec<_>>().join("; ")));
    }
    parts.join("\n")
}

/// When, where and of what.
pub(crate) fn origin(report: &Report) -> String {
    let seconds = i64::try_from(report.unix_s).unwrap_or_default();
    let date = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default().format("%Y-%m-%d %H:%M UTC");
    format!("{date}, {} cores, Linux {}, commit {}", report.host.cores, report.host.kernel, report.commit)
}

fn section(title: &str, note: &str, table: &Table) -> String {
    format!("### {title}\n\n{note}\n\n{table}")
}

fn ground(ground: &OnGround) -> String {
    type Of = fn(&Figures) -> Option<f64>;
    let columns: [(&str, Of); 8] = [
        ("echo p50", |peer| Some(peer.echo?.p50_ms)),
        ("p99", |peer| Some(peer.echo?.p99_ms)),
        ("beside a flood p50", |peer| Some(peer.echo_beside_flood?.p50_ms)),
        ("p99", |peer| Some(peer.echo_beside_flood?.p99_ms)),
        ("^C p50", |peer| Some(peer.interrupt?.p50_ms)),
        ("worst", |peer| Some(peer.interrupt?.max_ms)),
        ("bulk MB/s", |peer| Some(peer.bulk?.mb_per_s)),
        ("relay ms/MB", |peer| peer.bulk?.relay_cpu_ms_per_mb),
    ];
    let measured = columns.into_iter().filter(|(_, of)| ground.peers.iter().any(|peer| of(peer).is_some()));
    let measured: Vec<_> = measured.collect();
    let mut rows = vec![head("", measured.iter().map(|(title, _)| *title))];
    let ssh = ground.of(PeerKind::Ssh);
    for peer in &ground.peers {
        let cells = measured.iter().map(|(_, of)| ratio(of(peer), ssh.and_then(of)));
        rows.push(std::iter::once(peer.peer.name().to_owned()).chain(cells).collect());
    }
    let note = format!(
        "Milliseconds unless it says otherwise; in brackets the ratio to ssh. {} rounds, at most {} keystrokes each.",
        ground.rounds, ground.keystrokes
    );
    let name = ground.name();
    let title = name.get(..1).map(str::to_uppercase).unwrap_or_default() + name.get(1..).unwrap_or_default();
    section(&title, &note, &Table { rows })
}

fn recovery(report: &Report) -> Table {
    let mut rows = vec![head("", ["network cut for 10 s", "relay killed, back 1 s later"])];
    for cut in &report.network_cut {
        let killed = report.relay_killed.iter().find(|killed| killed.peer == cut.peer);
        let killed = killed.map_or_else(|| "has no relay".into(), time_back);
        rows.push(vec![cut.peer.name().into(), time_back(cut), killed]);
    }
    Table { rows }
}

/// Median and worst.
fn time_back(recovery: &Recovery) -> String {
    match recovery.median_and_worst() {
        Some((median, worst)) => format!("{median:.2} ({worst:.2})"),
        None => "session lost".into(),
    }
}

fn memory(memory: &[Memory]) -> Table {
    let titles = ["one idle session RSS", "PSS", "each further RSS", "PSS"];
    let mut rows = vec![head("", titles)];
    for of in memory {
        let mib = |kib: f64| format!("{:.2}", kib / 1024.0);
        let (one, further) = (of.one_session, of.further_session);
        let cells = [one.rss_kib, one.pss_kib, further.rss_kib, further.pss_kib].map(mib);
        rows.push(std::iter::once(of.peer.name().to_owned()).chain(cells).collect());
    }
    Table { rows }
}

fn memory_note(report: &Report) -> String {
    let note =
        "MiB on the machine, programs aside: session host and uplink, sshd with its children, mosh-server.";
    match report.agent_bytes {
        Some(bytes) => {
            format!("{note} The agent's stripped static binary has {:.2} MB.", bytes as f64 / 1e6)
        }
        None => note.into(),
    }
}

fn verdicts(bars: &[Bar]) -> Table {
    let mut rows = vec![head("what", ["bar", "measured", "met"])];
    for bar in bars {
        let met = if bar.met { "yes" } else { "**no**" };
        rows.push(vec![bar.what.into(), bar.limit.clone(), bar.measured.clone(), met.into()]);
    }
    Table { rows }
}

fn head<'a>(first: &'a str, others: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    std::iter::once(first).chain(others).map(str::to_owned).collect()
}

fn ratio(own: Option<f64>, of: Option<f64>) -> String {
    match (own, of) {
        (Some(own), Some(of)) if of > 0.0 => format!("{} ({}×)", short(own), short(own / of)),
        (Some(own), _) => short(own),
        (None, _) => "–".into(),
    }
}

/// Three digits that say something.
pub(crate) fn short(figure: f64) -> String {
    let digits = if figure >= 100.0 {
        0
    } else if figure >= 10.0 {
        1
    } else {
        2
    };
    format!("{figure:.digits$}")
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column| self.rows.iter().map(|row| cell(row, column).chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0).max(3)).collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                let text = cell(row, column);
                if column == 0 { write!(f, "| {text:<width$} ")? } else { write!(f, "| {text:>width$} ")? }
            }
            writeln!(f, "|")?;
            if number == 0 {
                let rule = |(column, width): (usize, &usize)| match column {
                    0 => format!("|{}", "-".repeat(width + 2)),
                    _ => format!("|{}:", "-".repeat(width + 1)),
                };
                writeln!(f, "{}|", widths.iter().enumerate().map(rule).collect::<String>())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bars::bars;
    use crate::sample::sample;

    #[test]
    fn a_table_is_markdown_and_says_what_was_lost() {
        insta::assert_snapshot!(recovery(&sample()).to_string(), @r"
        |        | network cut for 10 s | relay killed, back 1 s later |
        |--------|---------------------:|-----------------------------:|
        | rexec  |          0.50 (0.60) |                 session lost |
        | ssh    |          0.50 (0.60) |                 has no relay |
        | ssh -R |          0.50 (0.60) |                 session lost |
        ");
    }

    #[test]
    fn a_run_is_told_whole() {
        let report = sample();
        let text = tables(&report, &bars(&report));
        for part in ["### Loopback", "### 30 ms round trip, 1 % loss", "### Bars", "Left out: mosh"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(origin(&report).ends_with("2 cores, Linux 6.1.0, commit abc1234"), "{}", origin(&report));
    }

    #[test]
    fn a_figure_has_three_digits() {
        assert_eq!(
            ["0.18", "1.80", "18.0", "180"],
            [0.18, 1.8, 18.0, 180.0].map(short).each_ref().map(String::as_str)
        );
    }
}
