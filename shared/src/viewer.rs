//! One viewer's end of a session, without socket or clock: bytes in, bytes and events out.
//!
//! A viewer outlives its streams. For each new stream call [`Viewer::start`] with a permission, send what [`Viewer::poll_transmit`] gives, feed
//! what arrives to [`Viewer::handle_bytes`], and take events. Position in the output and unacknowledged input carry over, so after
//! a reconnect the viewer sees exactly the rest and its typing arrives exactly once.
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::{Bytes, BytesMut};
use thiserror::Error;
use uuid::Uuid;

use crate::PROTOCOL_VERSION;
use crate::frame::{Decoder, FrameError};
use crate::ledger::{InputQueue, LedgerError};
use crate::limits::{ACK_EVERY, SNAPSHOT_MAX};
use crate::message::{
    Attach, Challenge, ErrorMessage, Exit, HostMessage, InputAck, MessageError, Open, Opened, SNAPSHOT_ACK,
    Size, Snapshot, Spec, ViewerInfo, ViewerMessage,
};
use crate::proof::{ProofError, ViewerKey};

/// Typed bytes a viewer keeps while no host takes them.
const INPUT_QUEUE_MAX: usize = 16 * 1024 * 1024;

/// What a host said, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The stream is attached.
    Opened(Opened),
    /// Reset the terminal and write these bytes: the screen as it was at `offset`.
    Screen {
        /// Offset, size and length.
        snapshot: Snapshot,
        /// What paints it.
        bytes: Bytes,
    },
    /// The next output.
    Output {
        /// Where it begins.
        offset: u64,
        /// What it is.
        bytes: Bytes,
    },
    /// Output is gone for good; a screen follows.
    Gap {
        /// First byte lost.
        from: u64,
        /// First byte not lost.
        to: u64,
    },
    /// Input is in the PTY.
    InputAck(InputAck),
    /// The terminal has this size now.
    Resized(Size),
    /// Who is there.
    Viewers(Vec<ViewerInfo>),
    /// Who owns the size.
    Lease(Option<Uuid>),
    /// The leader ended.
    Exit(Exit),
    /// The title changed.
    Title(String),
    /// The answer to a ping.
    Pong(u64),
    /// The host refuses or ends; the stream is over.
    Error(ErrorMessage),
}

/// A host that broke the protocol.
#[derive(Debug, Error)]
pub enum ViewerError {
    /// Not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not the payload its type says.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Input accounts disagree.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The key could not sign.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Output that is not the next byte: the defect that offsets exist to find.
    #[error("output at {got}, expected {expected}")]
    OutOfOrder {
        /// What came.
        got: u64,
        /// What was expected.
        expected: u64,
    },
    /// A snapshot longer than the limit, or data that belongs to none.
    #[error("snapshot data that was not announced or exceeds {SNAPSHOT_MAX} bytes")]
    SnapshotOverrun,
    /// A nonce that is not base64url.
    #[error("the challenge is malformed")]
    BadChallenge,
}

/// One viewer of one session.
#[derive(Debug)]
pub struct Viewer {
    id: Uuid,
    session: Uuid,
    spec: Spec,
    key: ViewerKey,
    decoder: Decoder,
    /// Streams begun.
    attempts: u64,
    first_payload: Bytes,
    epoch: Option<Uuid>,
    /// Next output byte expected; none until the first byte or a whole snapshot of this epoch came.
    offset: Option<u64>,
    acknowledged: u64,
    painting: Option<(Snapshot, BytesMut)>,
    /// Snapshot data of this stream received, bytes.
    painted: u64,
    attached: bool,
    input: InputQueue,
    out: BytesMut,
    events: VecDeque<Event>,
}

impl Viewer {
    /// A viewer that has seen nothing. `spec` is what to run when the session does not exist.
    pub fn new(id: Uuid, session: Uuid, spec: Spec, key: ViewerKey) -> Self {
        Self {
            id,
            session,
            spec,
            key,
            decoder: Decoder::new(),
            attempts: 0,
            first_payload: Bytes::new(),
            epoch: None,
            offset: None,
            acknowledged: 0,
            painting: None,
            painted: 0,
            attached: false,
            input: InputQueue::new(INPUT_QUEUE_MAX),
            out: BytesMut::new(),
            events: VecDeque::new(),
        }
    }

    /// Its own id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its session.
    pub fn session(&self) -> Uuid {
        self.session
    }

    /// The `cnf` its tickets must carry.
    pub fn confirmation(&self) -> String {
        self.key.confirmation()
    }

    /// Begins a new stream. `open` asks for the session to be made if it is not there (a ticket is needed); otherwise it must exist.
    pub fn start(&mut self, permission: &str, open: bool) {
        self.decoder = Decoder::new();
        (self.painting, self.painted) = (None, 0);
        self.attached = false;
        self.out.clear();
        self.attempts += 1;
        let (v, features) = (PROTOCOL_VERSION, vec![SNAPSHOT_ACK.to_owned()]);
        let ticket = permission.to_owned();
        let (viewer, attempt, session) = (self.id, self.attempts, self.session);
        let input_seq = self.input.acknowledged();
        let first = if open && self.epoch.is_none() {
            ViewerMessage::Open(Open {
                v,
                features,
                ticket,
                viewer,
                attempt,
                session,
                input_seq,
                spec: self.spec.clone(),
            })
        } else {
            let (epoch, offset) = (self.epoch, self.offset);
            ViewerMessage::Attach(Attach {
                v,
                features,
                ticket,
                viewer,
                attempt,
                session,
                epoch,
                offset,
                input_seq,
            })
        };
        first.encode(&mut self.out);
        let mut own = Decoder::new();
        own.push(&self.out);
        self.first_payload = own.poll_frame().ok().flatten().map(|frame| frame.payload).unwrap_or_default();
    }

    /// Forgets what was seen, so that the next stream begins with a snapshot.
    pub fn forget_screen(&mut self) {
        (self.epoch, self.offset) = (None, None);
    }

    /// Bytes to send on the stream.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.attached {
            while let Some((seq, bytes)) = self.input.poll_frame() {
                ViewerMessage::Input { seq, bytes }.encode(&mut self.out);
            }
        }
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }

    /// What the host said.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Queues typed bytes; returns how many were taken.
    pub fn type_bytes(&mut self, bytes: &[u8]) -> usize {
        self.input.push(bytes)
    }

    /// Typed bytes without acknowledgement.
    pub fn pending_input(&self) -> usize {
        self.input.pending()
    }

    /// Next output byte expected.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// The terminal has parsed everything before `offset`. Sent when enough is parsed or everything is.
    pub fn parsed(&mut self, offset: u64) {
        let caught_up = self.offset == Some(offset);
        if offset.saturating_sub(self.acknowledged) >= ACK_EVERY || (caught_up && offset > self.acknowledged)
        {
            self.acknowledged = offset;
            self.send(&ViewerMessage::Ack { offset });
        }
    }

    /// Sends anything else, once attached.
    pub fn send(&mut self, message: &ViewerMessage) {
        if self.attached {
            message.encode(&mut self.out);
        }
    }

    /// Takes received bytes.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), ViewerError> {
        self.decoder.push(bytes);
        while let Some(frame) = self.decoder.poll_frame()? {
            if let Some(message) = HostMessage::decode(&frame)? {
                self.handle_message(message)?;
            }
        }
        Ok(())
    }

    fn handle_message(&mut self, message: HostMessage) -> Result<(), ViewerError> {
        let event = match message {
            HostMessage::Challenge(challenge) => return self.prove(&challenge),
            HostMessage::Opened(opened) => self.handle_opened(opened)?,
            HostMessage::Snapshot(snapshot) => return self.begin_screen(snapshot),
            HostMessage::SnapshotData(bytes) => match self.paint(&bytes)? {
                Some(event) => event,
                None => return Ok(()),
            },
            HostMessage::Output { offset, bytes } => self.handle_output(offset, bytes)?,
            HostMessage::InputAck(ack) => {
                self.input.handle_ack(ack.seq)?;
                Event::InputAck(ack)
            }
            HostMessage::Gap { from, to } => Event::Gap { from, to },
            HostMessage::Resized(size) => Event::Resized(size),
            HostMessage::Viewers(viewers) => Event::Viewers(viewers),
            HostMessage::Lease { holder } => Event::Lease(holder),
            HostMessage::Exit(exit) => Event::Exit(exit),
            HostMessage::Title { title } => Event::Title(title),
            HostMessage::Pong { t } => Event::Pong(t),
            HostMessage::Error(error) => Event::Error(error),
        };
        self.events.push_back(event);
        Ok(())
    }

    fn prove(&mut self, challenge: &Challenge) -> Result<(), ViewerError> {
        let nonce = BASE64.decode(&challenge.nonce).map_err(|_| ViewerError::BadChallenge)?;
        let proof = self.key.prove(&nonce, &self.first_payload)?;
        ViewerMessage::Proof(proof).encode(&mut self.out);
        Ok(())
    }

    fn handle_opened(&mut self, opened: Opened) -> Result<Event, ViewerError> {
        self.input.handle_opened(opened.input_seq)?;
        if self.epoch != Some(opened.epoch) || self.offset.is_none() {
            // A snapshot follows, unless this is the first byte. Until it is whole, nothing of this life was seen.
            self.offset = (opened.offset == 0).then_some(0);
            self.acknowledged = 0;
        }
        self.epoch = Some(opened.epoch);
        self.attached = true;
        Ok(Event::Opened(opened))
    }

    fn begin_screen(&mut self, snapshot: Snapshot) -> Result<(), ViewerError> {
        if snapshot.bytes > SNAPSHOT_MAX as u64 {
            return Err(ViewerError::SnapshotOverrun);
        }
        self.painting = Some((snapshot, BytesMut::new()));
        if let Some(event) = self.paint(&[])? {
            self.events.push_back(event);
        }
        Ok(())
    }

    fn paint(&mut self, bytes: &[u8]) -> Result<Option<Event>, ViewerError> {
        let (snapshot, mut painted) = self.painting.take().ok_or(ViewerError::SnapshotOverrun)?;
        painted.extend_from_slice(bytes);
        self.painted += bytes.len() as u64;
        // Each piece at once: the host may have no more than that on its way.
        if !bytes.is_empty() {
            self.send(&ViewerMessage::SnapshotAck { bytes: self.painted });
        }
        let (have, want) = (painted.len() as u64, snapshot.bytes);
        if have > want {
            return Err(ViewerError::SnapshotOverrun);
        }
        if have < want {
            self.painting = Some((snapshot, painted));
            return Ok(None);
        }
        self.offset = Some(snapshot.offset);
        self.acknowledged = snapshot.offset;
        Ok(Some(Event::Screen { snapshot, bytes: painted.freeze() }))
    }

    fn handle_output(&mut self, offset: u64, bytes: Bytes) -> Result<Event, ViewerError> {
        // Output before the snapshot would hide a gap.
        let expected = self.offset.unwrap_or_default();
        if self.offset != Some(offset) {
            return Err(ViewerError::OutOfOrder { got: offset, expected });
        }
        let next = offset
            .checked_add(bytes.len() as u64)
            .ok_or(ViewerError::OutOfOrder { got: offset, expected })?;
        self.offset = Some(next);
        Ok(Event::Output { offset, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SessionKind;

    #[test]
    fn each_piece_of_a_snapshot_is_acknowledged_at_once_for_the_host_may_send_no_more_before() {
        let (env, cwd, command) = (Default::default(), None, None);
        let spec = Spec { kind: SessionKind::Terminal, cols: 80, rows: 24, env, cwd, command, port: None };
        let mut viewer =
            Viewer::new(Uuid::new_v4(), Uuid::new_v4(), spec, ViewerKey::generate().expect("a key"));
        viewer.attached = true;
        let mut said = BytesMut::new();
        HostMessage::Snapshot(Snapshot { offset: 9, cols: 80, rows: 24, bytes: 50_000 }).encode(&mut said);
        HostMessage::SnapshotData(Bytes::from(vec![b'x'; 16_384])).encode(&mut said);
        viewer.handle_bytes(&said).expect("as the protocol has it");
        let mut told = Decoder::new();
        while let Some(bytes) = viewer.poll_transmit() {
            told.push(&bytes);
        }
        let frame = told.poll_frame().expect("frames").expect("one");
        assert_eq!(
            ViewerMessage::decode(&frame).ok().flatten(),
            Some(ViewerMessage::SnapshotAck { bytes: 16_384 })
        );
    }
}
