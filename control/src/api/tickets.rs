//! `POST /api/tickets`: permission to open or attach to one session on one machine.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use rexec_shared::ticket::Capability;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::machines;
use crate::app::App;
use crate::audit::{self, Deed};
use crate::auth::signed_in::SignedIn;
use crate::brokers::VIEWER_PATH;
use crate::db;
use crate::error::{ApiError, Problem};
use crate::extract::Body;
use crate::tickets::{self, Wish};
use crate::time::Timestamp;

/// The ticket wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TicketWish {
    /// The machine.
    machine: Uuid,
    /// The session, chosen by the viewer: a new id opens, a known one attaches.
    session: Uuid,
    /// What the viewer wants to do: `terminal`, `exec`, `files.read`, `files.write`, `forward`, `view`.
    #[schema(value_type = Vec<String>)]
    caps: Vec<Capability>,
    /// base64url(sha256(the viewer's public key)), 43 characters.
    key: String,
}

/// A ticket, and what keeps its session reachable while control is down.
#[derive(Serialize, ToSchema)]
pub struct Ticket {
    /// Good once, for a minute at most, with the viewer's key.
    pub ticket: String,
    /// Good for coming back to this session with the same key, until the login ends.
    pub resume: String,
    /// The machine.
    pub machine: Uuid,
    /// The session.
    pub session: Uuid,
    /// Where the broker takes viewers: an absolute address, or a path on this origin.
    pub broker_url: String,
    /// Where the same broker takes viewers over WebTransport, if it does.
    pub web_transport: Option<WebTransport>,
    /// Where to look for the machine while control cannot be asked: all brokers, that one first.
    pub broker_urls: Vec<String>,
    /// When the ticket ends.
    pub expires_at: Timestamp,
}

/// A broker's door for browsers, and how they know it.
#[derive(Serialize, ToSchema)]
pub struct WebTransport {
    /// Its address, `https://…`.
    pub url: String,
    /// Base64url of the SHA-256 of each certificate that it may show, for `serverCertificateHashes`.
    pub hashes: Vec<String>,
}

/// Issues a ticket.
#[utoipa::path(
    post,
    path = "/api/tickets",
    tag = "tickets",
    request_body = TicketWish,
    responses((status = 201, body = Ticket), (status = "default", description = "a problem", body = Problem, content_type = "application/problem+json")),
    security(("login" = []))
)]
pub(super) async fn create_ticket(
    State(app): State<App>,
    caller: SignedIn,
    Body(wish): Body<TicketWish>,
) -> Result<(StatusCode, Json<Ticket>), ApiError> {
    app.parts().ticket_budgets.spend(caller.person.id).map_err(ApiError::rate_limited)?;
    let tx = db::write(app.db()).await?;
    // The caller was signed in when the request began; what is signed here may live for a week.
    let caller = caller.again(&tx, app.now()).await?;
    let machine = machines::find(&tx, caller.scope(), wish.machine).await?;
    let broker_url = machines::broker_url(&app, &machine)?;
    let wish = Wish { machine: machine.id, session: wish.session, capabilities: wish.caps, key: wish.key };
    let now = app.now();
    let issued = tickets::issue(&caller, &wish, now, &app.parts().keys.signer)?;
    let deed = Deed::new("ticket.issue", wish.machine)
        .with(serde_json::json!({ "session": wish.session, "caps": issued.capabilities }));
    audit::append(&tx, caller.scope(), now, &caller.actor(), deed).await?;
    tx.commit().await?;
    app.metrics().ticket_issued();
    let answer = Ticket {
        ticket: issued.ticket,
        resume: issued.resume,
        machine: wish.machine,
        session: wish.session,
        web_transport: web_transport(&app, &broker_url),
        broker_urls: app.parts().brokers.viewer_urls(&broker_url),
        broker_url,
        expires_at: issued.expires_at,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// The embedded broker alone has the door.
fn web_transport(app: &App, broker_url: &str) -> Option<WebTransport> {
    if broker_url != VIEWER_PATH {
        return None;
    }
    let hashes = app.parts().web_hashes.borrow().to_vec();
    app.web_transport().map(|url| WebTransport { url: url.into(), hashes })
}
