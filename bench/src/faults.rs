//! The fault matrix as a table: for a person while it runs, as JSON and Markdown afterwards.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use rexec_e2e::faults::{Fault, Promise, Row, run, told};
use rexec_e2e::grounds::can_run;
use serde::Serialize;

/// A row that takes longer has hung.
const ROW_DEADLINE: Duration = Duration::from_secs(180);

/// Everything that was broken.
#[derive(Debug, Serialize)]
struct Matrix {
    unix_s: u64,
    seconds: u64,
    rows: Vec<Broken>,
    /// What this machine cannot do.
    skipped: Vec<&'static str>,
}

/// One fault.
#[derive(Debug, Serialize)]
struct Broken {
    fault: &'static str,
    is_kept: bool,
    /// Streams the viewer needed, the first included.
    streams: u32,
    promises: Vec<Kept>,
    /// Why there is no figure.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Kept {
    promise: String,
    bar: String,
    measured: String,
    is_kept: bool,
}

/// Breaks whatever `wanted` is part of the name of, and prints what it cost as it is known; fails when a promise was not kept.
#[expect(clippy::print_stdout, reason = "this program's purpose")]
pub(crate) async fn matrix(wanted: &str, out: Option<&Path>) -> Result<()> {
    let began = Instant::now();
    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    for fault in Fault::ALL.iter().copied().filter(|fault| fault.name().contains(wanted)) {
        if !can_run(fault.needs()) {
            skipped.push(fault.name());
            continue;
        }
        let row = break_it(fault).await;
        println!("{}", row.lines());
        rows.push(row);
    }
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let matrix = Matrix { unix_s, seconds: began.elapsed().as_secs(), rows, skipped };
    if let Some(out) = out {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("faults.json"), serde_json::to_string_pretty(&matrix)?)?;
        std::fs::write(out.join("faults.md"), matrix.markdown()?)?;
    }
    let missed: Vec<_> = matrix.rows.iter().filter(|row| !row.is_kept).map(|row| row.fault).collect();
    println!("\n{} faults in {}", matrix.rows.len(), told(began.elapsed()));
    ensure!(missed.is_empty(), "not as promised: {}", missed.join(", "));
    Ok(())
}

async fn break_it(fault: Fault) -> Broken {
    // In a task of its own: a panic is one row's.
    let row = tokio::time::timeout(ROW_DEADLINE, tokio::spawn(run(fault))).await;
    let row = row.map_err(|_| format!("not over within {ROW_DEADLINE:?}"));
    match row
        .and_then(|row| row.map_err(|error| error.to_string()))
        .and_then(|row| row.map_err(|error| format!("{error:#}")))
    {
        Ok(row) => Broken::of(&row),
        Err(error) => Broken {
            fault: fault.name(),
            is_kept: false,
            streams: 0,
            promises: Vec::new(),
            error: Some(error),
        },
    }
}

impl Broken {
    fn of(row: &Row) -> Self {
        Self {
            fault: row.fault.name(),
            is_kept: row.is_kept(),
            streams: row.outcome.streams,
            promises: row.promises().into_iter().map(Kept::from).collect(),
            error: None,
        }
    }

    /// For a terminal.
    fn lines(&self) -> String {
        let mut lines = vec![format!("{} {}", mark(self.is_kept), self.fault)];
        lines.extend(self.error.iter().map(|error| format!("      {error}")));
        lines.extend(self.promises.iter().map(|kept| {
            format!("    {} {:<42}{:<28}{}", mark(kept.is_kept), kept.promise, kept.bar, kept.measured)
        }));
        lines.join("\n")
    }
}

impl From<Promise> for Kept {
    fn from(Promise { what, bar, measured, is_kept }: Promise) -> Self {
        Self { promise: what, bar, measured, is_kept }
    }
}

const fn mark(is_kept: bool) -> &'static str {
    if is_kept { "✓" } else { "✗" }
}

impl Matrix {
    fn markdown(&self) -> Result<String> {
        let mut text = String::from("| | fault | promise | bar | measured |\n|---|---|---|---|---|\n");
        for row in &self.rows {
            let mut fault = row.fault;
            for kept in &row.promises {
                let Kept { promise, bar, measured, .. } = kept;
                writeln!(text, "| {} | {fault} | {promise} | {bar} | {measured} |", mark(kept.is_kept))?;
                fault = "";
            }
            if let Some(error) = &row.error {
                writeln!(text, "| ✗ | {fault} | | | {} |", error.replace(['\n', '|'], " "))?;
            }
        }
        for fault in &self.skipped {
            writeln!(text, "| – | {fault} | | | not run on this machine |")?;
        }
        Ok(text)
    }
}
