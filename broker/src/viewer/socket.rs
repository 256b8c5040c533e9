//! A viewer's connection, over WebSocket or WebTransport: what comes in, reduced to what the broker cares for, and sends with a deadline.

mod web_transport;
mod websocket;

use std::pin::pin;

use axum::extract::ws::WebSocket;
use bytes::Bytes;
use rexec_shared::close::CloseCode;
use tokio::time::timeout;

pub(super) use self::web_transport::Session;
use crate::carrier::Lane;
use crate::limits::{CLOSE_DEADLINE, STALL_GRACE, VIEWER_WRITE_DEADLINE};

/// Both directions of a viewer's connection.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) source: Source,
    pub(super) sink: Sink,
}

/// From the viewer.
#[derive(Debug)]
pub(super) enum Source {
    WebSocket(websocket::Source),
    WebTransport(web_transport::Source),
}

/// To the viewer.
#[derive(Debug)]
pub(super) enum Sink {
    WebSocket(websocket::Sink),
    WebTransport(web_transport::Sink),
}

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
    /// A WebSocket that stands.
    pub(super) fn websocket(socket: WebSocket) -> Self {
        let (sink, source) = websocket::split(socket);
        Self { source: Source::WebSocket(source), sink: Sink::WebSocket(sink) }
    }

    /// The stream of a WebTransport session.
    pub(super) fn web_transport(source: web_transport::Source, sink: web_transport::Sink) -> Self {
        Self { source: Source::WebTransport(source), sink: Sink::WebTransport(sink) }
    }

    /// What carries it, for the log.
    pub(super) fn transport(&self) -> &'static str {
        match self.sink {
            Sink::WebSocket(_) => "websocket",
            Sink::WebTransport(_) => "webtransport",
        }
    }

    /// Tells the viewer why, and waits a moment for its answer: a connection torn down with unread bytes would take the reason with it.
    pub(super) async fn close(&mut self, code: CloseCode) {
        let farewell = async {
            match &mut self.sink {
                Sink::WebSocket(sink) => sink.close(code).await,
                Sink::WebTransport(sink) => sink.close(code).await,
            }
            while matches!(self.source.next().await, Inbound::Bytes(_) | Inbound::Alive) {}
        };
        if timeout(CLOSE_DEADLINE, farewell).await.is_err() {
            tracing::debug!(code = code.name(), "the viewer did not take its close");
        }
    }
}

impl Source {
    /// The next thing from the viewer. Cancel-safe.
    pub(super) async fn next(&mut self) -> Inbound {
        match self {
            Self::WebSocket(source) => source.next().await,
            Self::WebTransport(source) => source.next().await,
        }
    }
}

impl Sink {
    async fn write(&mut self, bytes: Bytes) -> Result<(), SendEnd> {
        match self {
            Self::WebSocket(sink) => sink.send(bytes).await,
            Self::WebTransport(sink) => sink.send(bytes).await,
        }
    }
}

/// A viewer's sink, and its place among the viewers of its tunnel.
#[derive(Debug)]
pub(super) struct Outlet<'a> {
    pub(super) sink: &'a mut Sink,
    pub(super) lane: &'a Lane,
}

impl Outlet<'_> {
    /// Hands a slice of the byte stream to the viewer's system. A viewer that does not take it soon needs a place among the slow, and is cut
    /// when there is none.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), SendEnd> {
        let mut sending = pin!(self.sink.write(bytes));
        if let Ok(sent) = timeout(STALL_GRACE, &mut sending).await {
            return sent;
        }
        let _place = self.lane.enter_slow().ok_or(SendEnd::Stuck)?;
        timeout(VIEWER_WRITE_DEADLINE - STALL_GRACE, sending).await.unwrap_or(Err(SendEnd::Stuck))
    }

    /// Asks whether the viewer is there. QUIC does so by itself.
    pub(super) async fn ping(&mut self) -> Result<(), SendEnd> {
        match self.sink {
            Sink::WebSocket(sink) => {
                timeout(VIEWER_WRITE_DEADLINE, sink.ping()).await.unwrap_or(Err(SendEnd::Stuck))
            }
            Sink::WebTransport(_) => Ok(()),
        }
    }
}
