//! The figures: printed as they come, written at the end.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use crate::report::quantile;

/// One figure.
#[derive(Debug, Serialize)]
struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    /// What it may be at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    bar: Option<f64>,
}

/// All of them, in the order they came.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    figures: Vec<Figure>,
}

impl Figures {
    /// A figure.
    pub(crate) fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        self.push(Figure { what: what.into(), value, unit, bar: None });
    }

    /// A figure with a bar.
    pub(crate) fn at_most(&mut self, what: impl Into<String>, value: f64, unit: &'static str, bar: f64) {
        self.push(Figure { what: what.into(), value, unit, bar: Some(bar) });
    }

    /// Quantiles of round trips.
    pub(crate) fn times(&mut self, what: &str, times: &[Duration]) {
        for (name, value) in quantiles(times) {
            self.add(format!("{what}, {name}"), value * 1e3, "ms");
        }
    }

    /// The names of those that missed their bar.
    pub(crate) fn missed(&self) -> Vec<&str> {
        let missed = self.figures.iter().filter(|figure| figure.bar.is_some_and(|bar| figure.value > bar));
        missed.map(|figure| figure.what.as_str()).collect()
    }

    /// Writes them as JSON.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(dir.join(format!("load-{unix_s}.json")), &text)?;
        Ok(std::fs::write(dir.join("load-latest.json"), text)?)
    }

    #[expect(clippy::print_stdout, reason = "this program's purpose")]
    fn push(&mut self, figure: Figure) {
        let Figure { what, value, unit, bar } = &figure;
        let bar = bar.map_or_else(String::new, |bar| format!("at most {bar}"));
        println!("{what:<58}{value:>12.2} {unit:<6}{bar}");
        self.figures.push(figure);
    }
}

/// Median, 99th percentile and maximum, seconds.
pub(super) fn quantiles(times: &[Duration]) -> [(&'static str, f64); 3] {
    let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    [("p50", 0.5), ("p99", 0.99), ("max", 1.0)].map(|(name, part)| (name, quantile(&seconds, part)))
}
