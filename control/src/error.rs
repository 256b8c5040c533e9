//! What goes wrong, as RFC 9457 problem details.
//!
//! A handler returns an [`ApiError`]; [`crate::http`] is the one place that turns it into an answer and a log line. The source
//! of an error is logged and never sent.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use sea_orm::DbErr;
use serde::Serialize;
use utoipa::ToSchema;

use crate::db;
use crate::secret::NoRandomness;

/// Where problem types are described.
const TYPE_BASE: &str = "https://rexec.dev/problems/";

/// The body of every error: `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `https://rexec.dev/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The kind of problem, for programs: stable.
    pub code: String,
    /// What went wrong this time, for people.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The JSON field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Finds the line in the log.
    pub request_id: String,
}

/// A request that is not answered as asked.
#[derive(Clone)]
pub struct ApiError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: Option<String>,
    field: Option<String>,
    retry_after: Option<Duration>,
    source: Option<std::sync::Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// An error of `status`, named `code`.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            code,
            detail: detail.into(),
            hint: None,
            field: None,
            retry_after: None,
            source: None,
        }))
    }

    /// The object is not there, or not the caller's to know of: both look the same.
    pub fn not_found(object: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {object}"))
    }

    /// The caller is not signed in.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_signed_in", "nobody is signed in here")
            .hint("sign in, then try again")
    }

    /// The caller may not do this.
    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// A field holds what it may not.
    pub fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail).field(field)
    }

    /// A count is at its limit.
    pub fn limit_reached(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "limit_reached", detail)
    }

    /// Too many requests; more are looked at after `wait`.
    pub fn rate_limited(wait: Duration) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many attempts")
            .hint("wait, then try again");
        error.0.retry_after = Some(wait);
        error
    }

    /// Our own fault.
    pub fn internal(source: impl Error + Send + Sync + 'static) -> Self {
        let mut error = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong on our side; the log has it under the request id",
        );
        error.0.source = Some(std::sync::Arc::new(source));
        error
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Names the JSON field at fault.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// The error for a status that a library answered with, without words of its own.
    pub fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::NOT_FOUND => ("not_found", "nothing is served at this address"),
            StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "this address does not know the method"),
            StatusCode::REQUEST_TIMEOUT => ("too_slow", "the request did not arrive in time"),
            StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "the body exceeds 65536 bytes"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                ("unsupported_media_type", "the body must be application/json")
            }
            StatusCode::UPGRADE_REQUIRED => ("upgrade_required", "this address speaks WebSocket only"),
            StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "not ready to answer"),
            status if status.is_server_error() => ("internal", "something went wrong on our side"),
            _ => ("bad_request", "the request makes no sense here"),
        };
        Self::new(status, code, detail)
    }

    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable name.
    pub const fn code(&self) -> &'static str {
        self.0.code
    }

    /// Seconds after which to come again, at least one.
    pub fn retry_after_s(&self) -> Option<u64> {
        self.0.retry_after.map(|wait| wait.as_secs().saturating_add(1))
    }

    /// What caused it, with its own causes, for the log.
    pub fn chain(&self) -> Option<String> {
        let mut next: Option<&dyn Error> = self.0.source.as_ref().map(|source| source.as_ref() as &dyn Error);
        let mut causes = Vec::new();
        while let Some(error) = next {
            causes.push(error.to_string());
            next = error.source();
        }
        (!causes.is_empty()).then(|| causes.join(": "))
    }

    /// The body to answer with.
    pub fn problem(&self, request_id: &str) -> Problem {
        Problem {
            kind: format!("{TYPE_BASE}{}", self.0.code),
            title: self.0.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.0.status.as_u16(),
            code: self.0.code.to_owned(),
            detail: self.0.detail.clone(),
            hint: self.0.hint.clone(),
            field: self.0.field.clone(),
            request_id: request_id.to_owned(),
        }
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.status.as_u16(), self.0.code, self.0.detail)?;
        self.chain().map_or(Ok(()), |chain| write!(f, " ({chain})"))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl Error for ApiError {}

impl From<DbErr> for ApiError {
    fn from(source: DbErr) -> Self {
        if !db::is_full(&source) {
            return Self::internal(source);
        }
        let mut error = Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "storage_full",
            "the server's disk is full, so nothing can be written down",
        )
        .hint("sessions in progress go on; make room on the server, then try again");
        error.0.source = Some(std::sync::Arc::new(source));
        error
    }
}

impl From<NoRandomness> for ApiError {
    fn from(source: NoRandomness) -> Self {
        Self::internal(source)
    }
}

impl IntoResponse for ApiError {
    /// Carries the error to [`crate::http::answer`], which writes the body.
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn st_07_the_source_of_an_error_is_logged_and_never_sent() {
        let error = ApiError::internal(std::io::Error::other("canary"));
        let body = serde_json::to_string(&error.problem("r1")).expect("a problem is JSON");
        assert!(!body.contains("canary"), "{body}");
        assert_eq!(error.chain().as_deref(), Some("canary"));
    }

    #[test]
    fn retry_after_is_never_zero() {
        assert_eq!(ApiError::rate_limited(Duration::from_millis(10)).retry_after_s(), Some(1));
    }
}
