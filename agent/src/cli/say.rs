//! The one place that writes to the terminal: nothing passes it that could drive one (THREATS OUT-06). A closed pipe is nobody's failure, so errors of
//! writing are dropped.

use std::io::{Write, stderr, stdout};

use serde::Serialize;

use super::Complaint;
use crate::plain_text::{plain_json, plain_lines};

/// A line on standard output.
pub(super) fn say(line: &str) {
    let _ = writeln!(stdout(), "{}", plain_lines(line));
}

/// A line on standard error.
pub(super) fn say_error(line: &str) {
    let _ = writeln!(stderr(), "{}", plain_lines(line));
}

/// A value as JSON on standard output.
pub(super) fn say_json(value: &impl Serialize) -> Result<(), Complaint> {
    let json = serde_json::to_string_pretty(value).map_err(|error| Complaint::new(error.to_string()))?;
    let _ = writeln!(stdout(), "{}", plain_json(&json));
    Ok(())
}

/// Replaces the line that the cursor is on.
pub(super) fn say_in_place(text: &str) {
    let _ = write!(stdout(), "\r\x1b[2K{}", plain_lines(text));
    let _ = stdout().flush();
}
