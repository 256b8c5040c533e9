//! The handle that control, or the broker's own program, holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use quinn::Endpoint;
use rexec_shared::broker_link::{FromBroker, ToBroker};
use rexec_shared::close::CloseCode;
use rexec_shared::pki::Identity;
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{BrokerConfig, StartError};
use crate::counters::{Counters, Counts};
use crate::endpoint;
use crate::limits::{CLOSE_DEADLINE, CLOSE_PARTS, CLOSE_SPREAD};
use crate::listener::{self, Listeners};
use crate::registry::{ControlLink, Registry};
use crate::viewer;

/// A running broker. Cheap to clone; the broker ends when the last clone is dropped, or by [`Broker::drain`].
#[derive(Debug, Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    tunnel_addr: SocketAddr,
    endpoint: Endpoint,
    registry: Registry,
    counters: Arc<Counters>,
    viewer_door: Arc<viewer::Door>,
    viewers: TaskTracker,
    tunnels: TaskTracker,
    /// The registry's task, and the one that takes dials.
    registrar: TaskTracker,
    /// The task that takes dials.
    listener: AbortHandle,
    stop: CancellationToken,
    ca_pem: String,
    reset_key: [u8; 64],
    /// What is shown to dials over TCP.
    tls: watch::Sender<Arc<ServerConfig>>,
    /// What is shown to browsers.
    web: watch::Sender<Option<Arc<quinn::ServerConfig>>>,
}

/// Where agents and viewers of a broker that ends may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Nowhere: it has no other beside it, so waiting would only keep them from coming back to its successor. Everything is closed within a
    /// second, a little at a time.
    Alone,
    /// To other brokers, at once; streams that stand have this grace.
    Elsewhere(Duration),
}

impl Broker {
    /// Starts listening for tunnels. Events go to `to_control`, orders come from `from_control`; when control lets go of either, the broker
    /// goes on with what it knows (DESIGN law 7).
    #[expect(
        clippy::unused_async,
        reason = "starting needs a runtime to be entered, which only an async caller surely has"
    )]
    pub async fn start(
        config: BrokerConfig,
        to_control: mpsc::Sender<FromBroker>,
        from_control: mpsc::Receiver<ToBroker>,
    ) -> Result<Self, StartError> {
        let (endpoint, tcp) = endpoint::bind(&config)?;
        let tunnel_addr = endpoint.local_addr().map_err(|source| StartError::Bind {
            protocol: "udp",
            addr: config.tunnel_addr,
            source,
        })?;
        let (tls, shown) = watch::channel(Arc::new(endpoint::tls_config(&config.identity, &config.ca_pem)?));
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let (viewers, tunnels) = (TaskTracker::new(), TaskTracker::new());
        let link = ControlLink { events: to_control, orders: from_control };
        let registrar = TaskTracker::new();
        let registry =
            Registry::start(config.ticket_key.clone(), link, counters.clone(), stop.clone(), &registrar);
        let web = config.web.as_ref().map(|identity| endpoint::web::config(identity, &config.reset_key));
        let (web, shown_to_browsers) = watch::channel(web.transpose()?);
        let viewer_door = Arc::new(viewer::Door::new(
            registry.clone(),
            counters.clone(),
            config.ticket_key,
            config.allowed_origins,
            viewers.clone(),
        ));
        let door = listener::Door {
            broker: config.name.as_str().into(),
            registry: registry.clone(),
            counters: counters.clone(),
            tunnels: tunnels.clone(),
            viewers: viewer_door.clone(),
        };
        let listeners = Listeners { endpoint: endpoint.clone(), tcp, tls: shown, web: shown_to_browsers };
        let listener = registrar.spawn(listener::run(listeners, door, stop.clone())).abort_handle();
        tracing::info!(broker = config.name, %tunnel_addr, "listening for tunnels");
        Ok(Self {
            inner: Arc::new(Inner {
                tunnel_addr,
                endpoint,
                registry,
                counters,
                viewer_door,
                viewers,
                tunnels,
                registrar,
                listener,
                stop,
                ca_pem: config.ca_pem,
                reset_key: config.reset_key,
                tls,
                web,
            }),
        })
    }

    /// Where agents dial: the port is known even if port 0 was asked for.
    pub fn tunnel_addr(&self) -> SocketAddr {
        self.inner.tunnel_addr
    }

    /// Whether it takes tunnels and viewers: its registry and its endpoint are there. Asks nobody, so it costs nothing.
    pub fn is_running(&self) -> bool {
        self.inner.registry.is_running() && !self.inner.listener.is_finished()
    }

    /// `GET /viewer`: the WebSocket of viewers.
    ///
    /// Who serves the routes should set `TCP_NODELAY` on its connections, and tell where a viewer comes from: by
    /// [`axum::extract::ConnectInfo`], or by [`crate::ViewerAddress`] where a trusted proxy stands in between.
    pub fn viewer_routes(&self) -> Router {
        viewer::routes(self.inner.viewer_door.clone())
    }

    /// The broker's figures now.
    pub fn counts(&self) -> Counts {
        self.inner.counters.counts()
    }

    /// Tells control all that stands, as if for the first time: a link to it has begun anew.
    pub async fn retell(&self) {
        self.inner.registry.retell().await;
    }

    /// Whether agents may be at other brokers: viewers of a machine that is not here are sent away sooner then.
    pub async fn beside_others(&self, others: bool) {
        self.inner.registry.others(others).await;
    }

    /// Lets in the pages of these origins and no others, from here on.
    pub fn allow_origins(&self, origins: Vec<String>) {
        self.inner.viewer_door.allow_origins(origins);
    }

    /// Shows another certificate to dials from here on; tunnels that stand are left alone.
    ///
    /// # Errors
    /// When the identity cannot be read; the old one stays in use.
    pub fn renew(&self, identity: &Identity) -> Result<(), StartError> {
        let Inner { endpoint, ca_pem, reset_key, tls, .. } = &*self.inner;
        let config = endpoint::tls_config(identity, ca_pem)?;
        endpoint.set_server_config(Some(endpoint::server_config(config.clone(), reset_key)?));
        tls.send_replace(Arc::new(config));
        Ok(())
    }

    /// Shows another certificate to browsers from here on; viewers that stand are left alone.
    ///
    /// # Errors
    /// When the identity cannot be read; the old one stays in use.
    pub fn renew_web(&self, identity: &Identity) -> Result<(), StartError> {
        let config = endpoint::web::config(identity, &self.inner.reset_key)?;
        self.inner.web.send_replace(Some(config));
        Ok(())
    }

    /// Takes no new tunnel and no new viewer, tells agents, closes what is left with `draining` when its time is over, and ends. Control has
    /// been told of every end when this returns, if it takes what it is told.
    pub async fn drain(&self, drain: Drain) {
        let inner = &self.inner;
        inner.viewers.close();
        match drain {
            Drain::Alone => {
                inner.registry.drain(CLOSE_SPREAD, false).await;
                inner.close_in_parts().await;
            }
            Drain::Elsewhere(grace) => {
                inner.registry.drain(grace, true).await;
                let calm = timeout(grace, inner.viewers.wait()).await.is_ok();
                tracing::info!(calm, streams = inner.counters.counts().streams, "drained");
            }
        }
        inner.registry.close_part(CloseCode::Draining, 1).await;
        inner.tunnels.close();
        let ended = async {
            inner.viewers.wait().await;
            inner.tunnels.wait().await;
        };
        if timeout(2 * CLOSE_DEADLINE, ended).await.is_err() {
            tracing::debug!("not every task ended in time");
        }
        inner.end();
        inner.registrar.close();
        if timeout(CLOSE_DEADLINE, async { tokio::join!(inner.registrar.wait(), inner.endpoint.wait_idle()) })
            .await
            .is_err()
        {
            tracing::debug!("not every agent heard the end");
        }
    }
}

impl Inner {
    /// Closes all tunnels over [`CLOSE_SPREAD`]: their agents come back at once, and are not to come all at once.
    async fn close_in_parts(&self) {
        for left in (1..=CLOSE_PARTS).rev() {
            tokio::time::sleep(CLOSE_SPREAD / CLOSE_PARTS).await;
            if self.registry.close_part(CloseCode::Draining, left).await == 0 {
                return;
            }
        }
    }

    fn end(&self) {
        self.stop.cancel();
        let code = CloseCode::Draining;
        self.endpoint.close(quinn::VarInt::from_u32(code.number()), code.name().as_bytes());
    }
}

impl std::fmt::Debug for Inner {
    /// Without its keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("tunnel_addr", &self.tunnel_addr).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}
