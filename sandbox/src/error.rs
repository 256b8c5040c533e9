//! Why an engine did not do what it was asked.

use bollard::errors::Error;
use rexec_shared::text::shown;
use thiserror::Error as ThisError;

/// Longest explanation of an engine that is kept, characters.
const SAID_MAX: usize = 300;

/// Why an engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{said}")]
pub struct EngineError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What the engine said, fit to be shown anywhere.
    pub said: String,
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nobody listens there, or nobody answers.
    Unreachable,
    /// There is no such container, volume or network.
    NotFound,
    /// It cannot be done in this state.
    Conflict,
    /// No registry has this image.
    ImageMissing,
    /// A registry does not give this image to us, or is not reached.
    PullDenied,
    /// No disk left.
    NoSpace,
    /// Not within the deadline.
    TooSlow,
    /// Anything else the engine refused.
    Refused,
}

impl EngineError {
    pub(crate) fn new(kind: ErrorKind, said: &str) -> Self {
        Self { kind, said: shown(said, SAID_MAX) }
    }

    /// The same failure, of a pull.
    pub(crate) fn of_pull(self) -> Self {
        let said = self.said.to_ascii_lowercase();
        let missing = ["not found", "manifest unknown", "no such image", "does not exist"];
        let kind = match self.kind {
            ErrorKind::NotFound => ErrorKind::ImageMissing,
            ErrorKind::Refused | ErrorKind::Conflict if missing.iter().any(|text| said.contains(text)) => {
                ErrorKind::ImageMissing
            }
            ErrorKind::Refused | ErrorKind::Conflict => ErrorKind::PullDenied,
            kind @ (ErrorKind::Unreachable
            | ErrorKind::ImageMissing
            | ErrorKind::PullDenied
            | ErrorKind::NoSpace
            | ErrorKind::TooSlow) => kind,
        };
        Self { kind, ..self }
    }

    /// Whether what was asked for is gone already.
    pub(crate) fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        if let Error::DockerResponseServerError { status_code, message } = &error {
            return Self::new(kind_of(*status_code, message), message);
        }
        if let Error::DockerStreamError { error } = &error {
            return Self::new(kind_of(500, error), error);
        }
        if matches!(error, Error::RequestTimeoutError) {
            return Self::new(ErrorKind::TooSlow, "the engine did not answer in time");
        }
        Self::new(ErrorKind::Unreachable, &format!("the engine is not reached: {error}"))
    }
}

/// What an answer means, by its status and, where that says too little, by its words.
fn kind_of(status: u16, said: &str) -> ErrorKind {
    match status {
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        _ if said.contains("no space left") => ErrorKind::NoSpace,
        _ => ErrorKind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> EngineError {
        Error::DockerResponseServerError { status_code, message: message.into() }.into()
    }

    #[test]
    fn what_an_engine_says_has_a_kind_and_carries_no_escapes() {
        assert_eq!(answer(404, "No such container").kind, ErrorKind::NotFound);
        assert_eq!(answer(500, "write: no space left on device").kind, ErrorKind::NoSpace);
        assert_eq!(answer(404, "manifest unknown").of_pull().kind, ErrorKind::ImageMissing);
        assert_eq!(answer(500, "pull access denied").of_pull().kind, ErrorKind::PullDenied);
        let hostile = answer(500, "\u{1b}]0;x\u{7}evil").said;
        assert!(!hostile.contains('\u{1b}'), "{hostile:?}");
        assert_eq!(answer(500, &"x".repeat(5_000)).said.len(), SAID_MAX);
    }
}
