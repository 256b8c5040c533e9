//! Why a step was not taken, as it is written down for people.

use rexec_sandbox::{EngineError, ErrorKind};
use serde_json::Value;

use super::StepError;
use crate::entity::SandboxState;
use crate::sandboxes::view::SandboxProblem;

/// The code of the problem of a preset that failed.
pub(super) const NOT_SET_UP: &str = "not_set_up";

/// What is told of a preset that did not come to a good end. An engine that is away is nobody's fault, and it is run again.
pub(super) fn not_set_up(
    name: &str,
    ended: Result<i64, EngineError>,
    last: Option<String>,
) -> Result<Option<SandboxProblem>, EngineError> {
    let why = match ended {
        Ok(0) => return Ok(None),
        Ok(code) => format!("exit code {code}"),
        Err(error) if error.kind == ErrorKind::TooSlow => error.said,
        Err(error) => return Err(error),
    };
    let last = last.map(|line| format!(": {line}")).unwrap_or_default();
    Ok(Some(SandboxProblem {
        code: NOT_SET_UP.to_owned(),
        detail: format!("{name} was not set up ({why}){last}"),
        hint: "the sandbox works all the same; /var/log/rexec-preset.log in it has all that was said"
            .to_owned(),
        step: SandboxState::SettingUp,
    }))
}

/// What no second try can mend.
pub(super) fn is_hopeless(error: &EngineError) -> bool {
    matches!(error.kind, ErrorKind::ImageMissing | ErrorKind::PullDenied | ErrorKind::NoSpace)
}

/// The problem as it is written down.
pub(super) fn problem_of(error: &StepError, step: SandboxState) -> Value {
    let (code, hint) = match error {
        StepError::Engine(error) => match error.kind {
            ErrorKind::ImageMissing => ("image_missing", "check the image's name and version"),
            ErrorKind::PullDenied => (
                "pull_denied",
                "the registry lets nobody fetch it: use another image, or have the operator fetch it",
            ),
            ErrorKind::NoSpace => {
                ("no_space", "the engine's disk is full: delete what is not needed, or ask the operator")
            }
            ErrorKind::Conflict => {
                ("conflict", "something else on the engine is in the way; it is tried again")
            }
            ErrorKind::Unreachable | ErrorKind::TooSlow => {
                ("engine_away", "what was begun goes on when the engine is back")
            }
            ErrorKind::NotFound | ErrorKind::Refused => ("refused", "the engine refused; it is tried again"),
        },
        StepError::Database(_) | StepError::Api(_) | StepError::Stale | StepError::NotYet => {
            ("internal", "the log says more; it is tried again")
        }
    };
    let detail = match error {
        StepError::Engine(error) => error.said.clone(),
        StepError::Database(_) | StepError::Api(_) | StepError::Stale | StepError::NotYet => {
            "something went wrong on our side".to_owned()
        }
    };
    serde_json::json!(SandboxProblem { code: code.to_owned(), detail, hint: hint.to_owned(), step })
}
