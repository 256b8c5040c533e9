//! See `words.rs`.

pub(crate) const TITLE_MAX: usize = super::title::TITLE_MAX;

pub(crate) fn sanitise(text: &str) -> String {
    super::title::sanitise(text)
}
