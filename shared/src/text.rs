//! Which characters of texts by others may be shown: asked wherever a text of an agent, a program or a stranger meets a person (THREATS OUT-04, OUT-06).
#![deny(clippy::disallowed_methods)]

/// Whether a character is shown as what it is: no control (C0, C1), nothing that reorders text, hides in it, or spells what nobody sees (tags).
pub fn is_shown(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}');
    !c.is_control() && !hidden
}

/// The shown characters of a text, at most `max` of them.
pub fn shown(text: &str, max: usize) -> String {
    text.chars().filter(|c| is_shown(*c)).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The forbidden set in its own words: C0, C1, what reorders, what has no width, and the tags that spell text nobody sees.
    fn deceives(c: char) -> bool {
        matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    }

    #[test]
    fn words_of_any_language_are_shown() {
        let text = "vim – 日本語 Ελληνικά עברית عربى 한국어 é 😀 \u{fffd}";
        assert_eq!(shown(text, 100), text);
    }

    proptest! {
        #[test]
        fn out_06_nothing_shown_is_a_control_a_direction_or_a_tag(
            pieces in prop::collection::vec(prop_oneof![
                any::<char>(), prop::char::range('\0', '\u{9f}'), prop::char::range('\u{200b}', '\u{206f}'), prop::char::range('\u{e0000}', '\u{e007f}'),
            ], 0..300),
            max in 0usize..200,
        ) {
            let text: String = pieces.iter().collect();
            let clean = shown(&text, max);
            prop_assert!(!clean.chars().any(deceives), "{:?}", clean);
            prop_assert!(clean.chars().count() <= max);
            prop_assert_eq!(shown(&clean, max), clean);
        }
    }
}
