//! Both halves of a files stream. Every method can be given up while it waits, and nothing is lost or cut in two.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use rexec_shared::close::CloseCode;
use rexec_shared::files::{FilesReply, FilesRequest};
use rexec_shared::frame::Decoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::host::handshake::Refusal;

/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// Read at once, bytes.
const READ_SIZE: usize = 64 * 1024;
/// A viewer that takes nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(60);

pub(super) struct Wire {
    stream: UnixStream,
    decoder: Decoder,
    out: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: UnixStream, rest: BytesMut) -> Self {
        let mut decoder = Decoder::new();
        decoder.push(&rest);
        Self { stream, decoder, out: BytesMut::new() }
    }

    /// A message that the next flush sends.
    pub(super) fn put(&mut self, reply: &FilesReply) {
        reply.encode(&mut self.out);
    }

    /// Sends what was put.
    pub(super) async fn flush(&mut self) -> Result<(), Refusal> {
        while self.out.has_remaining() {
            let written = timeout(STUCK, self.stream.write_buf(&mut self.out)).await;
            match written {
                Ok(Ok(1..)) => {}
                // The viewer is gone: reading tells.
                Ok(Ok(0) | Err(_)) => self.out.clear(),
                Err(_) => return Err(Refusal::new(CloseCode::TooSlow, "nothing was taken for a minute")),
            }
        }
        Ok(())
    }

    /// The next request; `None`: the viewer is gone.
    pub(super) async fn next(&mut self) -> Result<Option<FilesRequest>, Refusal> {
        loop {
            while let Some(frame) = self.decoder.poll_frame().map_err(Refusal::protocol)? {
                if let Some(request) = FilesRequest::decode(&frame).map_err(Refusal::protocol)? {
                    return Ok(Some(request));
                }
            }
            self.decoder.buffer_mut().reserve(READ_SIZE);
            match self.stream.read_buf(self.decoder.buffer_mut()).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    /// Sends the last words.
    pub(super) async fn finish(mut self) {
        let told = async {
            let _ = self.flush().await;
            let _ = self.stream.shutdown().await;
        };
        let _ = timeout(FAREWELL, told).await;
    }
}
