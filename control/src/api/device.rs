//! `/api/device`: an agent asks, a person decides, the agent collects.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use rexec_shared::enrol::{DeviceAnswer, DevicePoll, DevicePollAnswer, DeviceRequest};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::client_ip::ClientIp;
use crate::auth::signed_in::{Right, SignedIn};
use crate::device;
use crate::error::{ApiError, Problem};
use crate::extract::{Body, Params};
use crate::limits::{DEVICE_INTERVAL, DEVICE_LIFE};
use crate::time::Timestamp;

/// An agent asks to be approved.
#[utoipa::path(
    post,
    path = "/api/device",
    tag = "agents",
    request_body = DeviceRequest,
    responses((status = 201, body = DeviceAnswer), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(())
)]
pub(super) async fn request_device(
    State(app): State<App>,
    ip: ClientIp,
    Body(request): Body<DeviceRequest>,
) -> Result<(StatusCode, Json<DeviceAnswer>), ApiError> {
    let codes = device::request(&app, &request, ip).await?;
    let (origin, user_code) = (app.public_origin(), codes.user.shown());
    let answer = DeviceAnswer {
        device_code: codes.device.expose().clone(),
        verification_uri: format!("{origin}/device"),
        verification_uri_complete: format!("{origin}/device?code={user_code}"),
        user_code,
        interval_s: DEVICE_INTERVAL.as_secs(),
        expires_in_s: DEVICE_LIFE.as_secs(),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// An agent asks whether somebody has decided. The join token is handed out once.
#[utoipa::path(
    post,
    path = "/api/device/poll",
    tag = "agents",
    request_body = DevicePoll,
    responses((status = 200, body = DevicePollAnswer), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(())
)]
pub(super) async fn poll_device(
    State(app): State<App>,
    Body(request): Body<DevicePoll>,
) -> Result<Json<DevicePollAnswer>, ApiError> {
    device::poll(&app, &request.device_code).await.map(Json)
}

/// An agent that waits, as it describes itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitingDevice {
    /// The code, as it is shown.
    pub user_code: String,
    /// The name it wants.
    pub name: String,
    /// Operating system, as it says.
    pub os: String,
    /// Processor, as it says.
    pub arch: String,
    /// Host name, as it says.
    pub hostname: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Fingerprint of its key: it shows the same.
    pub key_fingerprint: String,
    /// Where it asks from.
    pub ip: String,
    /// Until when it waits.
    pub expires_at: Timestamp,
}

/// The agent that waits under a code.
#[utoipa::path(
    get,
    path = "/api/device/{user_code}",
    tag = "agents",
    params(("user_code" = String, Path, description = "the short code")),
    responses((status = 200, body = WaitingDevice), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn get_device(
    State(app): State<App>,
    caller: SignedIn,
    Params(code): Params<String>,
) -> Result<Json<WaitingDevice>, ApiError> {
    let (row, code) = device::find(&app, &caller, &code).await?;
    Ok(Json(WaitingDevice {
        user_code: code.shown(),
        name: row.name,
        os: row.os,
        arch: row.arch,
        hostname: row.hostname,
        agent_version: row.agent_version,
        key_fingerprint: row.key_fingerprint,
        ip: row.ip,
        expires_at: row.expires_at,
    }))
}

/// Approves the agent: it becomes a machine of the caller's organisation.
#[utoipa::path(
    post,
    path = "/api/device/{user_code}/approve",
    tag = "agents",
    params(("user_code" = String, Path, description = "the short code")),
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn approve_device(
    State(app): State<App>,
    caller: SignedIn,
    Params(code): Params<String>,
) -> Result<StatusCode, ApiError> {
    decide(&app, &caller, &code, true).await
}

/// Denies the agent.
#[utoipa::path(
    post,
    path = "/api/device/{user_code}/deny",
    tag = "agents",
    params(("user_code" = String, Path, description = "the short code")),
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn deny_device(
    State(app): State<App>,
    caller: SignedIn,
    Params(code): Params<String>,
) -> Result<StatusCode, ApiError> {
    decide(&app, &caller, &code, false).await
}

async fn decide(app: &App, caller: &SignedIn, code: &str, approve: bool) -> Result<StatusCode, ApiError> {
    caller.demand(Right::ManageMachines)?;
    let (row, _) = device::find(app, caller, code).await?;
    device::decide(app, caller, &row, approve).await?;
    Ok(StatusCode::NO_CONTENT)
}
