//! What the checks came to, for a person or a program.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::say::{say, say_json};
use crate::cli::{Complaint, Profile};
use crate::plain_text::plain;

/// What a check came to, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// There was nothing to try.
    Skipped,
    /// It works, or something else works in its place, but not as it should.
    Warning,
    /// It does not work.
    Failed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Check {
    check: &'static str,
    pub(super) verdict: Verdict,
    /// What was measured, for a person.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// What was measured, for a program.
    #[serde(skip_serializing_if = "Map::is_empty")]
    facts: Map<String, Value>,
}

impl Check {
    pub(super) fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { check, verdict, found: found.into(), hint: None, facts: Map::new() }
    }

    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, found)
    }

    pub(super) fn skipped(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Skipped, found)
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, found)
    }

    pub(super) fn failed(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Failed, found)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }

    /// The same where something else that works takes its place.
    pub(super) fn tolerated(mut self) -> Self {
        if self.verdict == Verdict::Failed {
            self.verdict = Verdict::Warning;
        }
        self
    }

    fn line(&self) -> String {
        let hint = self.hint.as_deref().map_or_else(String::new, |hint| format!(" → {}", plain(hint)));
        format!("{:<9}{:<14}{}{hint}", self.verdict.word(), self.check, plain(&self.found))
    }
}

/// Everything that was tried; what `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    profile: String,
    /// Whether nothing has failed.
    ok: bool,
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(profile: &Profile, checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|check| check.verdict != Verdict::Failed);
        Self { profile: profile.name().into(), ok, checks }
    }

    pub(super) fn show(&self, is_json: bool) -> Result<ExitCode, Complaint> {
        if is_json {
            say_json(self)?;
        } else {
            self.checks.iter().for_each(|check| say(&check.line()));
        }
        Ok(if self.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_found_and_what_to_do_and_nothing_drives_the_terminal() {
        let check = Check::failed("udp", "no answer from \u{1b}[2Jhere\nok  dns").hint("let UDP out");
        assert_eq!(
            check.line(),
            "failed   udp           no answer from \u{fffd}[2Jhere\u{fffd}ok  dns → let UDP out"
        );
        assert_eq!(check.tolerated().verdict, Verdict::Warning);
        assert_eq!(Check::ok("udp", "").tolerated().verdict, Verdict::Ok);
    }
}
