//! What a viewer stream must show before the host keeps anything of it: a first frame, a good ticket, and possession of the ticket's key.
//!
//! Until [`Admission`] there is a socket, a deadline and at most one first frame; nothing else of a viewer exists (THREATS BU-04, BR-01, ST-05).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::{Bytes, BytesMut};
use rand::Rng;
use rexec_shared::PROTOCOL_VERSION;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::{Decoder, Frame};
use rexec_shared::limits::{FIRST_FRAME_DEADLINE, FIRST_FRAME_MAX, PROOF_DEADLINE};
use rexec_shared::message::{
    Attach, Challenge, ErrorMessage, HostMessage, Open, SNAPSHOT_ACK, SessionKind, Spec, ViewerMessage,
};
use rexec_shared::proof::{self, NONCE_LEN};
use rexec_shared::ticket::{Claims, TicketError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use uuid::Uuid;

use super::hub::HubHandle;

/// Why a viewer is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: CloseCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: CloseCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn protocol(message: impl std::fmt::Display) -> Self {
        Self::new(CloseCode::ProtocolError, message.to_string())
    }

    /// The host is going away and answers no more.
    pub(super) fn host_gone() -> Self {
        Self::new(CloseCode::HostUnavailable, "the session host is stopping")
    }

    /// The frame that tells the viewer.
    pub(super) fn message(&self) -> HostMessage {
        HostMessage::Error(ErrorMessage::new(self.code, self.message.clone()))
    }
}

impl From<TicketError> for Refusal {
    fn from(error: TicketError) -> Self {
        Self::new(error.close_code(), error.to_string())
    }
}

/// What a viewer wants, from its first frame.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) ticket: String,
    pub(super) viewer: Uuid,
    /// Which of the viewer's streams this is.
    pub(super) attempt: u64,
    pub(super) session: Uuid,
    pub(super) input_seq: u64,
    /// Whether it acknowledges snapshots.
    pub(super) snapshot_ack: bool,
    pub(super) intent: Intent,
}

/// Make a session, come to one, or look at files.
#[derive(Debug, Clone)]
pub(super) enum Intent {
    /// `Open` of a terminal.
    Open(Spec),
    /// `Open` of a files stream.
    Files,
    /// `Open` of a connection to this port.
    Forward(u16),
    /// `Attach`: what the viewer has seen.
    Attach { epoch: Option<Uuid>, offset: Option<u64> },
}

/// A viewer that has shown a good ticket and its key.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) request: Request,
    pub(super) claims: Box<Claims>,
    /// What the viewer sent after its proof.
    pub(super) rest: BytesMut,
}

/// Speaks with a new stream until it is admitted. An error is told to the viewer by the caller; `None`: the stream is already gone.
pub(super) async fn admit(stream: &mut UnixStream, hub: &HubHandle) -> Result<Option<Admission>, Refusal> {
    let mut decoder = Decoder::with_max(FIRST_FRAME_MAX);
    let Some(first) = next_frame(stream, &mut decoder, FIRST_FRAME_DEADLINE, "first frame").await? else {
        return Ok(None);
    };
    let request = parse_first(&first)?;
    let claims = hub.check(&request).await?;
    let nonce = challenge(stream).await?;
    let Some(answer) = next_frame(stream, &mut decoder, PROOF_DEADLINE, "proof").await? else {
        return Ok(None);
    };
    verify_proof(&answer, &claims, &nonce, &first.payload)?;
    Ok(Some(Admission { request, claims, rest: decoder.into_rest() }))
}

async fn next_frame(
    stream: &mut UnixStream,
    decoder: &mut Decoder,
    deadline: Duration,
    what: &str,
) -> Result<Option<Frame>, Refusal> {
    let frame = timeout(deadline, read_frame(stream, decoder)).await;
    frame.unwrap_or_else(|_| {
        Err(Refusal::new(CloseCode::TooSlow, format!("no {what} within {} s", deadline.as_secs())))
    })
}

async fn read_frame(stream: &mut UnixStream, decoder: &mut Decoder) -> Result<Option<Frame>, Refusal> {
    loop {
        if let Some(frame) = decoder.poll_frame().map_err(Refusal::protocol)? {
            return Ok(Some(frame));
        }
        // A frame of the largest size and the beginning of the next: no stream makes the host hold more.
        let mut chunk = [0; 4 * 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(len) => decoder.push(chunk.get(..len).unwrap_or_default()),
        }
    }
}

/// What a first frame asks for.
pub(super) fn parse_first(frame: &Frame) -> Result<Request, Refusal> {
    let message = ViewerMessage::decode(frame).map_err(Refusal::protocol)?;
    let (v, request) = match message {
        Some(ViewerMessage::Open(open)) => {
            let Open { v, features, ticket, viewer, attempt, session, input_seq, spec } = open;
            let intent = match spec.kind {
                SessionKind::Terminal => Intent::Open(spec),
                SessionKind::Files => Intent::Files,
                SessionKind::Forward => Intent::Forward(forward_port(spec.port)?),
                SessionKind::Exec => {
                    return Err(Refusal::protocol("this agent opens terminals, files and forwards only"));
                }
            };
            let snapshot_ack = has_snapshot_ack(&features);
            (v, Request { ticket, viewer, attempt, session, input_seq, snapshot_ack, intent })
        }
        Some(ViewerMessage::Attach(attach)) => {
            let Attach { v, features, ticket, viewer, attempt, session, epoch, offset, input_seq } = attach;
            let (snapshot_ack, intent) = (has_snapshot_ack(&features), Intent::Attach { epoch, offset });
            (v, Request { ticket, viewer, attempt, session, input_seq, snapshot_ack, intent })
        }
        Some(_) | None => return Err(Refusal::protocol("the first frame must be Open or Attach")),
    };
    if v != PROTOCOL_VERSION {
        return Err(Refusal::protocol(format!("protocol version {v}; this agent speaks {PROTOCOL_VERSION}")));
    }
    Ok(request)
}

fn forward_port(port: Option<u16>) -> Result<u16, Refusal> {
    port.filter(|port| *port != 0).ok_or_else(|| Refusal::protocol("a forward names a port from 1 to 65535"))
}

fn has_snapshot_ack(features: &[String]) -> bool {
    features.iter().any(|feature| feature == SNAPSHOT_ACK)
}

async fn challenge(stream: &mut UnixStream) -> Result<[u8; NONCE_LEN], Refusal> {
    let mut nonce = [0; NONCE_LEN];
    rand::rng().fill_bytes(&mut nonce);
    let mut out = BytesMut::new();
    let (v, features) = (PROTOCOL_VERSION, vec![SNAPSHOT_ACK.to_owned()]);
    let challenge = Challenge { v, features, nonce: BASE64.encode(nonce) };
    HostMessage::Challenge(challenge).encode(&mut out);
    let written = timeout(PROOF_DEADLINE, stream.write_all(&out)).await;
    match written {
        Ok(Ok(())) => Ok(nonce),
        Ok(Err(_)) | Err(_) => Err(Refusal::new(CloseCode::TooSlow, "the challenge could not be sent")),
    }
}

fn verify_proof(frame: &Frame, claims: &Claims, nonce: &[u8], first_payload: &Bytes) -> Result<(), Refusal> {
    match ViewerMessage::decode(frame).map_err(Refusal::protocol)? {
        Some(ViewerMessage::Proof(answer)) => proof::verify(&answer, &claims.cnf, nonce, first_payload)
            .map_err(|error| Refusal::new(CloseCode::BadTicket, error.to_string())),
        Some(_) | None => Err(Refusal::protocol("the second frame must be Proof")),
    }
}
