//! `/api/agent`: what agents ask for, with a join token or by proof of their key. No cookie is read here.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use rexec_shared::enrol::{
    EnrolAnswer, EnrolRequest, RenewAnswer, RenewRequest, UnregisterRequest, unregister_text,
};
use rexec_shared::limits::CLOCK_SKEW;
use rexec_shared::pki;
use sea_orm::EntityTrait as _;

use super::machines;
use crate::app::App;
use crate::audit::Actor;
use crate::auth::client_ip::ClientIp;
use crate::enrolment;
use crate::entity::{MachineKind, machine};
use crate::error::{ApiError, Problem};
use crate::extract::Body;
use crate::scope::Scope;
use crate::time::Timestamp;

/// Enrols a machine.
#[utoipa::path(
    post,
    path = "/api/agent/enrol",
    tag = "agents",
    request_body = EnrolRequest,
    responses((status = 201, body = EnrolAnswer), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(())
)]
pub(super) async fn enrol(
    State(app): State<App>,
    ip: ClientIp,
    Body(request): Body<EnrolRequest>,
) -> Result<(StatusCode, Json<EnrolAnswer>), ApiError> {
    let answer = enrolment::enrol(&app, request, ip).await?;
    app.metrics().machine_enrolled();
    tracing::info!(machine = %answer.machine, name = answer.name, %ip, "machine enrolled");
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Renews a machine's certificate.
#[utoipa::path(
    post,
    path = "/api/agent/renew",
    tag = "agents",
    request_body = RenewRequest,
    responses((status = 200, body = RenewAnswer), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(())
)]
pub(super) async fn renew(
    State(app): State<App>,
    Body(request): Body<RenewRequest>,
) -> Result<Json<RenewAnswer>, ApiError> {
    enrolment::renew(&app, request).await.map(Json)
}

/// A machine leaves by itself.
#[utoipa::path(
    post,
    path = "/api/agent/unregister",
    tag = "agents",
    request_body = UnregisterRequest,
    responses((status = 204), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(())
)]
pub(super) async fn unregister(
    State(app): State<App>,
    ip: ClientIp,
    Body(request): Body<UnregisterRequest>,
) -> Result<StatusCode, ApiError> {
    let row = machine::Entity::find_by_id(request.machine).one(app.db()).await?;
    let row = row.filter(|row| is_signed_by(row, &request)).ok_or_else(enrolment::unknown)?;
    if row.kind == MachineKind::Sandbox {
        return Err(ApiError::forbidden("sandbox", "a sandbox does not leave by itself")
            .hint("delete it in the dashboard"));
    }
    check_clock(&app, request.time)?;
    if row.removed_at.is_none() {
        machines::remove(&app, Scope::of(row.organisation_id), row.id, &Actor::agent(row.id, ip)).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn is_signed_by(row: &machine::Model, request: &UnregisterRequest) -> bool {
    let text = unregister_text(request.machine, request.time);
    URL_SAFE_NO_PAD
        .decode(&row.public_key)
        .is_ok_and(|point| pki::verify_text(&point, &text, &request.signature))
}

/// A signature is good for the moment it was made in.
fn check_clock(app: &App, time: u64) -> Result<(), ApiError> {
    let (now, said) = (app.now(), Timestamp::from_unix_ms(time));
    let apart = now.until(said).max(said.until(now));
    (apart <= CLOCK_SKEW).then_some(()).ok_or_else(|| {
        ApiError::invalid("time", format!("the machine's clock is {} seconds off", apart.as_secs()))
            .hint("set the machine's clock, then try again")
    })
}
