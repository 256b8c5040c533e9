//! Where agents come in: the accept loop and the handshake up to `Welcome`.
//!
//! The loop awaits no peer: each handshake is a task with a deadline, counted by [`HalfOpen`] (THREATS MA-11, NW-03). Who an agent is, its
//! certificate alone decides; `Hello.machine` is only compared with it (THREATS MA-01).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{Connection, ConnectionError, Endpoint, Incoming};
use rexec_shared::PROTOCOL_VERSION;
use rexec_shared::broker_link::FromBroker;
use rexec_shared::close::CloseCode;
use rexec_shared::pki::MachineName;
use rexec_shared::tunnel::{AgentMessage, Hello};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::carrier::Carrier;
use crate::control_stream::{ControlError, ControlStream};
use crate::counters::Counters;
use crate::half_open::{Decision, HalfOpen, Origin};
use crate::limits::HANDSHAKE_DEADLINE;
use crate::registry::{NewTunnel, Registered, Registry};
use crate::tunnel::{Presence, Tunnel, clip, close};

/// Why a dial came to nothing.
#[derive(Debug, Error)]
enum DialError {
    #[error("handshake: {0}")]
    Quic(#[from] ConnectionError),
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
            Self::Quic(_) => CloseCode::TunnelLost,
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
}

/// Accepts dials until `stop` is cancelled.
pub(crate) async fn run(endpoint: Endpoint, door: Door, stop: CancellationToken) {
    let mut handshakes = Handshakes::default();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = handshakes.tasks.join_next_with_id() => handshakes.handle_end(ended),
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => handshakes.handle_dial(incoming, &door),
                None => break,
            },
        }
        door.counters.handshakes.set(handshakes.gate.total());
        // A flood of dials gives way to the tunnels that stand.
        tokio::task::coop::consume_budget().await;
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
    fn handle_dial(&mut self, incoming: Incoming, door: &Door) {
        let origin = Origin::new(incoming.remote_address().ip(), incoming.remote_address_validated());
        match self.gate.handle_dial(origin) {
            Decision::Begin => {
                let task = self.tasks.spawn(handshake(incoming, door.clone()));
                self.origins.insert(task.id(), origin);
            }
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
async fn handshake(incoming: Incoming, door: Door) {
    let address = incoming.remote_address();
    let deadline = Instant::now() + HANDSHAKE_DEADLINE;
    let connection = match timeout_at(deadline, connect(incoming)).await.unwrap_or(Err(DialError::TooSlow)) {
        Ok(connection) => connection,
        Err(error) => {
            door.counters.tunnels_refused.add(1);
            // Anybody can cause this line, so it is not for every day.
            tracing::debug!(%address, %error, "dial failed");
            return;
        }
    };
    let greeted =
        timeout_at(deadline, greet(&connection, address, &door)).await.unwrap_or(Err(DialError::TooSlow));
    let tunnel = match greeted {
        // No peer is awaited here, so no deadline may tear a tunnel from its registration.
        Ok(new) => register(new, &connection, &door).await,
        Err(error) => Err(error),
    };
    match tunnel {
        Ok(tunnel) => {
            door.counters.tunnels_total.add(1);
            tracing::info!(machine = %tunnel.name.machine, tunnel = tunnel.number, %address, "tunnel up");
            door.tunnels.spawn(tunnel.run());
        }
        Err(error) => {
            door.counters.tunnels_refused.add(1);
            let code = error.close_code();
            close(&connection, code);
            tracing::info!(%address, code = code.name(), %error, "dial refused");
        }
    }
}

async fn connect(incoming: Incoming) -> Result<Connection, DialError> {
    Ok(incoming.accept()?.await?)
}

/// An agent that has shown who it is and said hello.
struct Greeted {
    name: MachineName,
    address: String,
    hello: Hello,
    control: ControlStream,
}

async fn greet(connection: &Connection, address: SocketAddr, door: &Door) -> Result<Greeted, DialError> {
    let name = machine_name(connection).ok_or(DialError::NoMachine)?;
    let address = address.to_string();
    let (send, recv) = connection.accept_bi().await?;
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

async fn register(greeted: Greeted, connection: &Connection, door: &Door) -> Result<Tunnel, DialError> {
    let Greeted { name, address, hello, control } = greeted;
    let presence = Presence::new(hello.sessions.clone());
    let carrier = Carrier::new(connection.clone());
    let new = NewTunnel { name, connection: carrier.clone(), address: address.clone(), hello };
    let Registered { number, orders } = door.registry.up(new).await.map_err(DialError::Refused)?;
    Ok(Tunnel {
        name,
        number,
        address,
        broker: door.broker.clone(),
        connection: connection.clone(),
        carrier,
        control,
        orders,
        registry: door.registry.clone(),
        presence,
    })
}

/// Who the certificate says it is; the TLS layer has verified it against our own authority.
fn machine_name(connection: &Connection) -> Option<MachineName> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    MachineName::from_certificate(identity.first()?).ok()
}

async fn hello(control: &mut ControlStream) -> Result<Hello, DialError> {
    match control.next().await? {
        AgentMessage::Hello(hello) if hello.v == PROTOCOL_VERSION => Ok(clip(hello)),
        AgentMessage::Hello(_)
        | AgentMessage::Presence(_)
        | AgentMessage::Pong { .. }
        | AgentMessage::Ping { .. } => Err(DialError::NoHello),
    }
}
