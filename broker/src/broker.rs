//! The handle that control, or the broker's own program, holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use quinn::Endpoint;
use rexec_shared::broker_link::{FromBroker, ToBroker};
use rexec_shared::close::CloseCode;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{BrokerConfig, StartError};
use crate::counters::{Counters, Counts};
use crate::endpoint;
use crate::limits::CLOSE_DEADLINE;
use crate::listener;
use crate::registry::{ControlLink, Registry};
use crate::tunnel::quic_code;
use crate::viewer;

/// A running broker. Cheap to clone; the broker ends when the last clone is dropped, or by [`Broker::drain`].
#[derive(Debug, Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tunnel_addr: SocketAddr,
    endpoint: Endpoint,
    registry: Registry,
    counters: Arc<Counters>,
    viewer_door: Arc<viewer::Door>,
    viewers: TaskTracker,
    tunnels: TaskTracker,
    stop: CancellationToken,
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
        let endpoint = endpoint::bind(&config)?;
        let tunnel_addr =
            endpoint.local_addr().map_err(|source| StartError::Bind { addr: config.tunnel_addr, source })?;
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let (viewers, tunnels) = (TaskTracker::new(), TaskTracker::new());
        let link = ControlLink { events: to_control, orders: from_control };
        let registry = Registry::start(config.ticket_key.clone(), link, counters.clone(), stop.clone());
        let door = listener::Door {
            broker: config.name.as_str().into(),
            registry: registry.clone(),
            counters: counters.clone(),
            tunnels: tunnels.clone(),
        };
        tokio::spawn(listener::run(endpoint.clone(), door, stop.clone()));
        let viewer_door = Arc::new(viewer::Door::new(
            registry.clone(),
            counters.clone(),
            config.ticket_key,
            config.allowed_origins,
            viewers.clone(),
        ));
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
                stop,
            }),
        })
    }

    /// Where agents dial: the port is known even if port 0 was asked for.
    pub fn tunnel_addr(&self) -> SocketAddr {
        self.inner.tunnel_addr
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

    /// Takes no new tunnel and no new viewer, tells agents to go elsewhere, leaves streams the grace, then closes what is left with
    /// `draining` and ends.
    pub async fn drain(&self, grace: Duration) {
        let inner = &self.inner;
        inner.registry.drain(grace).await;
        inner.viewers.close();
        let calm = timeout(grace, inner.viewers.wait()).await.is_ok();
        tracing::info!(calm, streams = inner.counters.counts().streams, "drained");
        inner.registry.close_all(CloseCode::Draining).await;
        inner.tunnels.close();
        let ended = async {
            inner.viewers.wait().await;
            inner.tunnels.wait().await;
        };
        if timeout(2 * CLOSE_DEADLINE, ended).await.is_err() {
            tracing::debug!("not every task ended in time");
        }
        inner.end();
        if timeout(CLOSE_DEADLINE, inner.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("not every agent heard the end");
        }
    }
}

impl Inner {
    fn end(&self) {
        self.stop.cancel();
        self.endpoint.close(quic_code(CloseCode::Draining), CloseCode::Draining.name().as_bytes());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}
