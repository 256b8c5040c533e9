//! Viewers: `GET /viewer` over WebSocket, `CONNECT /viewer` over WebTransport ([`web`]), from the request to the line in the log that says
//! how it ended.

mod first_frame;
mod lobby;
mod origin;
mod pump;
mod socket;
pub(crate) mod web;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rexec_shared::broker_link::FromBroker;
use rexec_shared::close::CloseCode;
use rexec_shared::ticket::PublicKey;
use rexec_tunnel::{RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use self::first_frame::FirstFrame;
use self::lobby::{Full, Lobby, Place};
use self::origin::Origins;
use self::pump::{Copied, Pumped};
use self::socket::Socket;
use crate::carrier::Lane;
use crate::counters::{Counters, OpenStream};
use crate::limits::{BATCH, OPEN_DEADLINE, VIEWER_MESSAGE_MAX, VIEWER_READ_BUFFER, VIEWERS_TOTAL_MAX};
use crate::problem::Problem;
use crate::registry::{Attach, Grant, Registry};

/// Where a viewer comes from, when who serves the routes knows better than the socket does: an address that a trusted proxy
/// forwarded. Put it into the request's extensions.
#[derive(Debug, Clone)]
pub struct ViewerAddress(pub String);

/// What every viewer needs.
#[derive(Debug)]
pub(crate) struct Door {
    registry: Registry,
    counters: Arc<Counters>,
    key: PublicKey,
    origins: Origins,
    /// Viewers that have not shown a ticket.
    pending: Lobby,
    /// Browsers' connections over WebTransport; those over TCP are counted by who serves the routes.
    standing: Lobby,
    /// Room for viewers in all.
    total: Arc<Semaphore>,
    /// Counts the viewers' tasks, so that a drain can wait for them.
    tasks: TaskTracker,
}

impl Door {
    pub(crate) fn new(
        registry: Registry,
        counters: Arc<Counters>,
        key: PublicKey,
        origins: Vec<String>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            registry,
            counters,
            key,
            origins: Origins::new(origins),
            pending: Lobby::of_pending(),
            standing: Lobby::of_standing(),
            total: Arc::new(Semaphore::new(VIEWERS_TOTAL_MAX)),
            tasks,
        }
    }

    /// A browser's connection keeps its room for as long as it stands.
    fn stand(&self, room: Room, address: &str) -> Result<Room, Problem> {
        let standing = self.standing.enter(address).map_err(|full| self.refuse(full))?;
        Ok(Room { _standing: Some(standing), ..room })
    }

    fn refuse(&self, full: Full) -> Problem {
        self.counters.viewers_refused.add(1);
        match full {
            Full::All => NO_ROOM,
            Full::Prefix => NO_ROOM_FOR_ADDRESS,
        }
    }

    /// See [`crate::Broker::allow_origins`].
    pub(crate) fn allow_origins(&self, origins: Vec<String>) {
        self.origins.replace(origins);
    }
}

/// The route `GET /viewer`.
pub(crate) fn routes(door: Arc<Door>) -> Router {
    Router::new().route("/viewer", get(upgrade).fallback(method_not_allowed)).with_state(door)
}

async fn method_not_allowed() -> Response {
    let problem = Problem {
        status: StatusCode::METHOD_NOT_ALLOWED,
        code: "method_not_allowed",
        detail: "/viewer is opened with GET",
        hint: "open it as a WebSocket",
    };
    ([(header::ALLOW, HeaderValue::from_static("GET"))], problem).into_response()
}

async fn upgrade(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    proxied: Option<Extension<ViewerAddress>>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let address = match (proxied, peer) {
        (Some(Extension(ViewerAddress(address))), _) => address,
        (None, Some(Extension(ConnectInfo(peer)))) => peer.to_string(),
        (None, None) => "unknown".to_owned(),
    };
    let room = match admit(&door, door.origins.allow(&headers), &address) {
        Ok(room) => room,
        Err(problem) => return problem.into_response(),
    };
    let Ok(socket) = socket else { return NO_WEBSOCKET.into_response() };
    socket
        .max_message_size(VIEWER_MESSAGE_MAX)
        .max_frame_size(VIEWER_MESSAGE_MAX)
        .read_buffer_size(VIEWER_READ_BUFFER)
        // Each message goes to the system at once; what it does not take waits here, and nothing behind it.
        .write_buffer_size(0)
        .max_write_buffer_size(4 * BATCH)
        .on_upgrade(move |socket| serve(Socket::websocket(socket), address, door, room))
}

const NO_WEBSOCKET: Problem = Problem {
    status: StatusCode::UPGRADE_REQUIRED,
    code: "websocket_required",
    detail: "/viewer speaks WebSocket, and this request does not ask for it",
    hint: "connect with a WebSocket client, version 13",
};

/// A viewer's place among all viewers, and among those that have not shown a ticket.
struct Room {
    _total: OwnedSemaphorePermit,
    _standing: Option<Place>,
    pending: Place,
}

fn admit(door: &Door, origin_allowed: bool, address: &str) -> Result<Room, Problem> {
    if !origin_allowed {
        door.counters.viewers_refused.add(1);
        return Err(Problem {
            status: StatusCode::FORBIDDEN,
            code: "origin_not_allowed",
            detail: "this page's origin may not open terminals here",
            hint: "open the installation at its own address; it must equal its public URL",
        });
    }
    let total = door.total.clone().try_acquire_owned().map_err(|_| Full::All);
    let room = total
        .and_then(|total| Ok(Room { _total: total, _standing: None, pending: door.pending.enter(address)? }));
    room.map_err(|full| door.refuse(full))
}

const NO_ROOM: Problem = Problem {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: CloseCode::Overloaded.name(),
    detail: "the broker has no room for another viewer right now",
    hint: "try again in a few seconds",
};

const NO_ROOM_FOR_ADDRESS: Problem = Problem {
    status: StatusCode::TOO_MANY_REQUESTS,
    code: CloseCode::LimitReached.name(),
    detail: "too many viewers from this address have not shown a ticket yet",
    hint: "try again in a few seconds",
};

/// One viewer, from the open connection to its end.
async fn serve(mut socket: Socket, address: String, door: Arc<Door>, room: Room) {
    // The drain waits for this task; a panic in it ends this viewer alone (THREATS MA-12).
    let _tracked = door.tasks.token();
    let begun = Instant::now();
    let Room { _total, _standing, pending } = room;
    let attended = attend(&mut socket, &address, &door, pending).await;
    let ended = match attended {
        Ok(mut open) => {
            let _open = OpenStream::new(&door.counters);
            let pumped = pump::run(&mut socket, &mut open, &door.counters).await;
            Ended { who: Some(open.first), copied: open.copied, code: pumped }
        }
        Err(Refused { who, code }) => {
            door.counters.viewers_refused.add(1);
            Ended { who, copied: Copied::default(), code: Pumped::Closed(code) }
        }
    };
    if let Pumped::Closed(code) = ended.code {
        socket.close(code).await;
    }
    ended.log(&address, socket.transport(), begun);
}

/// How a viewer ended.
struct Ended {
    who: Option<FirstFrame>,
    copied: Copied,
    code: Pumped,
}

impl Ended {
    fn log(&self, address: &str, transport: &str, begun: Instant) {
        let code = match self.code {
            Pumped::Closed(code) => code.name(),
            Pumped::ViewerLeft => "viewer_left",
        };
        let lasted_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &self.who {
            Some(first) => tracing::info!(
                machine = %first.claims.aud, session = %first.session, user = %first.claims.usr, address, transport, code,
                to_agent = self.copied.to_agent, to_viewer = self.copied.to_viewer, lasted_ms, "viewer ended"
            ),
            // Anybody can cause this line, so it is not for every day.
            None => {
                tracing::debug!(address, transport, code, lasted_ms, "viewer without a good ticket ended")
            }
        }
    }
}

/// A viewer that comes to nothing.
struct Refused {
    /// What it asked for, once its ticket's signature has been verified.
    who: Option<FirstFrame>,
    code: CloseCode,
}

impl From<CloseCode> for Refused {
    fn from(code: CloseCode) -> Self {
        Self { who: None, code }
    }
}

/// A stream that stands, its first frame sent.
struct OpenedStream {
    first: FirstFrame,
    send: SendStream,
    recv: RecvStream,
    cut: oneshot::Receiver<CloseCode>,
    copied: Copied,
    lane: Lane,
}

/// Reads the first frame, has the ticket checked, and opens the stream.
async fn attend(
    socket: &mut Socket,
    address: &str,
    door: &Door,
    pending: Place,
) -> Result<OpenedStream, Refused> {
    let mut first = first_frame::read(socket, &door.key).await?;
    drop(pending);
    let opened = open(socket, &mut first, address, door).await;
    match opened {
        Ok((send, recv, lane, cut)) => {
            let copied = Copied { to_agent: first.bytes.len() as u64, to_viewer: 0 };
            first.bytes.clear();
            Ok(OpenedStream { first, send, recv, cut, copied, lane })
        }
        Err(code) => Err(Refused { who: Some(first), code }),
    }
}

type Streams = (SendStream, RecvStream, Lane, oneshot::Receiver<CloseCode>);

async fn open(
    socket: &mut Socket,
    first: &mut FirstFrame,
    address: &str,
    door: &Door,
) -> Result<Streams, CloseCode> {
    let (reply, answer) = oneshot::channel();
    let attach = Attach {
        claims: first.claims.clone(),
        ticket: std::mem::take(&mut first.ticket),
        session: first.session,
        opening: first.opening,
        address: address.to_owned(),
        reply,
    };
    door.registry.attach(attach).await;
    let Grant { connection, cut } = tokio::select! {
        biased;
        answer = answer => answer.unwrap_or(Err(CloseCode::Internal))?,
        code = first.read_ahead(socket) => return Err(code),
    };
    let opening = async {
        let (mut send, recv, lane) = connection.open().await.map_err(|_| CloseCode::TunnelLost)?;
        send.write_all(&first.bytes).await.map_err(|_| CloseCode::TunnelLost)?;
        Ok((send, recv, lane, cut))
    };
    let opened = timeout(OPEN_DEADLINE, opening).await.unwrap_or(Err(CloseCode::LimitReached));
    door.registry.report(outcome(first, address, opened.as_ref().err().copied())).await;
    opened
}

/// What became of a stream that the registry had granted: for the audit.
fn outcome(first: &FirstFrame, address: &str, outcome: Option<CloseCode>) -> FromBroker {
    FromBroker::Stream {
        machine: first.claims.aud,
        session: first.session,
        user: first.claims.usr,
        login: first.claims.lgn,
        caps: first.claims.caps.clone(),
        address: address.to_owned(),
        outcome,
    }
}
