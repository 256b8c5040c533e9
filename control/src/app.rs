//! What every handler shares, and the one router.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use rexec_broker::{Broker, ViewerAddress};
use rexec_shared::broker_link::LINK_PATH;
use sea_orm::DatabaseConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use url::Url;
use uuid::Uuid;

use crate::api;
use crate::auth::client_ip::ClientIp;
use crate::auth::cookie::LoginCookie;
use crate::auth::guard::{self, OwnOrigins, guard};
use crate::auth::host::demand_own_host;
use crate::auth::password::Passwords;
use crate::auth::rate::{Budgets, Rate, SharedBudgets};
use crate::auth::sign_in::SignInLimits;
use crate::brokers::Brokers;
use crate::error::ApiError;
use crate::events::Hub;
use crate::feed::Feeds;
use crate::http as http_layer;
use crate::keys::Keys;
use crate::limits::{BODY_MAX, BROKER_TRIES_AT_ONCE, BROKER_TRY_EVERY, TICKET_EVERY, TICKETS_AT_ONCE};
use crate::metrics::Metrics;
use crate::presence::{Live, Refusals};
use crate::previews::Previews;
use crate::previews::gate::{self, Gate};
use crate::samples::SampleStore;
use crate::sandboxes::Sandboxes;
use crate::secret::Vault;
use crate::settings::Settings;
use crate::time::{Clock, Timestamp};
use crate::{device, download, health, web};

/// The state of a running control; a clone is a handle.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

/// What [`App`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// What it was told from outside.
    pub settings: Settings,
    /// Id of the installation.
    pub installation: Uuid,
    /// The origin people use.
    pub public_url: Url,
    /// Hashes of the certificates that browsers may be shown over WebTransport.
    pub web_hashes: watch::Sender<[String; 2]>,
    /// The wall clock.
    pub clock: Clock,
    /// The database.
    pub db: DatabaseConnection,
    /// The installation's keys.
    pub keys: Keys,
    /// The embedded broker, unless it is switched off.
    pub broker: Option<Broker>,
    /// All brokers.
    pub brokers: Brokers,
    /// Budgets of wrong broker credentials, per network.
    pub broker_tries: SharedBudgets<String>,
    /// Sends signed feeds to brokers.
    pub feeds: Feeds,
    /// What is known of machines that are online.
    pub live: Live,
    /// What machines use.
    pub samples: SampleStore,
    /// Tells event streams.
    pub hub: Hub,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Budgets of sign-in attempts.
    pub sign_ins: SignInLimits,
    /// Budgets of tries at user codes, per person.
    pub code_tries: std::sync::Mutex<Budgets<Uuid>>,
    /// Budgets of tickets, per person.
    pub ticket_budgets: SharedBudgets<Uuid>,
    /// Budgets of refused dials in the audit.
    pub refusals: Refusals,
    /// Hashes of the agents served.
    pub hashes: download::Hashes,
    /// Sandboxes, and the engine they are made on.
    pub sandboxes: Sandboxes,
    /// Counters.
    pub metrics: Metrics,
    /// Ports of machines in browsers.
    pub previews: Previews,
    /// The web app.
    pub web: web::WebApp,
    /// Cancelled when the process is to end.
    pub ending: CancellationToken,
}

impl App {
    /// Shares the parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Everything.
    pub fn parts(&self) -> &Parts {
        &self.0
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The database.
    pub fn db(&self) -> &DatabaseConnection {
        &self.0.db
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Hashes of tokens.
    pub fn vault(&self) -> &Vault {
        &self.0.keys.vault
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The origin people use, without a slash at its end.
    pub fn public_origin(&self) -> String {
        self.0.public_url.origin().ascii_serialization()
    }

    /// Where browsers dial the embedded broker over WebTransport; none when its tunnel's public address is no address of the web.
    pub fn web_transport(&self) -> Option<Url> {
        let Parts { brokers, broker, .. } = &*self.0;
        let mut url = Url::parse(&format!("https://{}/viewer", brokers.embedded_addr()?)).ok()?;
        // That name stands for two addresses, of which a browser tries the newer alone.
        if url.host_str() == Some("localhost") && broker.as_ref()?.tunnel_addr().is_ipv4() {
            url.set_ip_host(Ipv4Addr::LOCALHOST.into()).ok()?;
        }
        url.has_host().then_some(url)
    }

    /// How the login's cookie is written here.
    pub fn cookie(&self) -> LoginCookie {
        LoginCookie { secure: self.0.public_url.scheme() == "https" }
    }

    /// The origins that are our own.
    pub fn origins(&self) -> OwnOrigins {
        let development = self.settings().environment == crate::settings::Environment::Development;
        OwnOrigins::new(self.0.public_url.clone(), development)
    }
}

/// Everything that is served; `more` is added to it, behind the same layers.
pub fn router(app: &App, more: Router<App>) -> Router {
    let (api, openapi) = api::routes().split_for_parts();
    let document = Arc::new(openapi);
    let routes = api
        .route("/api/openapi.json", get(async move || Json(Arc::clone(&document))))
        .route(LINK_PATH, get(crate::brokers::link::open))
        .route("/metrics", get(crate::metrics::metrics))
        .route("/install-agent.sh", get(download::install_script))
        .route("/download/agent/{file}", get(download::agent))
        .merge(health::routes())
        .merge(more)
        .method_not_allowed_fallback(wrong_method)
        .fallback(web::serve);
    let viewer = app.parts().broker.as_ref().map(Broker::viewer_routes).unwrap_or_default();
    let viewer = viewer.layer(middleware::from_fn_with_state(app.clone(), canonical_origin));
    routes
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(RequestBodyLimitLayer::new(BODY_MAX))
        .with_state(app.clone())
        .merge(viewer)
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .layer(middleware::from_fn_with_state(app.clone(), demand_own_host))
        .layer(CatchPanicLayer::custom(http_layer::panicked))
        .layer(middleware::from_fn_with_state(app.clone(), http_layer::answer))
        .layer(middleware::from_fn_with_state(Gate::new(app.clone()), gate::divert))
}

/// A method that the address does not know.
async fn wrong_method() -> ApiError {
    ApiError::of_status(StatusCode::METHOD_NOT_ALLOWED)
}

/// Control decides which origins are its own; the broker knows the public one alone and is shown that.
async fn canonical_origin(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if let Err(error) = guard::demand_own_origin(request.headers(), &app.origins()) {
        return error.into_response();
    }
    if let Ok(origin) = HeaderValue::from_str(&app.public_origin()) {
        request.headers_mut().insert(header::ORIGIN, origin);
    }
    // The audit names the viewer, not the proxy in front.
    if let Some(ip) = request.extensions().get::<ClientIp>().copied() {
        request.extensions_mut().insert(ViewerAddress(ip.to_string()));
    }
    next.run(request).await
}

/// Budget of tickets, per person.
pub fn ticket_budgets() -> SharedBudgets<Uuid> {
    SharedBudgets::new(Rate { burst: TICKETS_AT_ONCE, every: TICKET_EVERY }, 65_536)
}

/// Budget of wrong broker credentials, per network.
pub fn broker_tries() -> SharedBudgets<String> {
    SharedBudgets::new(Rate { burst: BROKER_TRIES_AT_ONCE, every: BROKER_TRY_EVERY }, 65_536)
}

/// Budget of tries at user codes, per person: a code is one of 20⁸ and lives ten minutes.
pub fn code_tries() -> Budgets<Uuid> {
    Budgets::new(device::TRIES, 65_536)
}
