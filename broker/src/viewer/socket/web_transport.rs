//! A viewer's stream in a WebTransport session (draft-ietf-webtrans-http3): a bidirectional stream behind a short header.
//!
//! Who closes says why by resetting the stream with the code of the table; `done` is the stream's plain end, behind all that was said.

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rexec_shared::close::CloseCode;
use web_transport_proto::{Frame, VarInt as H3VarInt, error_to_http3};

use super::{Inbound, SendEnd, Socket};
use crate::limits::BATCH;

/// `H3_NO_ERROR` (RFC 9114 §8.1).
const H3_NO_ERROR: VarInt = VarInt::from_u32(0x100);

/// A session that was agreed upon; the connection is its own, and ends with it.
#[derive(Debug)]
pub(in super::super) struct Session {
    connection: Connection,
    /// HTTP/3's control streams and our half of the request: a browser takes an end of either for the session's.
    _held: [SendStream; 2],
    _control: RecvStream,
}

/// From the viewer.
#[derive(Debug)]
pub(in super::super) struct Source(RecvStream);

/// To the viewer.
#[derive(Debug)]
pub(in super::super) struct Sink {
    send: SendStream,
    session: Session,
}

impl Session {
    /// `control` are both sides' control streams, `request` the stream that the session was asked for on and is closed by.
    pub(in super::super) fn new(
        connection: Connection,
        control: (SendStream, RecvStream),
        request: (SendStream, RecvStream),
    ) -> Self {
        let (held, _control) = ([control.0, request.0], control.1);
        tokio::spawn(end_with(request.1, connection.clone()));
        Self { connection, _held: held, _control }
    }

    /// The one stream there is, once the browser has opened it.
    pub(in super::super) async fn stream(self) -> Option<Socket> {
        let (send, mut recv) = self.connection.accept_bi().await.ok()?;
        let kind = H3VarInt::read(&mut recv).await.ok()?;
        let _session = H3VarInt::read(&mut recv).await.ok()?;
        // The connection has one session, so whichever is named is that.
        (Frame(kind) == Frame::WEBTRANSPORT)
            .then(|| Socket::web_transport(Source(recv), Sink { send, session: self }))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.close(H3_NO_ERROR, b"");
    }
}

/// A browser that ends its session ends the request's stream; what it says there first is of no interest.
async fn end_with(mut request: RecvStream, connection: Connection) {
    while let Ok(Some(_)) = request.read_chunk(BATCH, false).await {}
    connection.close(H3_NO_ERROR, b"");
}

impl Source {
    pub(super) async fn next(&mut self) -> Inbound {
        match self.0.read_chunk(BATCH, true).await {
            Ok(Some(chunk)) => Inbound::Bytes(chunk.bytes),
            Ok(None) | Err(_) => Inbound::Left,
        }
    }
}

impl Sink {
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), SendEnd> {
        self.send.write_chunk(bytes).await.map_err(|_| SendEnd::Left)
    }

    pub(super) async fn close(&mut self, code: CloseCode) {
        // A stream that has ended already takes no end.
        if code == CloseCode::Done {
            self.send.finish().ok();
        } else {
            self.send.reset(stream_code(code)).ok();
        }
        // The browser closes the session once it has read that.
        self.session.connection.closed().await;
    }
}

/// The code as WebTransport carries it, in HTTP/3's space of codes.
fn stream_code(code: CloseCode) -> VarInt {
    VarInt::from_u64(error_to_http3(code.number())).unwrap_or(VarInt::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_draft() {
        // draft-ietf-webtrans-http3, section 4.4: 0x52e4a40fa8db + n + floor(n / 0x1e).
        assert_eq!(stream_code(CloseCode::Revoked).into_inner(), 0x52e4_a40f_a8db + 6);
    }
}
