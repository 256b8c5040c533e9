//! Where agents come in: the accept loop and the handshake up to `Welcome`.
//!
//! QUIC and TCP come in by the same loop, count at the same gate, and go the same way once TLS has verified the certificate. Browsers
//! (WebTransport) count there, too; they are told from agents by how a dial is marked, and go to [`crate::viewer::web`]. The loop awaits no
//! peer: each handshake is a task with a deadline, counted by [`HalfOpen`] (THREATS MA-11, NW-03). Who an agent is, its certificate alone decides; `Hello.machine` is only compared with it (THREATS MA-01).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{ConnectionError, Endpoint, Incoming};
use rexec_shared::PROTOCOL_VERSION;
use rexec_shared::broker_link::FromBroker;
use rexec_shared::close::CloseCode;
use rexec_shared::pki::MachineName;
use rexec_shared::tunnel::{AgentMessage, Hello};
use rexec_tunnel::quic::is_tunnel;
use rexec_tunnel::tcp::{self, HandshakeError};
use rexec_tunnel::{Path, PathEnd};
use rustls::ServerConfig;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::carrier::Carrier;
use crate::control_stream::{ControlError, ControlStream};
use crate::counters::Counters;
use crate::half_open::{Decision, HalfOpen, Origin};
use crate::limits::{ACCEPT_PAUSE, HANDSHAKE_DEADLINE};
use crate::registry::{NewTunnel, Registered, Registry};
use crate::tunnel::{Presence, Tunnel, clip};
use crate::viewer;

/// Why a dial came to nothing.
#[derive(Debug, Error)]
enum DialError {
    #[error("handshake: {0}")]
    Quic(#[from] ConnectionError),
    #[error("handshake: {0}")]
    Tcp(#[from] HandshakeError),
    #[error("before the hello: {0}")]
    Lost(#[from] PathEnd),
    #[error("the handshake took longer than {} s", HANDSHAKE_DEADLINE.as_secs())]
    TooSlow,
    #[error("the certificate names no machine")]
    NoMachine,
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("the first message is not a hello of version {PROTOCOL_VERSION}")]
    NoHello,
    #[error("the hello claims machine {claimed}, the certificate names another")]
    OtherMachine { claimed: Uuid },
    #[error("refused: {0}")]
    Refused(CloseCode),
}

impl DialError {
    fn close_code(&self) -> CloseCode {
        match self {
            Self::Quic(_) | Self::Tcp(_) | Self::Lost(_) => CloseCode::TunnelLost,
            Self::TooSlow => CloseCode::TooSlow,
            Self::NoMachine | Self::OtherMachine { .. } => CloseCode::WrongInstallation,
            Self::Control(error) => error.close_code(),
            Self::NoHello => CloseCode::ProtocolError,
            Self::Refused(code) => *code,
        }
    }
}

/// What every handshake needs.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// The broker's name, for `Welcome`.
    pub(crate) broker: Arc<str>,
    pub(crate) registry: Registry,
    pub(crate) counters: Arc<Counters>,
    /// Counts the tunnels' tasks, so that an end can wait for them.
    pub(crate) tunnels: TaskTracker,
    /// Where browsers go.
    pub(crate) viewers: Arc<viewer::Door>,
}

/// Where dials come in.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) endpoint: Endpoint,
    pub(crate) tcp: TcpListener,
    /// What is shown to dials over TCP; the endpoint has its own.
    pub(crate) tls: watch::Receiver<Arc<ServerConfig>>,
    /// What is shown to browsers; none: they are refused.
    pub(crate) web: watch::Receiver<Option<Arc<quinn::ServerConfig>>>,
}

/// Accepts dials until `stop` is cancelled.
pub(crate) async fn run(listeners: Listeners, door: Door, stop: CancellationToken) {
    let Listeners { endpoint, tcp, tls, web } = listeners;
    let mut handshakes = Handshakes::default();
    let mut tcp_after = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = handshakes.tasks.join_next_with_id() => handshakes.handle_end(ended),
            arrival = arrival(&endpoint, &tcp, tcp_after) => match arrival {
                Arrival::Quic(incoming) if is_tunnel(&incoming.orig_dst_cid()) => {
                    handshakes.handle_quic(incoming, None, &door);
                }
                Arrival::Quic(incoming) => {
                    let web = web.borrow().clone();
                    match web {
                        Some(_) => handshakes.handle_quic(incoming, web, &door),
                        None => incoming.refuse(),
                    }
                }
                Arrival::Tcp(socket, address) => {
                    let tls = tls.borrow().clone();
                    handshakes.handle_tcp(Dial::Tcp { socket, address, tls }, &door);
                }
                // Most often this process is out of descriptors: trying again at once would only burn a core.
                Arrival::TcpFailed(error) => {
                    tracing::warn!(%error, "cannot accept a dial over TCP");
                    tcp_after = Instant::now() + ACCEPT_PAUSE;
                }
                Arrival::End => break,
            },
        }
        door.counters.handshakes.set(handshakes.gate.total());
        // A flood of dials gives way to the tunnels that stand.
        tokio::task::coop::consume_budget().await;
    }
}

enum Arrival {
    Quic(Box<Incoming>),
    Tcp(TcpStream, SocketAddr),
    TcpFailed(std::io::Error),
    /// The endpoint is closed.
    End,
}

/// The next dial of either kind, by lot if there are both: a flood of one does not keep the other out. Cancel-safe.
async fn arrival(endpoint: &Endpoint, tcp: &TcpListener, tcp_after: Instant) -> Arrival {
    let accept_tcp = async {
        sleep_until(tcp_after).await;
        tcp.accept().await
    };
    tokio::select! {
        incoming = endpoint.accept() => {
            incoming.map_or(Arrival::End, |incoming| Arrival::Quic(Box::new(incoming)))
        }
        accepted = accept_tcp => match accepted {
            Ok((socket, address)) => Arrival::Tcp(socket, address),
            Err(error) => Arrival::TcpFailed(error),
        },
    }
}

/// A dial whose handshake may begin.
#[derive(Debug)]
enum Dial {
    Quic(Box<Incoming>),
    Tcp { socket: TcpStream, address: SocketAddr, tls: Arc<ServerConfig> },
}

impl Dial {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Quic(incoming) => incoming.remote_address(),
            Self::Tcp { address, .. } => *address,
        }
    }

    async fn connect(self) -> Result<Path, DialError> {
        Ok(match self {
            Self::Quic(incoming) => Path::Quic(incoming.accept()?.await?),
            Self::Tcp { socket, tls, .. } => Path::Tcp(tcp::accept(socket, tls).await?),
        })
    }
}

/// The handshakes under way.
#[derive(Default)]
struct Handshakes {
    gate: HalfOpen,
    tasks: JoinSet<()>,
    origins: HashMap<Id, Origin>,
}

impl Handshakes {
    /// `web` is what a browser is shown; an agent meets the endpoint's own configuration.
    fn handle_quic(&mut self, incoming: Box<Incoming>, web: Option<Arc<quinn::ServerConfig>>, door: &Door) {
        let origin = Origin::new(incoming.remote_address().ip(), incoming.remote_address_validated());
        match self.gate.handle_dial(origin) {
            Decision::Begin => match web {
                Some(web) => self.begin(origin, viewer::web::arrive(incoming, web, door.viewers.clone())),
                None => self.begin(origin, handshake(Dial::Quic(incoming), door.clone())),
            },
            Decision::Retry => {
                if let Err(error) = incoming.retry() {
                    error.into_incoming().ignore();
                }
            }
            Decision::Ignore => {
                door.counters.tunnels_refused.add(1);
                incoming.ignore();
            }
        }
    }

    /// TCP's own handshake has proven the address. One that must wait is closed: its agent comes again after a pause of its own.
    fn handle_tcp(&mut self, dial: Dial, door: &Door) {
        let origin = Origin::new(dial.address().ip(), true);
        match self.gate.handle_dial(origin) {
            Decision::Begin => self.begin(origin, handshake(dial, door.clone())),
            Decision::Retry | Decision::Ignore => door.counters.tunnels_refused.add(1),
        }
    }

    fn begin(&mut self, origin: Origin, handshake: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(handshake);
        self.origins.insert(task.id(), origin);
    }

    fn handle_end(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a handshake's task panicked");
                error.id()
            }
        };
        if let Some(origin) = self.origins.remove(&id) {
            self.gate.handle_end(origin);
        }
    }
}

/// One dial: ends in a tunnel's task, or in a refusal that is told, counted and logged.
async fn handshake(dial: Dial, door: Door) {
    let address = dial.address();
    let deadline = Instant::now() + HANDSHAKE_DEADLINE;
    let path = match timeout_at(deadline, dial.connect()).await.unwrap_or(Err(DialError::TooSlow)) {
        Ok(path) => path,
        Err(error) => {
            door.counters.tunnels_refused.add(1);
            // Anybody can cause this line, so it is not for every day.
            tracing::debug!(%address, %error, "dial failed");
            return;
        }
    };
    let greeted = timeout_at(deadline, greet(&path, address, &door)).await.unwrap_or(Err(DialError::TooSlow));
    let tunnel = match greeted {
        // No peer is awaited here, so no deadline may tear a tunnel from its registration.
        Ok(new) => register(new, &path, &door).await,
        Err(error) => Err(error),
    };
    match tunnel {
        Ok(tunnel) => {
            door.counters.tunnels_total.add(1);
            tracing::info!(machine = %tunnel.name.machine, tunnel = tunnel.number, %address, transport = path.transport().name(), "tunnel up");
            door.tunnels.spawn(tunnel.run());
        }
        Err(error) => {
            door.counters.tunnels_refused.add(1);
            let code = error.close_code();
            path.close(code);
            tracing::info!(%address, code = code.name(), %error, "dial refused");
        }
    }
}

/// An agent that has shown who it is and said hello.
struct Greeted {
    name: MachineName,
    address: String,
    hello: Hello,
    control: ControlStream,
}

async fn greet(path: &Path, address: SocketAddr, door: &Door) -> Result<Greeted, DialError> {
    let name = machine_name(path).ok_or(DialError::NoMachine)?;
    let address = address.to_string();
    let (send, recv) = path.accept_bi().await?;
    let mut control = ControlStream::new(send, recv);
    let hello = hello(&mut control).await?;
    if hello.machine == name.machine {
        return Ok(Greeted { name, address, hello, control });
    }
    let claimed = hello.machine;
    let code = CloseCode::WrongInstallation;
    let MachineName { org, machine } = name;
    door.registry
        .report(FromBroker::DialRefused { machine, org, claimed: Some(claimed), address, code })
        .await;
    Err(DialError::OtherMachine { claimed })
}

async fn register(greeted: Greeted, path: &Path, door: &Door) -> Result<Tunnel, DialError> {
    let Greeted { name, address, hello, control } = greeted;
    let presence = Presence::new(hello.sessions.clone());
    let carrier = Carrier::new(path.clone());
    let transport = path.transport();
    let new = NewTunnel { name, connection: carrier.clone(), address: address.clone(), transport, hello };
    let Registered { number, orders } = door.registry.up(new).await.map_err(DialError::Refused)?;
    Ok(Tunnel {
        name,
        number,
        address,
        broker: door.broker.clone(),
        path: path.clone(),
        carrier,
        control,
        orders,
        registry: door.registry.clone(),
        presence,
    })
}

/// Who the certificate says it is; the TLS layer has verified it against our own authority.
fn machine_name(path: &Path) -> Option<MachineName> {
    MachineName::from_certificate(path.peer_certificates()?.first()?).ok()
}

async fn hello(control: &mut ControlStream) -> Result<Hello, DialError> {
    match control.next().await? {
        AgentMessage::Hello(hello) if hello.v == PROTOCOL_VERSION => Ok(clip(hello)),
        AgentMessage::Hello(_)
        | AgentMessage::Presence(_)
        | AgentMessage::Sample(_)
        | AgentMessage::Pong { .. }
        | AgentMessage::Ping { .. } => Err(DialError::NoHello),
    }
}
