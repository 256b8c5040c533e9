//! The one frame that the broker reads: `Open` or `Attach`, of which only the ticket and the session concern it.
//!
//! Its bytes, and whatever came with them, are passed on as they came.

mod parse;

use bytes::BytesMut;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::{Decoder, FrameError};
use rexec_shared::limits::{FIRST_FRAME_DEADLINE, FIRST_FRAME_MAX};
use rexec_shared::ticket::PublicKey;
use tokio::time::timeout;

pub(super) use self::parse::FirstFrame;
use super::socket::{Inbound, Socket};
use crate::limits::HELD_BYTES_MAX;

/// Reads the first frame and verifies the signature of its ticket.
pub(super) async fn read(socket: &mut Socket, key: &PublicKey) -> Result<FirstFrame, CloseCode> {
    let bytes = timeout(FIRST_FRAME_DEADLINE, collect(socket)).await.unwrap_or(Err(CloseCode::TooSlow))?;
    let first = parse::parse(bytes, key)?;
    #[cfg(test)]
    assert_ne!(first.session, crate::panics::SESSION, "a test asked for it");
    Ok(first)
}

async fn collect(socket: &mut Socket) -> Result<BytesMut, CloseCode> {
    let mut decoder = Decoder::with_max(FIRST_FRAME_MAX);
    loop {
        match socket.source.next().await {
            Inbound::Bytes(bytes) => decoder.push(&bytes),
            Inbound::Alive => continue,
            Inbound::Left => return Err(CloseCode::Done),
            Inbound::Broken(code) => return Err(code),
        }
        let complete = decoder.complete_len().map_err(|_: FrameError| CloseCode::ProtocolError)?;
        if decoder.buffer_mut().len() > HELD_BYTES_MAX {
            return Err(CloseCode::ProtocolError);
        }
        if complete.is_some() {
            return Ok(decoder.into_rest());
        }
    }
}

impl FirstFrame {
    /// Goes on reading while the machine is awaited, so that a viewer that leaves is noticed. Ends only when the viewer does.
    pub(super) async fn read_ahead(&mut self, socket: &mut Socket) -> CloseCode {
        loop {
            match socket.source.next().await {
                Inbound::Bytes(bytes) if self.bytes.len() + bytes.len() <= HELD_BYTES_MAX => {
                    self.bytes.extend_from_slice(&bytes);
                }
                Inbound::Bytes(_) => return CloseCode::ProtocolError,
                Inbound::Alive => {}
                Inbound::Left => return CloseCode::Done,
                Inbound::Broken(code) => return code,
            }
        }
    }
}
