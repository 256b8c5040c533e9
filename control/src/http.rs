//! What surrounds every request: its id, its log line, its answer when something went wrong, and the headers every answer has.

use std::any::Any;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use uuid::Uuid;

use crate::app::App;
use crate::auth::client_ip::ClientIp;
use crate::error::ApiError;

/// Answers with the id of the request, which is ours: an id sent in is not believed.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Headers every answer carries unless the handler said otherwise (THREATS WS-04).
const ALWAYS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
];

/// The outermost layer.
pub async fn answer(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = Uuid::now_v7().to_string();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let ip = ClientIp::of(&request, app.settings());
    request.extensions_mut().insert(ip);

    let mut response = next.run(request).await;
    let error = error_of(&response);
    if let Some(error) = &error {
        response = problem_response(error, &id, &response);
    }
    put_headers(&mut response, &id);
    app.metrics().request(&method, &route, response.status(), started.elapsed());
    log(&id, &method, &route, ip, &response, error.as_ref(), started);
    response
}

/// The error an answer stands for: a handler's own, or that of a library which answered in plain text.
fn error_of(response: &Response) -> Option<ApiError> {
    if let Some(error) = response.extensions().get::<ApiError>() {
        return Some(error.clone());
    }
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let has_own_body = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| !kind.as_bytes().starts_with(b"text/plain"));
    (is_error && !has_own_body).then(|| ApiError::of_status(status))
}

fn problem_response(error: &ApiError, id: &str, original: &Response) -> Response {
    let body = serde_json::to_vec(&error.problem(id)).unwrap_or_default();
    let mut response = (error.status(), body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, PROBLEM_JSON);
    if let Some(seconds) = error.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.status() == StatusCode::METHOD_NOT_ALLOWED
        && let Some(allowed) = original.headers().get(header::ALLOW)
    {
        response.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    response
}

fn put_headers(response: &mut Response, id: &str) {
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
}

fn log(
    id: &str,
    method: &Method,
    route: &str,
    ip: ClientIp,
    response: &Response,
    error: Option<&ApiError>,
    started: Instant,
) {
    let status = response.status().as_u16();
    let ms = started.elapsed().as_millis();
    let code = error.map_or("-", ApiError::code);
    match error.and_then(ApiError::chain) {
        Some(chain) => {
            tracing::error!(request = id, %method, route, status, code, %ip, ms, error = chain, "request failed");
        }
        None if status >= 500 => {
            tracing::warn!(request = id, %method, route, status, code, %ip, ms, "request")
        }
        None => tracing::debug!(request = id, %method, route, status, code, %ip, ms, "request"),
    }
}

/// What a handler's panic becomes: the words of a panic may hold anything, so they stay in the log.
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let words = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
        .to_owned();
    ApiError::internal(Panicked(words)).into_response()
}

#[derive(Debug, thiserror::Error)]
#[error("a handler panicked: {0}")]
struct Panicked(String);
