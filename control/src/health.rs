//! Whether the process lives, and whether it can do its work.

use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Serialize;

use crate::app::App;

/// A check that takes longer has failed.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// `/healthz` and `/readyz`.
pub fn routes() -> Router<App> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// The process lives.
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    database: &'static str,
    broker: &'static str,
    web: &'static str,
}

/// Everything a request may need is really tried.
async fn readyz(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let database = matches!(tokio::time::timeout(CHECK_WITHIN, app.db().ping()).await, Ok(Ok(())));
    let broker = !app.parts().ending.is_cancelled()
        && app.parts().feeds.is_running()
        && app.parts().broker.as_ref().is_none_or(rexec_broker::Broker::is_running);
    let web = app.parts().web.is_here().await;
    let ready = database && broker && web;
    let checks = Checks { database: word(database), broker: word(broker), web: word(web) };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { status: word(ready), checks }))
}

const fn word(good: bool) -> &'static str {
    if good { "ok" } else { "failed" }
}
