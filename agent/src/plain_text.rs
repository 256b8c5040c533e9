//! Texts of others, made harmless for a terminal (THREATS MA-08, OUT-06), and facts about this machine in the grammar control takes.
#![deny(clippy::disallowed_methods)]

use std::fmt::Write;

use rexec_shared::enrol::MachineFacts;
use rexec_shared::text::is_shown;

/// Longest text of another party shown in one place, characters.
const PLAIN_MAX: usize = 300;
/// Longest host name told, bytes (RFC 1035 §2.3.4).
const HOSTNAME_MAX: usize = 63;

/// The text with a mark in place of each character that is not shown as what it is, cut to a bearable length.
pub fn plain(text: &str) -> String {
    text.chars().map(marked).take(PLAIN_MAX).collect()
}

/// The same for lines of our own: they are ended where we ended them, and not cut.
pub fn plain_lines(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { marked(c) }).collect()
}

fn marked(c: char) -> char {
    if is_shown(c) { c } else { '\u{fffd}' }
}

/// JSON with the same characters escaped, so that nothing is lost to a program and nothing happens to a terminal. They stand within strings alone.
pub fn plain_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || is_shown(c) {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A string takes whatever is written to it.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

/// A name in the grammar `[a-zA-Z0-9._-]{1,63}`; what does not fit is left out.
pub fn hostname_of(raw: &str) -> String {
    let fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = raw.chars().filter(fit).take(HOSTNAME_MAX).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

/// What this machine says of itself.
pub fn machine_facts() -> MachineFacts {
    let hostname = hostname::get().unwrap_or_default();
    MachineFacts {
        os: std::env::consts::OS.into(),
        arch: std::env::consts::ARCH.into(),
        hostname: hostname_of(&hostname.to_string_lossy()),
        agent_version: env!("CARGO_PKG_VERSION").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ma_08_a_text_of_others_cannot_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{202e}d"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}d");
        assert_eq!(plain(&"x".repeat(1000)).len(), 300);
    }

    proptest! {
        #[test]
        fn out_06_no_text_of_others_turns_hides_or_drives_anything(
            pieces in prop::collection::vec(prop_oneof![
                any::<char>(), prop::char::range('\0', '\u{9f}'), Just('\u{61c}'), prop::char::range('\u{200b}', '\u{206f}'),
                prop::char::range('\u{e0000}', '\u{e007f}'),
            ], 0..200),
        ) {
            let text: String = pieces.iter().collect();
            prop_assert!(plain(&text).chars().all(is_shown));
            prop_assert_eq!(plain(&text).chars().count(), pieces.len(), "a mark for each, so that nobody misses what was there");
            prop_assert!(plain_lines(&text).chars().all(|c| c == '\n' || is_shown(c)));
            let json = plain_json(&serde_json::to_string_pretty(&[&text]).unwrap());
            prop_assert!(json.chars().all(|c| c == '\n' || is_shown(c)));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), vec![text]);
        }
    }

    #[test]
    fn ma_08_a_host_name_is_told_in_the_grammar_that_is_taken() {
        assert_eq!(hostname_of("my\u{1b}[0m-host,=cmd"), "my0m-hostcmd");
        assert_eq!(hostname_of("\n"), "unknown");
        assert_eq!(hostname_of(&"h".repeat(100)).len(), 63);
    }
}
