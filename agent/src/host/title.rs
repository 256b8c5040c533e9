//! Titles that programs set: untrusted text shown beside our own (THREATS OUT-04).
#![deny(clippy::disallowed_methods)]

/// Longest title, characters.
pub(super) const TITLE_MAX: usize = 128;

/// The printable characters of a title, at most [`TITLE_MAX`]: no controls, nothing that reorders or hides text.
pub(super) fn sanitise(title: &str) -> String {
    title.chars().filter(|c| is_shown(*c)).take(TITLE_MAX).collect()
}

fn is_shown(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}');
    !c.is_control() && !hidden
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

    /// C0, C1, what reorders, what hides, and the tags that spell text nobody sees.
    fn deceives(c: char) -> bool {
        matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    }

    proptest! {
        #[test]
        fn out_06_no_title_holds_a_control_a_direction_or_a_tag(
            pieces in prop::collection::vec(prop_oneof![
                any::<char>(), prop::char::range('\0', '\u{9f}'), prop::char::range('\u{200b}', '\u{206f}'), prop::char::range('\u{e0000}', '\u{e007f}'),
            ], 0..300),
        ) {
            let title: String = pieces.iter().collect();
            let clean = sanitise(&title);
            prop_assert!(!clean.chars().any(deceives), "{:?}", clean);
            prop_assert!(clean.chars().count() <= TITLE_MAX);
            let kept: String = title.chars().filter(|c| is_shown(*c)).take(TITLE_MAX).collect();
            prop_assert_eq!(clean, kept, "and nothing is added");
        }

        #[test]
        fn no_title_holds_a_control_character(title in any::<String>()) {
            let clean = sanitise(&title);
            prop_assert!(clean.chars().count() <= TITLE_MAX);
            prop_assert!(!clean.chars().any(char::is_control));
            prop_assert_eq!(sanitise(&clean), clean);
        }
    }
}
