//! Texts of others, made harmless for a terminal (THREATS MA-08), and facts about this machine in the grammar control takes.
#![deny(clippy::disallowed_methods)]

use rexec_shared::enrol::MachineFacts;

/// Longest text of another party shown in one place, characters.
const PLAIN_MAX: usize = 300;
/// Longest host name told, bytes (RFC 1035 §2.3.4).
const HOSTNAME_MAX: usize = 63;

/// The text without control characters or direction overrides, cut to a bearable length.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { '\u{fffd}' }).take(PLAIN_MAX).collect()
}

fn is_harmless(c: char) -> bool {
    let overrides = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !overrides
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

    #[test]
    fn ma_08_a_text_of_others_cannot_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\nc\u{202e}d"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}d");
        assert_eq!(plain(&"x".repeat(1000)).len(), 300);
    }

    #[test]
    fn ma_08_a_host_name_is_told_in_the_grammar_that_is_taken() {
        assert_eq!(hostname_of("my\u{1b}[0m-host,=cmd"), "my0m-hostcmd");
        assert_eq!(hostname_of("\n"), "unknown");
        assert_eq!(hostname_of(&"h".repeat(100)).len(), 63);
    }
}
