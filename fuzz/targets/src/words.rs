//! Texts of others, made harmless for a terminal, a title bar or a page.

use crate::host::words::{TITLE_MAX, sanitise};

/// The agent's texts of others.
#[path = "../../../agent/src/plain_text.rs"]
#[allow(dead_code, unreachable_pub, reason = "public in the agent")]
mod plain_text;

/// Control's texts from outside.
#[path = "../../../control/src/words.rs"]
#[allow(dead_code, unreachable_pub, reason = "public in control")]
mod control;

const MAX: usize = 100;

pub(crate) fn target(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let plain = plain_text::plain(&text);
    harmless(&plain, 300);
    assert_eq!(plain_text::plain(&plain), plain);
    let lines = plain_text::plain_lines(&text);
    harmless(&lines.replace('\n', ""), usize::MAX);
    assert_eq!(lines.matches('\n').count(), text.matches('\n').count(), "lines end where they ended");
    json(&text);
    let title = sanitise(&text);
    harmless(&title, TITLE_MAX);
    assert_eq!(sanitise(&title), title);
    harmless(&control::printable(&text, MAX), MAX);
    let tame = control::tame(&text);
    assert!(tame.len() <= control::NAME_MAX && tame.bytes().all(is_name_byte), "{tame:?}");
    let hostname = plain_text::hostname_of(&text);
    assert!((1..=63).contains(&hostname.len()) && hostname.bytes().all(is_name_byte), "{hostname:?}");
}

/// What JSON says is the same after it was made harmless.
fn json(text: &str) {
    let quoted = serde_json::Value::from(text).to_string();
    let plain = plain_text::plain_json(&quoted);
    harmless(&plain, usize::MAX);
    assert_eq!(serde_json::from_str(&plain).ok(), Some(serde_json::Value::from(text)));
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

/// Nothing that a terminal obeys, and nothing that turns the text around.
fn harmless(text: &str, max: usize) {
    assert!(text.chars().count() <= max, "{} characters", text.chars().count());
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!text.chars().any(|c| c.is_control() || turns(c)), "{text:?}");
}
