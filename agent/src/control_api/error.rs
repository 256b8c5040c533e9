//! Why control did not do as asked, and what the person at the keyboard can do about it.

use thiserror::Error;
use url::Url;

use crate::plain_text::plain;

/// Control's own refusal (RFC 9457). Its texts come from the network: shown only through [`plain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: String,
    /// What was wrong with this request.
    pub detail: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Why a request to control failed.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No connection, or none in time.
    #[error("cannot reach {server}: {reason}")]
    Unreachable {
        /// Whom.
        server: Url,
        /// Why.
        reason: String,
    },
    /// Its certificate, or TLS as such.
    #[error("cannot trust {server}: {reason}")]
    Tls {
        /// Whom.
        server: Url,
        /// Why.
        reason: String,
    },
    /// It sends us elsewhere.
    #[error("{server} redirects to {}", if location.is_empty() { "another page" } else { location })]
    Redirected {
        /// Who.
        server: Url,
        /// The base URL it leads to; empty when it leads to something else.
        location: String,
    },
    /// Something answered, but not control.
    #[error("{server} answered (HTTP {status}), but not as a Rexec installation does")]
    NotRexec {
        /// Who.
        server: Url,
        /// Its HTTP status.
        status: u16,
    },
    /// Control refused.
    #[error("{}", plain(&.0.detail))]
    Refused(Problem),
}

impl ControlError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => {
                Some("check the address (--server URL), the network, and that the server runs".into())
            }
            Self::Tls { reason, .. } => Some(tls_hint(reason).into()),
            Self::Redirected { location, .. } if location.is_empty() => {
                Some("check the address: --server URL".into())
            }
            Self::Redirected { location, .. } => Some(format!("use --server {location}")),
            Self::NotRexec { .. } => {
                Some("check the address: --server URL is the page where you sign in to Rexec".into())
            }
            Self::Refused(problem) => refusal_hint(problem),
        }
    }

    /// Control's stable code, when it was control that refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.code),
            Self::Unreachable { .. } | Self::Tls { .. } | Self::Redirected { .. } | Self::NotRexec { .. } => {
                None
            }
        }
    }

    /// Whether the same request may do better in a while, by nobody's action.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::NotRexec { status, .. } => *status >= 500,
            Self::Refused(problem) => problem.status >= 500 || problem.status == 429,
            Self::Tls { .. } | Self::Redirected { .. } => false,
        }
    }

    pub(super) fn from_transport(server: &Url, error: ureq::Error) -> Self {
        let server = server.clone();
        let reason = describe(&error);
        match tls_failure(&error) {
            Some(reason) => Self::Tls { server, reason },
            None => Self::Unreachable { server, reason },
        }
    }
}

fn describe(error: &ureq::Error) -> String {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign non-exhaustive enum; the rest speaks for itself"
    )]
    match error {
        ureq::Error::Timeout(_) => "no answer in time".into(),
        ureq::Error::HostNotFound => "its name is unknown".into(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// rustls' error wherever it hides: bare, or inside the I/O error of the socket it wrapped.
fn tls_failure(error: &ureq::Error) -> Option<String> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign non-exhaustive enum; the rest is no TLS failure"
    )]
    match error {
        ureq::Error::Rustls(error) => Some(error.to_string()),
        ureq::Error::Io(error) => {
            error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).map(ToString::to_string)
        }
        _ => None,
    }
}

fn tls_hint(reason: &str) -> &'static str {
    if reason.contains("Expired") || reason.contains("NotValidYet") || reason.contains("not valid yet") {
        "its certificate is out of date, or this machine's clock is wrong: compare `date` with another clock"
    } else if reason.contains("UnknownIssuer") {
        "its certificate is signed by nobody this machine knows; for an authority of your own set SSL_CERT_FILE to its PEM file"
    } else if reason.contains("NotValidForName") || reason.contains("not valid for") {
        "its certificate is for another name: check --server URL"
    } else if reason.contains("corrupt message") {
        "the server does not speak TLS on that port: check the port, or use http:// if you mean it"
    } else {
        "check --server URL, and that nothing between here and the server intercepts TLS"
    }
}

fn refusal_hint(problem: &Problem) -> Option<String> {
    let ours = match problem.code.as_str() {
        "join_token_invalid" => {
            "make a new token in the dashboard (Machines, Add a machine), or leave --token-file away to approve in the browser"
        }
        "machine_revoked" => {
            "the machine was removed in the dashboard; `rexec-agent unregister --local`, then register anew"
        }
        "machine_unknown" => {
            "the server knows no such machine; `rexec-agent unregister --local`, then register anew"
        }
        "rate_limited" => "wait a minute and try again",
        _ => return problem.hint.as_deref().map(plain),
    };
    Some(ours.into())
}
