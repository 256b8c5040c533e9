//! The broker's web server: viewers' WebSockets, whether it lives and can do its work, and its figures.
//!
//! It stands before the broker does: a broker that waits for its first welcome says so.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rexec_broker::{Broker, Counts};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::link::Status;

/// Time for the head of a request to arrive.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request head. Browsers send below 4 KiB.
const HEAD_MAX: usize = 32 * 1024;
/// Header fields of a request.
const HEADERS_MAX: usize = 64;
/// Connections at once, viewers included: a quarter more than viewers that one broker takes.
const CONNECTIONS_MAX: usize = 20_480;
/// After a failed accept (no descriptors left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What requests see.
#[derive(Clone)]
pub(crate) struct Web {
    broker: Arc<OnceLock<(Broker, Router)>>,
    status: watch::Receiver<Status>,
}

impl Web {
    pub(crate) fn new(status: watch::Receiver<Status>) -> Self {
        Self { broker: Arc::default(), status }
    }

    /// The broker is there.
    pub(crate) fn serve(&self, broker: &Broker) {
        // It is there once in the life of a process.
        let _ = self.broker.set((broker.clone(), broker.viewer_routes()));
    }

    fn broker(&self) -> Option<&Broker> {
        self.broker.get().map(|(broker, _)| broker)
    }
}

fn router(web: Web) -> Router {
    Router::new()
        .route("/viewer", any(viewer))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(nothing_here)
        .layer(middleware::from_fn(headers))
        .with_state(web)
}

async fn viewer(State(web): State<Web>, request: Request) -> Response {
    match web.broker.get() {
        Some((_, viewers)) => match viewers.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        },
        None => {
            let detail = "the broker waits for control's first welcome";
            problem(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail, "try again in a few seconds")
        }
    }
}

async fn nothing_here() -> Response {
    let hint = "the web app and the API are at control's address";
    problem(StatusCode::NOT_FOUND, "not_found", "a broker has nothing at this address", hint)
}

/// Problem details (RFC 9457): errors are JSON everywhere.
fn problem(status: StatusCode, code: &str, detail: &str, hint: &str) -> Response {
    let body = json!({
        "type": format!("https://rexec.dev/problems/{code}"),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
        "hint": hint,
    });
    let mut response = (status, Json(body)).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Ready is a broker that takes tunnels and viewers, also while control is away.
async fn readyz(State(web): State<Web>) -> (StatusCode, Json<Value>) {
    let word = |good| if good { "ok" } else { "failed" };
    let ready = web.broker().is_some_and(Broker::is_running);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks = json!({ "broker": word(ready), "control": word(web.status.borrow().linked) });
    (status, Json(json!({ "status": word(ready), "checks": checks })))
}

async fn metrics(State(web): State<Web>) -> Response {
    let counts = web.broker().map(Broker::counts).unwrap_or_default();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], exposition(counts, *web.status.borrow())).into_response()
}

/// OpenMetrics text: gauges as they are, counters with `_total`.
fn exposition(counts: Counts, status: Status) -> String {
    let gauges = [
        ("tunnels_up", "Tunnels that stand", counts.tunnels),
        ("streams_open", "Viewer streams that are open", counts.streams),
        ("viewers_held", "Viewers that wait for a tunnel", counts.held),
        ("handshakes", "Handshakes with agents under way", counts.handshakes),
        ("control_linked", "Whether the link to control stands", u64::from(status.linked)),
        ("others", "Other brokers that agents may go to", u64::from(status.others)),
    ];
    let counters = [
        ("tunnels", "Tunnels that ever stood", counts.tunnels_total),
        ("tunnels_refused", "Dials refused", counts.tunnels_refused_total),
        ("streams", "Viewer streams ever opened", counts.streams_total),
        ("viewers_refused", "Viewers refused", counts.viewers_refused_total),
        ("to_agents_bytes", "Bytes from viewers to agents", counts.bytes_to_agents_total),
        ("to_viewers_bytes", "Bytes from agents to viewers", counts.bytes_to_viewers_total),
        ("events_lost", "Stream events that control was too slow to take", counts.events_lost_total),
    ];
    let mut text = String::new();
    // Writing to a string does not fail.
    for (name, help, value) in gauges {
        let _ = write!(
            text,
            "# HELP rexec_broker_{name} {help}.\n# TYPE rexec_broker_{name} gauge\nrexec_broker_{name} {value}\n"
        );
    }
    for (name, help, value) in counters {
        let _ = write!(
            text,
            "# HELP rexec_broker_{name} {help}.\n# TYPE rexec_broker_{name} counter\nrexec_broker_{name}_total {value}\n"
        );
    }
    text.push_str("# EOF\n");
    text
}

async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Takes connections until `ending` is cancelled; those that stand are the broker's to end.
pub(crate) async fn accept(listener: TcpListener, web: Web, ending: CancellationToken) {
    let (router, room) = (router(web), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    loop {
        let accepted = tokio::select! {
            () = ending.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Small frames of terminals must not wait for each other; a socket that refuses works all the same.
                let _ = stream.set_nodelay(true);
                match Arc::clone(&room).try_acquire_owned() {
                    Ok(place) => drop(tokio::spawn(answer(stream, peer, router.clone(), place))),
                    Err(_) => tracing::debug!(%peer, "a connection too many was closed"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection, which counts until then; a viewer's WebSocket counts at the broker's own door.
async fn answer(stream: TcpStream, peer: SocketAddr, router: Router, _place: OwnedSemaphorePermit) {
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.map(axum::body::Body::new)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    // A peer that breaks off is no event.
    let _ = pin!(connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_openmetrics() {
        let text =
            exposition(Counts { tunnels: 3, tunnels_total: 7, ..Counts::default() }, Status::default());
        assert!(
            text.contains("\nrexec_broker_tunnels_up 3\n") || text.contains("rexec_broker_tunnels_up 3\n")
        );
        assert!(text.contains("# TYPE rexec_broker_tunnels counter\nrexec_broker_tunnels_total 7\n"));
        assert!(text.ends_with("# EOF\n") && !text.contains("\n\n"));
    }
}
