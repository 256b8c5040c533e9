//! The two halves of a stream, over either transport.

use bytes::Bytes;
use quinn::VarInt;
use rexec_shared::close::CloseCode;
use rexec_shared::mux::SMALL_MAX;

use crate::end::{RecvEnd, SendEnd};
use crate::tcp::{TcpRecv, TcpSend};

/// Our half of a stream. Dropped before it was finished or reset, it is reset with [`CloseCode::Internal`].
#[derive(Debug)]
pub struct SendStream(Sending);

#[derive(Debug)]
enum Sending {
    Quic(QuicSend),
    Tcp(TcpSend),
}

/// The peer's half of a stream. Dropped before its end, it is stopped with [`CloseCode::Internal`].
#[derive(Debug)]
pub struct RecvStream(Receiving);

#[derive(Debug)]
enum Receiving {
    Quic(QuicRecv),
    Tcp(TcpRecv),
}

#[derive(Debug)]
struct QuicSend {
    stream: quinn::SendStream,
    is_ended: bool,
    is_urgent: bool,
    priority: i32,
}

/// Priorities over QUIC: the lines of `rexec_shared::mux`. Everything else has 0.
const URGENT: i32 = 2;
const QUICK: i32 = 1;

impl QuicSend {
    /// A keystroke goes before bulk. No flood keeps bulk waiting by many small writes: those behind a full window come together, and are small no more.
    fn stand_in_line(&mut self, len: usize) {
        let priority = if self.is_urgent { URGENT } else { i32::from(len <= SMALL_MAX) * QUICK };
        if priority != self.priority {
            self.priority = priority;
            // Fails only when it has ended already.
            self.stream.set_priority(priority).ok();
        }
    }
}

#[derive(Debug)]
struct QuicRecv {
    stream: quinn::RecvStream,
    is_ended: bool,
}

fn number(code: CloseCode) -> VarInt {
    VarInt::from_u32(code.number())
}

impl Drop for QuicSend {
    fn drop(&mut self) {
        if !self.is_ended {
            // Fails only when it has ended already.
            self.stream.reset(number(CloseCode::Internal)).ok();
        }
    }
}

impl Drop for QuicRecv {
    fn drop(&mut self) {
        if !self.is_ended {
            // Fails only when it has ended already.
            self.stream.stop(number(CloseCode::Internal)).ok();
        }
    }
}

impl From<TcpSend> for SendStream {
    fn from(stream: TcpSend) -> Self {
        Self(Sending::Tcp(stream))
    }
}

impl From<TcpRecv> for RecvStream {
    fn from(stream: TcpRecv) -> Self {
        Self(Receiving::Tcp(stream))
    }
}

impl SendStream {
    /// A stream of quinn's.
    pub(crate) fn quic(stream: quinn::SendStream) -> Self {
        Self(Sending::Quic(QuicSend { stream, is_ended: false, is_urgent: false, priority: 0 }))
    }

    /// Hands over a chunk; waits for room. When cancelled, QUIC may have taken a part of it, TCP all of it or nothing.
    pub async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), SendEnd> {
        match &mut self.0 {
            Sending::Quic(send) => {
                send.stand_in_line(bytes.len());
                Ok(send.stream.write_chunk(bytes).await?)
            }
            Sending::Tcp(send) => send.write_chunk(bytes).await,
        }
    }

    /// Hands over a copy of the bytes; see [`SendStream::write_chunk`].
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), SendEnd> {
        match &mut self.0 {
            Sending::Quic(send) => {
                send.stand_in_line(bytes.len());
                Ok(send.stream.write_all(bytes).await?)
            }
            Sending::Tcp(send) => send.write_chunk(Bytes::copy_from_slice(bytes)).await,
        }
    }

    /// Ends this half after what was written. `Err` when it has ended already; a half that the peer has stopped is no error.
    pub fn finish(&mut self) -> Result<(), SendEnd> {
        match &mut self.0 {
            Sending::Quic(send) => {
                send.is_ended = true;
                send.stream.finish().map_err(|_| SendEnd::Lost)
            }
            Sending::Tcp(send) => send.finish(),
        }
    }

    /// Abandons this half and what of it has not arrived. No effect once it was reset.
    pub fn reset(&mut self, code: CloseCode) {
        match &mut self.0 {
            Sending::Quic(send) => {
                send.is_ended = true;
                send.stream.reset(number(code)).ok();
            }
            Sending::Tcp(send) => send.reset(code),
        }
    }

    /// Returns once this half's end, finish or reset, is out of our hands: acknowledged by the peer over QUIC, given to TLS over TCP. Fails
    /// when the peer stopped it before, or the path is gone. Cancel-safe.
    pub async fn stopped(&mut self) -> Result<(), SendEnd> {
        match &mut self.0 {
            Sending::Quic(send) => match send.stream.stopped().await? {
                Some(code) => Err(SendEnd::Stopped(code.into_inner())),
                None => Ok(()),
            },
            Sending::Tcp(send) => send.stopped().await,
        }
    }

    /// This stream goes before all others. Of those, what comes in chunks of at most [`SMALL_MAX`] bytes goes before what comes in larger ones.
    pub fn set_urgent(&mut self) {
        match &mut self.0 {
            Sending::Quic(send) => send.is_urgent = true,
            Sending::Tcp(send) => send.set_urgent(true),
        }
    }
}

impl RecvStream {
    /// A stream of quinn's.
    pub(crate) fn quic(stream: quinn::RecvStream) -> Self {
        Self(Receiving::Quic(QuicRecv { stream, is_ended: false }))
    }

    /// The next bytes, at most `max`; `None` at the end. Cancel-safe.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, RecvEnd> {
        match &mut self.0 {
            Receiving::Quic(recv) => {
                let read = recv.stream.read_chunk(max, true).await;
                recv.is_ended = !matches!(read, Ok(Some(_)));
                Ok(read?.map(|chunk| chunk.bytes))
            }
            Receiving::Tcp(recv) => recv.read_chunk(max).await,
        }
    }

    /// Fills `chunks` from the front with what is there, and says how many; waits for the first; `None` at the end. Cancel-safe.
    pub async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, RecvEnd> {
        match &mut self.0 {
            Receiving::Quic(recv) => {
                let read = recv.stream.read_chunks(chunks).await;
                recv.is_ended = !matches!(read, Ok(Some(_)));
                Ok(read?)
            }
            Receiving::Tcp(recv) => recv.read_chunks(chunks).await,
        }
    }

    /// Reads no more; the peer is told. No effect once it has ended.
    pub fn stop(&mut self, code: CloseCode) {
        match &mut self.0 {
            Receiving::Quic(recv) => {
                recv.is_ended = true;
                recv.stream.stop(number(code)).ok();
            }
            Receiving::Tcp(recv) => recv.stop(code),
        }
    }
}
