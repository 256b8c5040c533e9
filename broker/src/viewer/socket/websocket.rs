//! A viewer's WebSocket.

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rexec_shared::close::CloseCode;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use super::{Inbound, SendEnd};
use crate::limits::VIEWER_SILENT;

/// From the viewer.
#[derive(Debug)]
pub(in super::super) struct Source(SplitStream<WebSocket>);

/// To the viewer.
#[derive(Debug)]
pub(in super::super) struct Sink(SplitSink<WebSocket, Message>);

pub(super) fn split(socket: WebSocket) -> (Sink, Source) {
    let (sink, source) = socket.split();
    (Sink(sink), Source(source))
}

impl Source {
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
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), SendEnd> {
        self.write(Message::Binary(bytes)).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), SendEnd> {
        self.write(Message::Ping(Bytes::new())).await
    }

    pub(super) async fn close(&mut self, code: CloseCode) {
        let frame = CloseFrame { code: code.websocket(), reason: code.name().into() };
        self.write(Message::Close(Some(frame))).await.ok();
    }

    async fn write(&mut self, message: Message) -> Result<(), SendEnd> {
        self.0.send(message).await.map_err(|_| SendEnd::Left)
    }
}
