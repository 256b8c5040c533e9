//! What a run leaves in `docs/`: the chart, and the tables in the middle of `PERFORMANCE.md`.

use anyhow::{Context, Result};
use rexec_e2e::binaries::repository;

use crate::bars::bars;
use crate::chart::draw;
use crate::report::Report;
use crate::table::{origin, tables};

const BEGIN: &str = "<!-- what follows is written by make bench -->\n";
const END: &str = "<!-- until here -->\n";

/// Writes both.
pub(crate) fn write(report: &Report) -> Result<()> {
    let docs = repository().join("docs");
    std::fs::write(docs.join("bench.svg"), draw(report))?;
    let path = docs.join("PERFORMANCE.md");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let chart = "![Rexec beside its peers](bench.svg)";
    let figures = format!("{chart}\n\n{}.\n\n{}", origin(report), tables(report, &bars(report)));
    Ok(std::fs::write(&path, put_between(&text, &figures)?)?)
}

fn put_between(text: &str, figures: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("no place for figures in the page")?;
    let (_, after) = rest.split_once(END).context("no end of the place for figures")?;
    Ok(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_replace_those_before_and_nothing_else() {
        let page = format!("method\n{BEGIN}old\n{END}rest\n");
        let once = put_between(&page, "new").unwrap();
        assert_eq!(once, format!("method\n{BEGIN}\nnew\n{END}rest\n"));
        assert_eq!(put_between(&once, "new").unwrap(), once);
        assert!(put_between("no marks", "new").is_err());
    }
}
