//! Which images sandboxes may be of, and what they are called on the screen.
#![deny(clippy::disallowed_methods)]

/// Offered where the operator said nothing: two versions of each.
pub const DEFAULT_IMAGES: [&str; 8] = [
    "ubuntu:24.04",
    "ubuntu:22.04",
    "debian:13",
    "debian:12",
    "alpine:3.22",
    "alpine:3.21",
    "fedora:43",
    "fedora:42",
];

/// Characters of an image's reference: a registry, a path of some parts, a tag and a digest.
const REFERENCE_MAX: usize = 255;

/// One entry of the operator's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRule {
    /// This image; it is offered on the screen.
    Exact(String),
    /// Every image that begins so.
    Prefix(String),
}

impl ImageRule {
    /// Reads an entry: a reference, or the beginning of one with `*` behind it.
    pub fn parse(entry: &str) -> Option<Self> {
        match entry.strip_suffix('*') {
            Some("") => Some(Self::Prefix(String::new())),
            Some(beginning) => is_made_of_reference(beginning).then(|| Self::Prefix(beginning.to_owned())),
            None => is_reference(entry).then(|| Self::Exact(entry.to_owned())),
        }
    }

    /// Whether a sandbox may be of `image`.
    pub fn allows(&self, image: &str) -> bool {
        match self {
            Self::Exact(own) => own == image,
            Self::Prefix(beginning) => image.starts_with(beginning.as_str()),
        }
    }
}

/// Whether `image` can be the reference of an image: `[registry[:port]/]path[:tag][@digest]`, and nothing a command line would act on.
pub fn is_reference(image: &str) -> bool {
    is_made_of_reference(image)
        && image.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !["//", "::", "..", "@@", ":/", "/:"].iter().any(|pair| image.contains(pair))
}

fn is_made_of_reference(image: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@');
    (1..=REFERENCE_MAX).contains(&image.len())
        && image.starts_with(|c: char| c.is_ascii_alphanumeric())
        && image.chars().all(is_part)
}

/// How an image is shown: its name, its family (for an icon) and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `Ubuntu 24.04`.
    pub name: String,
    /// `ubuntu`.
    pub family: String,
    /// `24.04`; empty when the reference names none.
    pub version: String,
}

/// How `reference` is shown.
pub fn shown(reference: &str) -> Shown {
    let without_digest = reference.split('@').next().unwrap_or(reference);
    let last = without_digest.rsplit('/').next().unwrap_or(without_digest);
    let (family, version) = last.split_once(':').unwrap_or((last, ""));
    let mut letters = family.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let capital: String = first.into_iter().chain(letters).collect();
    let name = if version.is_empty() { capital } else { format!("{capital} {version}") };
    Shown { name, family: family.to_ascii_lowercase(), version: version.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ct_03_a_reference_carries_nothing_that_a_command_line_or_a_path_would_act_on() {
        let digest = format!("alpine@sha256:{}", "a".repeat(64));
        for good in ["ubuntu:24.04", "ghcr.io/acme/dev-tools:2", "localhost:5000/a/b", digest.as_str()] {
            assert!(is_reference(good), "{good}");
        }
        let long = "a".repeat(256);
        for bad in
            ["", "-v", "/etc", "../x", "a b", "a;b", "a$(b)", "a//b", "a:", "a/../b", "a\n", "é", &long]
        {
            assert!(!is_reference(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_operators_list_decides() {
        let rule = |entry| ImageRule::parse(entry).expect("an entry");
        assert!(rule("ubuntu:24.04").allows("ubuntu:24.04") && !rule("ubuntu:24.04").allows("ubuntu:24.040"));
        assert!(
            rule("ghcr.io/acme/*").allows("ghcr.io/acme/x:1")
                && !rule("ghcr.io/acme/*").allows("ghcr.io/evil")
        );
        assert!(rule("*").allows("anything:1"));
        assert_eq!(ImageRule::parse("a b*"), None);
        assert!(DEFAULT_IMAGES.iter().all(|image| is_reference(image)));
    }

    #[test]
    fn an_image_is_shown_by_its_own_name() {
        let ubuntu = Shown { name: "Ubuntu 24.04".into(), family: "ubuntu".into(), version: "24.04".into() };
        assert_eq!(shown("ubuntu:24.04"), ubuntu);
        let tools = Shown { name: "Dev-tools".into(), family: "dev-tools".into(), version: String::new() };
        assert_eq!(shown("localhost:5000/acme/dev-tools@sha256:abc"), tools);
    }
}
