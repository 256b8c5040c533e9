//! A viewer's WebSocket: what comes in, reduced to what the broker cares for, and sends with a deadline.

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rexec_shared::close::CloseCode;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use crate::limits::{CLOSE_DEADLINE, VIEWER_SILENT, VIEWER_WRITE_DEADLINE};

/// Both directions of a viewer's WebSocket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) source: Source,
    pub(super) sink: Sink,
}

/// From the viewer.
#[derive(Debug)]
pub(super) struct Source(SplitStream<WebSocket>);

/// To the viewer.
#[derive(Debug)]
pub(super) struct Sink(SplitSink<WebSocket, Message>);

/// What came from the viewer.
#[derive(Debug)]
pub(super) enum Inbound {
    /// A slice of its byte stream.
    Bytes(Bytes),
    /// It lives, and said nothing.
    Alive,
    /// It closed, or its path did.
    Left,
    /// It broke the protocol, or has been silent for too long.
    Broken(CloseCode),
}

/// Why nothing more can be sent.
#[derive(Debug)]
pub(super) enum SendEnd {
    /// It does not read.
    Stuck,
    /// It is gone.
    Left,
}

impl Socket {
    pub(super) fn new(socket: WebSocket) -> Self {
        let (sink, source) = socket.split();
        Self { source: Source(source), sink: Sink(sink) }
    }

    /// Tells the viewer why, and waits a moment for its answer: a socket torn down with unread bytes would take the reason with it.
    pub(super) async fn close(&mut self, code: CloseCode) {
        let frame = CloseFrame { code: code.websocket(), reason: code.name().into() };
        let farewell = async {
            self.sink.0.send(Message::Close(Some(frame))).await?;
            while let Some(Ok(_)) = self.source.0.next().await {}
            Ok::<(), axum::Error>(())
        };
        if !matches!(timeout(CLOSE_DEADLINE, farewell).await, Ok(Ok(()))) {
            tracing::debug!(code = code.name(), "the viewer did not take its close");
        }
    }
}

impl Source {
    /// The next thing from the viewer. Cancel-safe.
    pub(super) async fn next(&mut self) -> Inbound {
        match timeout(VIEWER_SILENT, self.0.next()).await {
            Ok(Some(Ok(Message::Binary(bytes)))) => Inbound::Bytes(bytes),
            // Pings are answered by the library.
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => Inbound::Alive,
            Ok(Some(Ok(Message::Text(_)))) => Inbound::Broken(CloseCode::ProtocolError),
            Ok(None | Some(Ok(Message::Close(_)))) => Inbound::Left,
            Ok(Some(Err(error))) => broken(error),
            Err(_) => Inbound::Broken(CloseCode::TooSlow),
        }
    }
}

/// Whether the viewer broke the protocol or its path broke.
fn broken(error: axum::Error) -> Inbound {
    match error.into_inner().downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        )) => Inbound::Left,
        Some(
            tungstenite::Error::Capacity(_) | tungstenite::Error::Protocol(_) | tungstenite::Error::Utf8(_),
        ) => Inbound::Broken(CloseCode::ProtocolError),
        Some(_) | None => Inbound::Left,
    }
}

impl Sink {
    /// Hands a slice of the byte stream to the viewer's system.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), SendEnd> {
        self.write(Message::Binary(bytes)).await
    }

    /// Asks whether the viewer is there.
    pub(super) async fn ping(&mut self) -> Result<(), SendEnd> {
        self.write(Message::Ping(Bytes::new())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), SendEnd> {
        match timeout(VIEWER_WRITE_DEADLINE, self.0.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SendEnd::Left),
            Err(_) => Err(SendEnd::Stuck),
        }
    }
}
