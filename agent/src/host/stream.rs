//! One viewer's stream, from its first frame to its end: bytes between the socket and the session's task.
//!
//! The session hands over one batch of frames at a time and makes the next when this one is written, so a socket that takes nothing costs one batch and
//! holds nobody up. Reading goes on meanwhile: acknowledgements are never stuck behind output.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::Decoder;
use rexec_shared::message::ViewerMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::handshake::{self, Admission, Refusal};
use super::hub::{Entrance, HubHandle};
use super::session::{Arrival, Batch, Command, Outlet, SessionHandle, StreamId};
use super::{files, forward};

/// How long a refused viewer may take to read why.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(5);
/// Received and not yet decoded, bytes; grows to a frame when one is larger.
const READ_SIZE: usize = 4 * 1024;

/// Serves one stream.
pub(super) async fn serve(mut stream: UnixStream, hub: HubHandle) {
    match begin(&mut stream, &hub).await {
        Ok(Some((Entrance::Session(session), admission))) => attached(stream, session, admission).await,
        Ok(Some((Entrance::Files(pass, root), admission))) => {
            files::serve(stream, admission, pass, root).await
        }
        Ok(Some((Entrance::Forward(pass, port), admission))) => {
            forward::serve(stream, admission, pass, port).await
        }
        Ok(None) => {}
        Err(refusal) => refuse(&mut stream, &refusal).await,
    }
}

async fn begin(stream: &mut UnixStream, hub: &HubHandle) -> Result<Option<(Entrance, Admission)>, Refusal> {
    let Some(admission) = handshake::admit(stream, hub).await? else { return Ok(None) };
    let entrance = hub.enter(&admission).await?;
    Ok(Some((entrance, admission)))
}

/// Tells a viewer why it is turned away.
pub(super) async fn refuse(stream: &mut UnixStream, refusal: &Refusal) {
    let out = said(refusal);
    let told = async {
        stream.write_all(&out).await?;
        stream.shutdown().await
    };
    let _ = timeout(REFUSAL_DEADLINE, told).await;
}

/// What a refused viewer is told.
fn said(refusal: &Refusal) -> BytesMut {
    tracing::info!(code = refusal.code.name(), reason = refusal.message, "a viewer was refused");
    let mut out = BytesMut::new();
    refusal.message().encode(&mut out);
    out
}

async fn attached(stream: UnixStream, session: SessionHandle, admission: Admission) {
    let Admission { request, claims, rest } = admission;
    let (read, write) = stream.into_split();
    let (write, id) = (Arc::new(write), StreamId::next());
    let (sender, batches) = mpsc::channel(1);
    let outlet = Outlet { socket: Some(Arc::clone(&write)), batches: sender };
    let arrival = Arrival { stream: id, request, claims, outlet };
    if session.commands.send(Command::Arrive(Box::new(arrival))).await.is_err() {
        let refusal = Refusal::new(CloseCode::SessionNotFound, "the session has just ended");
        return write_last(write, &said(&refusal)).await;
    }
    let both = async {
        tokio::select! {
            () = read_until_gone(read, rest, id, &session) => {}
            () = write_batches(write, batches, id, &session) => {}
        }
    };
    // Whatever ends the stream, a panic included, the session learns of it.
    let ended = AssertUnwindSafe(both).catch_unwind().await;
    if ended.is_err() {
        tracing::error!("a viewer's stream failed; the session and its other viewers go on");
    }
    let _ = session.commands.send(Command::Left(id)).await;
}

/// Reads until the viewer is gone. One that breaks the protocol is told by the session, after what it has been told so far.
async fn read_until_gone(read: OwnedReadHalf, rest: BytesMut, id: StreamId, session: &SessionHandle) {
    let Err(refusal) = read_messages(read, rest, id, session).await else { return };
    if session.commands.send(Command::Broken(id, refusal)).await.is_ok() {
        tokio::time::sleep(REFUSAL_DEADLINE).await;
    }
}

/// Reads until the viewer is gone (`Ok`) or breaks the protocol.
async fn read_messages(
    mut read: OwnedReadHalf,
    rest: BytesMut,
    id: StreamId,
    session: &SessionHandle,
) -> Result<(), Refusal> {
    let mut decoder = Decoder::new();
    decoder.push(&rest);
    drop(rest);
    loop {
        while let Some(frame) = decoder.poll_frame().map_err(Refusal::protocol)? {
            let Some(message) = ViewerMessage::decode(&frame).map_err(Refusal::protocol)? else { continue };
            if session.commands.send(Command::Message(id, own(message))).await.is_err() {
                return Ok(());
            }
        }
        decoder.buffer_mut().reserve(READ_SIZE);
        match read.read_buf(decoder.buffer_mut()).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
    }
}

/// A short input frame is copied out, so that one waiting keystroke does not keep a whole read buffer.
fn own(message: ViewerMessage) -> ViewerMessage {
    if let ViewerMessage::Input { seq, bytes } = &message
        && bytes.len() < READ_SIZE / 4
    {
        return ViewerMessage::Input { seq: *seq, bytes: Bytes::copy_from_slice(bytes) };
    }
    message
}

/// Writes what the session hands over because the socket had no room, until it says that was all.
async fn write_batches(
    write: Arc<OwnedWriteHalf>,
    mut batches: mpsc::Receiver<Batch>,
    id: StreamId,
    session: &SessionHandle,
) {
    while let Some(mut batch) = batches.recv().await {
        if batch.last {
            return write_last(write, &batch.bytes).await;
        }
        let written = tokio::select! {
            biased;
            written = write_all(&write, &batch.bytes) => written,
            // The session makes no batch before this one is written, so what comes here is the end: it has let go of a stream that takes nothing.
            _ = batches.recv() => return,
        };
        if written.is_err() {
            return;
        }
        batch.bytes.clear();
        if session.commands.send(Command::Written(id, batch.bytes)).await.is_err() {
            return;
        }
    }
    // The session's task is gone without a word: it failed, and that is what the viewer is told.
    let mut out = BytesMut::new();
    Refusal::new(CloseCode::Internal, "the session failed").message().encode(&mut out);
    write_last(write, &out).await;
}

/// The socket is shut down when the session has let go of it too, which it has after its last word.
async fn write_last(write: Arc<OwnedWriteHalf>, bytes: &[u8]) {
    let _ = timeout(REFUSAL_DEADLINE, write_all(&write, bytes)).await;
}

async fn write_all(write: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        write.writable().await?;
        match write.try_write(bytes) {
            Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A refusal may quote what the viewer sent, as a JSON error does.
    #[tokio::test]
    async fn out_06_the_log_escapes_what_a_viewer_sent() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _default = tracing::subscriber::set_default(subscriber);
        let hostile = "\x1b]0;x\x07\x1b[2J\r\n2026 INFO forged\u{9b}31m\u{202e}\u{e0041}\u{200b}";
        let (mut stream, _other) = UnixStream::pair().unwrap();
        refuse(&mut stream, &Refusal::protocol(hostile)).await;
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("forged"), "{text:?}");
        let line = text.strip_suffix('\n').unwrap();
        let raw = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{e0041}' | '\u{200b}');
        assert!(!line.chars().any(raw), "{line:?}");
    }
}
