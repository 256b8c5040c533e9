//! Viewers over WebTransport: from a browser's first packet to the session that it asks for.
//!
//! ```text
//! browser                                   broker
//!   │ QUIC handshake, ALPN h3                 │  counted with the agents' handshakes, same deadline
//!   │ ───────────────────────────────────────▶│
//!   │ SETTINGS                       SETTINGS │
//!   │ ◀──────────────────────────────────────▶│
//!   │ CONNECT :protocol webtransport /viewer  │  path, origin, room
//!   │ ───────────────────────────────────────▶│
//!   │                                     200 │
//!   │ ◀───────────────────────────────────────│
//!   │ one bidirectional stream                │  from here on as a WebSocket
//!   │ ◀──────────────────────────────────────▶│
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream, ServerConfig};
use rexec_shared::limits::FIRST_FRAME_DEADLINE;
use thiserror::Error;
use tokio::time::timeout;
use web_transport_proto::{ConnectError, ConnectRequest, ConnectResponse, Settings, SettingsError};

use super::socket::Session;
use super::{Door, Room, admit, serve};
use crate::limits::{CLOSE_DEADLINE, HANDSHAKE_DEADLINE};

/// Where viewers are, as for WebSockets.
const PATH: &str = "/viewer";

/// Why no session came about.
#[derive(Debug, Error)]
enum RequestError {
    #[error("handshake: {0}")]
    Handshake(#[from] ConnectionError),
    #[error("settings: {0}")]
    Settings(#[from] SettingsError),
    #[error("the browser does not offer WebTransport")]
    NoWebTransport,
    #[error("request: {0}")]
    Connect(#[from] ConnectError),
    #[error("refused with {0}")]
    Refused(StatusCode),
    #[error("the handshake took longer than {} s", HANDSHAKE_DEADLINE.as_secs())]
    TooSlow,
}

/// One browser: ends in a viewer's task, or in a refusal that is counted and logged.
pub(crate) async fn arrive(incoming: Box<Incoming>, config: Arc<ServerConfig>, door: Arc<Door>) {
    let address = incoming.remote_address();
    let asked = ask(*incoming, config, address, &door);
    match timeout(HANDSHAKE_DEADLINE, asked).await.unwrap_or(Err(RequestError::TooSlow)) {
        Ok((session, room)) => drop(tokio::spawn(attend(session, address.to_string(), door, room))),
        Err(error) => {
            if !matches!(error, RequestError::Refused(_)) {
                door.counters.viewers_refused.add(1);
            }
            // Anybody can cause this line, so it is not for every day.
            tracing::debug!(%address, %error, "no WebTransport session");
        }
    }
}

async fn ask(
    incoming: Incoming,
    config: Arc<ServerConfig>,
    address: SocketAddr,
    door: &Arc<Door>,
) -> Result<(Session, Room), RequestError> {
    let connection = incoming.accept_with(config)?.await?;
    let request = Request::read(connection).await?;
    let admitted = match request.connect.url.path() {
        PATH => admit(door, door.origins.allow_page(&request.connect.headers), &address.to_string())
            .and_then(|room| door.stand(room, &address.to_string()))
            .map_err(|problem| problem.status),
        _ => {
            door.counters.viewers_refused.add(1);
            Err(StatusCode::NOT_FOUND)
        }
    };
    match admitted {
        Ok(room) => Ok((request.accept().await?, room)),
        Err(status) => {
            request.refuse(status).await;
            Err(RequestError::Refused(status))
        }
    }
}

/// From the session to its end; the stream counts as the first frame does.
async fn attend(session: Session, address: String, door: Arc<Door>, room: Room) {
    match timeout(FIRST_FRAME_DEADLINE, session.stream()).await {
        Ok(Some(socket)) => serve(socket, address, door, room).await,
        Ok(None) | Err(_) => door.counters.viewers_refused.add(1),
    }
}

/// What a browser asks for, not yet answered.
struct Request {
    connection: Connection,
    connect: ConnectRequest,
    control: (SendStream, RecvStream),
    stream: (SendStream, RecvStream),
}

impl Request {
    async fn read(connection: Connection) -> Result<Self, RequestError> {
        let control = settings(&connection).await?;
        let mut stream = connection.accept_bi().await?;
        let connect = ConnectRequest::read(&mut stream.1).await?;
        Ok(Self { connection, connect, control, stream })
    }

    async fn accept(self) -> Result<Session, RequestError> {
        let Self { connection, control, mut stream, .. } = self;
        ConnectResponse::OK.write(&mut stream.0).await?;
        Ok(Session::new(connection, control, stream))
    }

    /// Answers, and waits a moment for the browser to take it.
    async fn refuse(mut self, status: StatusCode) {
        if ConnectResponse::new(status).write(&mut self.stream.0).await.is_ok() {
            self.stream.0.finish().ok();
            timeout(CLOSE_DEADLINE, self.connection.closed()).await.ok();
        }
    }
}

/// Both sides' settings. QPACK's streams, which follow, stay unread: without a dynamic table nothing comes on them.
async fn settings(connection: &Connection) -> Result<(SendStream, RecvStream), RequestError> {
    let ours = async {
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        let mut send = connection.open_uni().await?;
        settings.write(&mut send).await?;
        Ok::<_, RequestError>(send)
    };
    let theirs = async {
        let mut recv = connection.accept_uni().await?;
        let settings = Settings::read(&mut recv).await?;
        (settings.supports_webtransport() > 0).then_some(recv).ok_or(RequestError::NoWebTransport)
    };
    tokio::try_join!(ours, theirs)
}
