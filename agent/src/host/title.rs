//! Titles that programs set: untrusted text shown beside our own (THREATS OUT-04).
#![deny(clippy::disallowed_methods)]

use rexec_shared::text;

/// Longest title, characters.
pub(super) const TITLE_MAX: usize = 128;

/// The printable characters of a title, at most [`TITLE_MAX`]: no controls, nothing that reorders or hides text.
pub(super) fn sanitise(title: &str) -> String {
    text::shown(title, TITLE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn out_04_a_title_keeps_its_words_and_loses_what_deceives() {
        assert_eq!(sanitise("vim – 日本語.txt"), "vim – 日本語.txt");
        assert_eq!(sanitise("a\u{202e}b\u{200b}c\x1b[31m\u{e0041}\u{feff}"), "abc[31m");
        assert_eq!(sanitise(&"x".repeat(1000)).len(), TITLE_MAX);
    }

    proptest! {
        #[test]
        fn no_title_holds_a_control_character(title in any::<String>()) {
            let clean = sanitise(&title);
            prop_assert!(clean.chars().count() <= TITLE_MAX);
            prop_assert!(!clean.chars().any(char::is_control));
            prop_assert_eq!(sanitise(&clean), clean);
        }
    }
}
