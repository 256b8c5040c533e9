//! What stands in a first frame, as far as it concerns the broker.
#![deny(clippy::disallowed_methods)]

use bytes::BytesMut;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::{Decoder, Frame};
use rexec_shared::limits::FIRST_FRAME_MAX;
use rexec_shared::message::{ATTACH, OPEN};
use rexec_shared::ticket::{Claims, PublicKey, TicketError};
use serde::Deserialize;
use uuid::Uuid;

/// What the broker takes from the first frame.
#[derive(Debug)]
pub(crate) struct FirstFrame {
    /// Signed by control; nothing else about them has been checked yet.
    pub(crate) claims: Claims,
    pub(crate) ticket: String,
    pub(crate) session: Uuid,
    /// `Open`, not `Attach`.
    pub(crate) opening: bool,
    /// All that the viewer has sent so far.
    pub(crate) bytes: BytesMut,
}

/// Of `Open` and `Attach`, what concerns the broker; the rest is between viewer and host.
#[derive(Deserialize)]
struct Fields {
    ticket: String,
    session: Uuid,
}

/// Reads a whole first frame, with whatever follows it, and verifies the signature of its ticket.
pub(crate) fn parse(bytes: BytesMut, key: &PublicKey) -> Result<FirstFrame, CloseCode> {
    let frame = first(&bytes).ok_or(CloseCode::ProtocolError)?;
    let opening = match frame.kind {
        OPEN => true,
        ATTACH => false,
        _ => return Err(CloseCode::ProtocolError),
    };
    let Fields { ticket, session } =
        serde_json::from_slice(&frame.payload).map_err(|_| CloseCode::ProtocolError)?;
    let (_, claims) = key.permission(&ticket).map_err(TicketError::close_code)?;
    Ok(FirstFrame { claims, ticket, session, opening, bytes })
}

fn first(bytes: &[u8]) -> Option<Frame> {
    let mut decoder = Decoder::with_max(FIRST_FRAME_MAX);
    decoder.push(bytes);
    decoder.poll_frame().ok()?
}
