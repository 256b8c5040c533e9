//! E-mail addresses as they are found, counted and kept unique.
//!
//! Normalising comes before everything else: `Bob@x.org`, ` bob@X.org` and its full-width spelling are one account with one
//! counter (THREATS BU-06).
#![deny(clippy::disallowed_methods)]

use unicode_normalization::UnicodeNormalization as _;

/// Longest address, bytes (RFC 5321 §4.5.3.1.3).
const EMAIL_MAX: usize = 254;

/// The normal form: compatibility-composed, trimmed, lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EmailKey(String);

impl EmailKey {
    /// The normal form of whatever was typed; it need not be an address.
    pub fn of(typed: &str) -> Self {
        let composed: String = typed.chars().take(EMAIL_MAX).nfkc().collect();
        Self(composed.trim().to_lowercase().nfkc().collect())
    }

    /// As it stands in the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it could be an address: something, one `@`, a host.
    pub fn is_plausible(&self) -> bool {
        let bad = |c: char| c.is_whitespace() || c.is_control();
        let parts = self.0.rsplit_once('@');
        self.0.len() <= EMAIL_MAX
            && !self.0.contains(bad)
            && parts.is_some_and(|(local, host)| {
                !local.is_empty()
                    && !local.contains('@')
                    && !host.is_empty()
                    && !host.starts_with('.')
                    && !host.ends_with('.')
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bu_06_spellings_of_one_address_are_one_account() {
        let bob = EmailKey::of("bob@x.org");
        for spelling in ["Bob@x.org", " bob@X.ORG ", "bob@x.org\n", "ｂｏｂ@x.org", "BOB@Ｘ.org"] {
            assert_eq!(EmailKey::of(spelling), bob, "{spelling}");
        }
        assert_ne!(EmailKey::of("bob2@x.org"), bob);
    }

    #[test]
    fn an_address_has_two_sides() {
        for good in ["a@b", "a.b+c@x.org", "ü@ü.de"] {
            assert!(EmailKey::of(good).is_plausible(), "{good}");
        }
        for bad in ["", "a", "@b", "a@", "a@@b", "a b@c", "a@b.", "a@.b"] {
            assert!(!EmailKey::of(bad).is_plausible(), "{bad}");
        }
        assert!(!EmailKey::of(&format!("{}@b", "ß".repeat(300))).is_plausible());
    }

    proptest::proptest! {
        #[test]
        fn normalising_twice_changes_nothing(typed in "\\PC{0,40}") {
            let once = EmailKey::of(&typed);
            proptest::prop_assert_eq!(EmailKey::of(once.as_str()), once);
        }
    }
}
