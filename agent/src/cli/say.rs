//! The one place that writes to the terminal. A closed pipe is nobody's failure, so errors of writing are dropped.

use std::io::{Write, stderr, stdout};

/// A line on standard output.
pub(super) fn say(line: &str) {
    let _ = writeln!(stdout(), "{line}");
}

/// A line on standard error.
pub(super) fn say_error(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Replaces the line that the cursor is on.
pub(super) fn say_in_place(text: &str) {
    let _ = write!(stdout(), "\r\x1b[2K{text}");
    let _ = stdout().flush();
}
