//! The one frame that the broker reads: `Open` or `Attach`, of which only the ticket and the session concern it.
//!
//! Its bytes, and whatever came with them, are passed on as they came.

use bytes::BytesMut;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::{Decoder, Frame, FrameError};
use rexec_shared::limits::{FIRST_FRAME_DEADLINE, FIRST_FRAME_MAX};
use rexec_shared::message::{ATTACH, OPEN};
use rexec_shared::ticket::{Claims, PublicKey, TicketError};
use serde::Deserialize;
use tokio::time::timeout;
use uuid::Uuid;

use super::socket::{Inbound, Socket};
use crate::limits::HELD_BYTES_MAX;

/// What the broker takes from the first frame.
#[derive(Debug)]
pub(super) struct FirstFrame {
    /// Signed by control; nothing else about them has been checked yet.
    pub(super) claims: Claims,
    pub(super) ticket: String,
    pub(super) session: Uuid,
    /// `Open`, not `Attach`.
    pub(super) opening: bool,
    /// All that the viewer has sent so far.
    pub(super) bytes: BytesMut,
}

/// Of `Open` and `Attach`, what concerns the broker; the rest is between viewer and host.
#[derive(Deserialize)]
struct Fields {
    ticket: String,
    session: Uuid,
}

/// Reads the first frame and verifies the signature of its ticket.
pub(super) async fn read(socket: &mut Socket, key: &PublicKey) -> Result<FirstFrame, CloseCode> {
    let bytes = timeout(FIRST_FRAME_DEADLINE, collect(socket)).await.unwrap_or(Err(CloseCode::TooSlow))?;
    parse(bytes, key)
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

fn parse(bytes: BytesMut, key: &PublicKey) -> Result<FirstFrame, CloseCode> {
    let frame = first(&bytes).ok_or(CloseCode::ProtocolError)?;
    let opening = match frame.kind {
        OPEN => true,
        ATTACH => false,
        _ => return Err(CloseCode::ProtocolError),
    };
    let Fields { ticket, session } =
        serde_json::from_slice(&frame.payload).map_err(|_| CloseCode::ProtocolError)?;
    #[cfg(test)]
    assert_ne!(session, crate::panics::SESSION, "a test asked for it");
    let (_, claims) = key.permission(&ticket).map_err(TicketError::close_code)?;
    Ok(FirstFrame { claims, ticket, session, opening, bytes })
}

fn first(bytes: &[u8]) -> Option<Frame> {
    let mut decoder = Decoder::with_max(FIRST_FRAME_MAX);
    decoder.push(bytes);
    decoder.poll_frame().ok()?
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
