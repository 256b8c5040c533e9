//! What a command says when it fails: what is wrong, what to do, and the exit code.

use std::process::ExitCode;

use crate::control_api::ControlError;
use crate::enrolment::EnrolError;
use crate::host::HostError;
use crate::state::StateError;
use crate::supervisor::SupervisorError;
use crate::uplink::dial::StopReason;

use super::say::say_error;

/// A failure, ready for a person.
#[derive(Debug)]
pub(super) struct Complaint {
    what: String,
    hint: Option<String>,
    exit: u8,
}

impl Complaint {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, exit: 1 }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// Nothing is registered under this profile.
    pub(super) fn not_registered() -> Self {
        Self::new("this machine is not registered").hint("run `rexec-agent register --name NAME` first")
    }

    /// Shows it on standard error.
    pub(super) fn show(&self) -> ExitCode {
        say_error(&format!("error: {}", self.what));
        if let Some(hint) = &self.hint {
            say_error(&format!("  hint: {hint}"));
        }
        ExitCode::from(self.exit)
    }
}

impl From<StateError> for Complaint {
    fn from(error: StateError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<ControlError> for Complaint {
    fn from(error: ControlError) -> Self {
        let complaint = Self::new(error.to_string());
        match error.hint() {
            Some(hint) => complaint.hint(hint),
            None => complaint,
        }
    }
}

impl From<EnrolError> for Complaint {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Control(error) => error.into(),
            error @ (EnrolError::NotAToken
            | EnrolError::Denied
            | EnrolError::Expired
            | EnrolError::State(_)
            | EnrolError::Key(_)
            | EnrolError::Tls(_)
            | EnrolError::Answer(_)) => Self::new(error.to_string()),
        }
    }
}

impl From<SupervisorError> for Complaint {
    fn from(error: SupervisorError) -> Self {
        match error {
            SupervisorError::NotRegistered => Self::not_registered(),
            SupervisorError::AlreadyRunning => Self::new("the agent runs already")
                .hint("`rexec-agent status` says how it fares, `rexec-agent stop` ends it"),
            SupervisorError::Host(HostError::Revoked) => Self::new(StopReason::Revoked.explain()),
            error @ (SupervisorError::State(_)
            | SupervisorError::TicketKey
            | SupervisorError::Signals(_)
            | SupervisorError::Host(HostError::Socket(_) | HostError::Failed(_))) => {
                Self::new(error.to_string())
            }
        }
    }
}
