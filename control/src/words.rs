//! Text from outside: what is let in, and in which form (THREATS MA-08).
#![deny(clippy::disallowed_methods)]

use rexec_shared::text;

/// Longest name of a machine, characters: a DNS label.
pub const NAME_MAX: usize = 63;

/// The grammar of names, for whoever broke it.
pub const NAME_GRAMMAR: &str =
    "1 to 63 letters, digits, dots, underscores and dashes, beginning with a letter or digit";

/// Whether `name` can be a host alias, a file name and a DNS label alike: `[a-zA-Z0-9._-]`, beginning with a letter or digit.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// `said`, made harmless: every character outside the grammar of names becomes `-`, and the end is cut off.
pub fn tame(said: &str) -> String {
    said.chars().take(NAME_MAX).map(|c| if is_name_char(c) { c } else { '-' }).collect()
}

/// `said` without control and invisible characters, at most `max` characters.
pub fn printable(said: &str, max: usize) -> String {
    text::shown(said, max).trim().to_owned()
}

/// The first of `name`, `name-2`, `name-3` … that is not `taken`, within [`NAME_MAX`].
pub fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2u32;
    while taken(&candidate) {
        let suffix = format!("-{number}");
        let kept = name.get(..NAME_MAX.saturating_sub(suffix.len()).min(name.len())).unwrap_or(name);
        candidate = format!("{kept}{suffix}");
        number += 1;
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ma_08_names_carry_nothing_that_any_sink_would_act_on() {
        for good in ["my-laptop", "a", "web_1.example", "9front"] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(64);
        for bad in
            ["", "-oProxyCommand", ".hidden", "a b", "a\n", "<b>", "=cmd()", "é", "\u{1b}[2J", long.as_str()]
        {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn out_06_tags_and_directions_are_left_out_of_what_is_kept() {
        assert_eq!(printable(" a\u{e0041}\u{61c}\u{202e}\u{9b}b ", 10), "ab");
    }

    #[test]
    fn a_taken_name_gets_a_number_within_the_limit() {
        assert_eq!(free_name("web", |_| false), "web");
        assert_eq!(free_name("web", |name| ["web", "web-2"].contains(&name)), "web-3");
        let long = "a".repeat(63);
        let free = free_name(&long, |name| name == long);
        assert_eq!((free.len(), free.ends_with("-2")), (63, true));
    }

    proptest::proptest! {
        #[test]
        fn ma_08_metadata_is_inert(said in "\\PC*|.*") {
            proptest::prop_assert!(tame(&said).chars().all(is_name_char));
            proptest::prop_assert!(tame(&said).chars().count() <= NAME_MAX);
            let shown = printable(&said, 100);
            proptest::prop_assert!(shown.chars().count() <= 100 && shown.chars().all(text::is_shown));
        }
    }
}
