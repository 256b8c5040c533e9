//! The running installation: listener, broker, tasks, and their orderly end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rexec_broker::{Broker, BrokerConfig, Drain, StartError};
use rexec_shared::broker_link::{FromBroker, ToBroker};
use rexec_shared::pki::PkiError;
use rexec_shared::ticket::PublicKey;
use sea_orm::{ActiveModelTrait as _, DatabaseConnection, DbErr, EntityTrait as _, Set};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use url::Url;
use uuid::Uuid;

use crate::app::{self, App, Parts};
use crate::auth::password::{PasswordError, Passwords};
use crate::brokers::{Brokers, Embedded};
use crate::connections::{self, Connections, Counted};
use crate::entity::installation;
use crate::events::Hub;
use crate::feed::{self, Feeds};
use crate::keys::{Keys, KeysError};
use crate::limits::{HEAD_DEADLINE, HEAD_MAX, HEADERS_MAX, SHUTDOWN_GRACE};
use crate::metrics::Metrics;
use crate::presence::{self, Live, Refusals};
use crate::previews::Previews;
use crate::previews::host::PreviewDomain;
use crate::samples::SampleStore;
use crate::sandboxes::engine::Engine;
use crate::sandboxes::{self, Sandboxes};
use crate::settings::Settings;
use crate::time::Clock;
use crate::web_identity::WebIdentities;
use crate::{broker_identity, brokers, db, housekeeping, web};

/// Messages between control and the embedded broker that may wait.
const LINK_QUEUE: usize = 1_024;
/// How long the embedded broker's streams may go on beside other brokers: their agents move within a second, and end them by that.
const DRAIN_GRACE: Duration = Duration::from_secs(10);
/// After a failed accept (no descriptors left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running installation.
#[derive(Debug)]
pub struct Server {
    app: App,
    addr: SocketAddr,
    tasks: JoinSet<()>,
}

/// Why an installation does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The port is taken, most likely.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The database cannot be used.
    #[error("the database cannot be used: {0}")]
    Database(#[from] DbErr),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The broker's certificate cannot be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The broker does not start.
    #[error(transparent)]
    Broker(#[from] StartError),
    /// Passwords cannot be hashed.
    #[error(transparent)]
    Passwords(#[from] PasswordError),
    /// The key of previews cannot be made.
    #[error(transparent)]
    Previews(#[from] rexec_shared::proof::ProofError),
    /// The ticket key cannot be read back.
    #[error("the ticket key: {0}")]
    TicketKey(#[from] rexec_shared::ticket::BadKey),
}

impl Server {
    /// Starts everything; returns when requests are answered.
    ///
    /// # Errors
    /// When something it needs is not there.
    pub async fn start(settings: Settings) -> Result<Self, ServerError> {
        Self::start_with(settings, Router::new()).await
    }

    /// As [`Server::start`], with `more` routes behind the same layers.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(settings: Settings, more: Router<App>) -> Result<Self, ServerError> {
        Self::start_on(settings, more, None).await
    }

    /// As [`Server::start_with`], with sandboxes on `engine` instead of the one of the settings.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_on(
        settings: Settings,
        more: Router<App>,
        engine: Option<Arc<dyn Engine>>,
    ) -> Result<Self, ServerError> {
        connections::raise_open_files();
        let listener = listen(settings.listen).await?;
        let addr =
            listener.local_addr().map_err(|source| ServerError::Listen { addr: settings.listen, source })?;
        let made = make(settings, addr, engine).await?;
        let app = made.app;
        presence::nobody_is_online(app.db()).await?;
        app.parts().brokers.learn(brokers::rows::all(app.db()).await?);

        let mut tasks = JoinSet::new();
        let (to_brokers, for_brokers) = mpsc::channel(LINK_QUEUE);
        tasks.spawn(feed::run(app.clone(), made.orders, to_brokers));
        tasks.spawn(brokers::distribute(app.clone(), for_brokers));
        tasks.spawn(brokers::keep_up(app.clone()));
        if let Some(from_broker) = made.from_broker {
            tasks.spawn(presence::run(app.clone(), from_broker));
        }
        tasks.spawn(housekeeping::run(app.clone()));
        tasks.spawn(sandboxes::reconcile::run(app.clone()));
        tasks.spawn(sandboxes::proxy::run(app.clone()));
        tasks.spawn(sandboxes::snapshots::run(app.clone()));
        tasks.spawn(broker_identity::keep_young(app.clone(), made.web));
        let door = Connections::new(&app.settings().trusted_proxies);
        tasks.spawn(accept(listener, door, app::router(&app, more), app.parts().ending.clone()));
        Ok(Self { app, addr, tasks })
    }

    /// Where requests are answered.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The state.
    pub const fn app(&self) -> &App {
        &self.app
    }

    /// Ends everything in order: no new requests, the broker drained, what is in progress done, the database closed.
    ///
    /// # Errors
    /// When the database does not close.
    pub async fn stop(mut self) -> Result<(), DbErr> {
        if let Some(broker) = &self.app.parts().broker {
            let others = self.app.parts().brokers.linked() > 0;
            broker.drain(if others { Drain::Elsewhere(DRAIN_GRACE) } else { Drain::Alone }).await;
        }
        self.app.parts().ending.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE + Duration::from_secs(1), all).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        self.app.db().clone().close().await
    }
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(addr).await.map_err(|source| ServerError::Listen { addr, source })
}

/// What [`make`] makes.
struct Made {
    app: App,
    orders: feed::FeedOrders,
    from_broker: Option<mpsc::Receiver<FromBroker>>,
    web: WebIdentities,
}

/// The embedded broker, and the ends of its link.
struct EmbeddedBroker {
    broker: Broker,
    orders: mpsc::Sender<ToBroker>,
    events: mpsc::Receiver<FromBroker>,
}

async fn make(
    settings: Settings,
    addr: SocketAddr,
    engine: Option<Arc<dyn Engine>>,
) -> Result<Made, ServerError> {
    crate::keys::make_data_dir(&settings)?;
    let db = db::open(&settings.database_url).await?;
    let clock = Clock::default();
    let installation = installation_id(&db, &clock).await?;
    let keys = Keys::load(&settings, installation)?;
    let public_url = public_url(&settings, addr);
    let web = broker_identity::web_identities(&settings, &keys.authority, installation)?;
    let embedded = match settings.embedded_broker {
        true => Some(embed(broker_config(&settings, &keys, &web, installation, &public_url)?).await?),
        false => None,
    };
    let (broker, brokers, from_broker) = match embedded {
        Some(EmbeddedBroker { broker, orders, events }) => {
            let tunnel_addr = tunnel_public(&settings, &public_url, broker.tunnel_addr());
            (Some(broker), Brokers::new(Some(Embedded { tunnel_addr, orders })), Some(events))
        }
        None => (None, Brokers::new(None), None),
    };
    let (feeds, orders) = Feeds::new();
    let sandboxes = match engine {
        Some(engine) => Sandboxes::with(Ok(engine)),
        None => Sandboxes::new(&settings.sandboxes, settings.agent_dir.clone(), installation),
    };
    let parts = Parts {
        sandboxes,
        web: web::WebApp::new(settings.web_dir.clone()),
        previews: previews(&settings, &public_url)?,
        passwords: Passwords::new()?,
        settings,
        installation,
        public_url,
        web_hashes: watch::Sender::new(web.hashes()?),
        clock,
        db,
        keys,
        broker,
        brokers,
        broker_tries: app::broker_tries(),
        feeds,
        live: Live::default(),
        samples: SampleStore::default(),
        hub: Hub::default(),
        sign_ins: crate::auth::sign_in::SignInLimits::default(),
        code_tries: std::sync::Mutex::new(app::code_tries()),
        ticket_budgets: app::ticket_budgets(),
        hashes: crate::download::Hashes::default(),
        refusals: Refusals::default(),
        metrics: Metrics::default(),
        ending: CancellationToken::new(),
    };
    Ok(Made { app: App::new(parts), orders, from_broker, web })
}

fn previews(settings: &Settings, public_url: &Url) -> Result<Previews, ServerError> {
    let domain = PreviewDomain::new(settings.preview_domain.as_deref(), public_url);
    if domain.as_ref().is_some_and(|domain| domain.is_beside(public_url)) {
        tracing::warn!(
            "previews are of one site with the app: give REXEC_PREVIEW_DOMAIN a registered domain of its own"
        );
    }
    Ok(Previews::new(domain)?)
}

async fn embed(config: BrokerConfig) -> Result<EmbeddedBroker, StartError> {
    let (to_control, events) = mpsc::channel(LINK_QUEUE);
    let (orders, from_control) = mpsc::channel(LINK_QUEUE);
    Ok(EmbeddedBroker { broker: Broker::start(config, to_control, from_control).await?, orders, events })
}

/// The installation's id, made at the first start.
async fn installation_id(db: &DatabaseConnection, clock: &Clock) -> Result<Uuid, DbErr> {
    let tx = db::write(db).await?;
    if let Some(row) = installation::Entity::find().one(&tx).await? {
        return Ok(row.id);
    }
    let row = installation::ActiveModel {
        id: Set(Uuid::new_v4()),
        name: Set("Rexec".to_owned()),
        created_at: Set(clock.now()),
    };
    let row = row.insert(&tx).await?;
    tx.commit().await?;
    Ok(row.id)
}

fn public_url(settings: &Settings, addr: SocketAddr) -> Url {
    settings.public_url.clone().unwrap_or_else(|| {
        let mut url = Url::parse("http://localhost").unwrap_or_else(|_| unreachable!("a constant address"));
        // `http` takes any port.
        let _ = url.set_port(Some(addr.port()));
        url
    })
}

fn tunnel_public(settings: &Settings, public_url: &Url, tunnel: SocketAddr) -> String {
    let host = public_url.host_str().unwrap_or("localhost");
    settings.tunnel_public.clone().unwrap_or_else(|| format!("{host}:{}", tunnel.port()))
}

fn broker_config(
    settings: &Settings,
    keys: &Keys,
    web: &WebIdentities,
    installation: Uuid,
    public_url: &Url,
) -> Result<BrokerConfig, ServerError> {
    Ok(BrokerConfig {
        name: "embedded".to_owned(),
        tunnel_addr: settings.tunnel_listen,
        identity: keys.authority.broker(installation, SystemTime::now())?,
        web: Some(web.current().clone()),
        ca_pem: keys.authority.certificate_pem().to_owned(),
        ticket_key: PublicKey::parse(&keys.signer.public_key())?,
        reset_key: *keys.broker_reset.expose(),
        allowed_origins: vec![public_url.origin().ascii_serialization()],
    })
}

/// Takes connections, each with bounded heads and deadlines (THREATS BU-13). One too many is closed at once: nobody waits behind it.
async fn accept(listener: TcpListener, door: Connections, router: Router, ending: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = ending.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Small frames of terminals must not wait for each other; a socket that refuses works all the same.
                let _ = stream.set_nodelay(true);
                match door.admit(stream, peer) {
                    Some(stream) => {
                        drop(connections.spawn(answer(stream, peer, router.clone(), ending.clone())))
                    }
                    None => tracing::debug!(%peer, "a connection too many was closed"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(SHUTDOWN_GRACE, connections.wait()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

/// Answers the requests of one connection; when the process ends, the one in progress is the last.
async fn answer(stream: Counted, peer: SocketAddr, router: Router, ending: CancellationToken) {
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
    let mut connection = pin!(connection);
    // A peer that breaks off is no event.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = ending.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
