//! The control stream of a tunnel: whole frames in, whole messages out, both within their limits.

use bytes::BytesMut;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::{Decoder, FrameError};
use rexec_shared::message::MessageError;
use rexec_shared::tunnel::{AgentMessage, BrokerMessage};
use rexec_tunnel::{RecvEnd, RecvStream, SendEnd, SendStream};
use thiserror::Error;
use tokio::time::timeout;

use crate::limits::CONTROL_WRITE_DEADLINE;

/// Bytes taken from the stream at once: the decoder never holds more than one frame and this.
const READ_MAX: usize = 16 * 1024;

/// Why the control stream is of no more use.
#[derive(Debug, Error)]
pub(crate) enum ControlError {
    /// Not frames (THREATS MA-03).
    #[error("control stream: {0}")]
    Frame(#[from] FrameError),
    /// A frame that is not what its type says.
    #[error("control stream: {0}")]
    Message(#[from] MessageError),
    /// The agent finished it.
    #[error("the agent ended its control stream")]
    Ended,
    /// The agent reset it, or the tunnel is lost.
    #[error("control stream: {0}")]
    Read(#[from] RecvEnd),
    /// The agent stopped it, or the tunnel is lost.
    #[error("control stream: {0}")]
    Write(#[from] SendEnd),
    /// The agent left it unread.
    #[error("the agent left its control stream unread for {} s", CONTROL_WRITE_DEADLINE.as_secs())]
    Unread,
}

impl ControlError {
    /// What the agent is told, if it can still be told anything.
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Self::Frame(_) | Self::Message(_) => CloseCode::ProtocolError,
            Self::Ended => CloseCode::Done,
            Self::Read(RecvEnd::Lost) | Self::Write(SendEnd::Lost) => CloseCode::TunnelLost,
            Self::Read(RecvEnd::Reset(_)) | Self::Write(SendEnd::Stopped(_)) => CloseCode::ProtocolError,
            Self::Unread => CloseCode::TooSlow,
        }
    }
}

/// Both directions of the control stream.
#[derive(Debug)]
pub(crate) struct ControlStream {
    send: SendStream,
    recv: RecvStream,
    decoder: Decoder,
}

impl ControlStream {
    pub(crate) fn new(mut send: SendStream, recv: RecvStream) -> Self {
        // Feeds and pings are few, and wait behind nobody's bulk.
        send.set_urgent();
        Self { send, recv, decoder: Decoder::new() }
    }

    /// The agent's next message; those of a newer agent that this build does not know are skipped. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<AgentMessage, ControlError> {
        loop {
            while let Some(frame) = self.decoder.poll_frame()? {
                // A flood of frames gives way to other tunnels.
                tokio::task::coop::consume_budget().await;
                if let Some(message) = AgentMessage::decode(&frame)? {
                    return Ok(message);
                }
            }
            self.release_buffer();
            let chunk = self.recv.read_chunk(READ_MAX).await?.ok_or(ControlError::Ended)?;
            self.decoder.push(&chunk);
        }
    }

    /// Sends one message; the agent must read it within [`CONTROL_WRITE_DEADLINE`].
    pub(crate) async fn send(&mut self, message: &BrokerMessage) -> Result<(), ControlError> {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        timeout(CONTROL_WRITE_DEADLINE, self.send.write_all(&bytes))
            .await
            .map_err(|_| ControlError::Unread)??;
        Ok(())
    }

    /// An idle tunnel keeps no buffer: there are thousands of them.
    fn release_buffer(&mut self) {
        if self.decoder.buffer_mut().is_empty() {
            self.decoder = Decoder::new();
        }
    }
}
