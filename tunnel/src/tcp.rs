//! Paths over TCP: the TLS handshake, then one task per connection that owns the socket, and cheap handles on its multiplexer.
//!
//! What waits where, with its limit: a stream's unread bytes (`STREAM_CREDIT`, all streams' `CREDIT_POOL` and a little), a stream's unsent bytes (`SEND_QUEUE` and one chunk), one batch in the task (64 KiB),
//! unsent bytes in the kernel (16 KiB). An idle connection keeps no buffer but rustls's own 4 KiB.

mod driver;
mod shared;
mod socket;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rexec_shared::close::CloseCode;
use rexec_shared::mux::{Mux, OpenError, Outcome, Read, Side, StreamId, Timing, Write};
use rexec_shared::pki::ALPN_TUNNEL;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use crate::end::{PathEnd, RecvEnd, SendEnd};
use driver::Driver;
use shared::{Shared, State};
use socket::BigReads;

/// The round trip before it was measured: the one QUIC is told to assume (see the transport configurations of broker and uplink).
const RTT_GUESS: Duration = Duration::from_millis(100);
/// Bytes that one call of `read_chunks` hands out at most, and a little: a pump's batch.
const CHUNKS_BYTES: usize = 64 * 1024;
/// How long a peer whose handshake failed is given to read why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a handshake came to nothing.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// TLS refused: ours, or the peer's by an alert.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// The peer speaks another protocol.
    #[error("the peer does not speak {}", String::from_utf8_lossy(ALPN_TUNNEL))]
    Protocol,
    /// The socket failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => Self::Tls(tls.clone()),
            None => Self::Io(error),
        }
    }
}

/// The agent's side: proves that the broker is `name`'s. The caller sets the deadline.
pub async fn connect(
    socket: TcpStream,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> Result<TcpPath, HandshakeError> {
    socket::tune(&socket)?;
    let address = socket.peer_addr()?;
    let tls = TlsConnector::from(config).connect(name, BigReads::new(socket)).await?;
    let session = tls.get_ref().1;
    if session.alpn_protocol() != Some(ALPN_TUNNEL) {
        return Err(HandshakeError::Protocol);
    }
    let peer = Peer { address, certificates: session.peer_certificates().map(owned) };
    Ok(TcpPath::start(tls, peer, Side::Dialler, Timing::default()))
}

/// The broker's side. The caller sets the deadline; a peer that is refused has a moment of it to read the alert.
pub async fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> Result<TcpPath, HandshakeError> {
    socket::tune(&socket)?;
    let address = socket.peer_addr()?;
    let accepting = TlsAcceptor::from(config).accept(BigReads::new(socket)).into_fallible();
    let tls = match accepting.await {
        Ok(tls) => tls,
        Err((error, io)) => {
            timeout(LAST_WORDS, drain(io)).await.ok();
            return Err(error.into());
        }
    };
    let session = tls.get_ref().1;
    if session.alpn_protocol() != Some(ALPN_TUNNEL) {
        return Err(HandshakeError::Protocol);
    }
    let peer = Peer { address, certificates: session.peer_certificates().map(owned) };
    Ok(TcpPath::start(tls, peer, Side::Listener, Timing::default()))
}

fn owned(chain: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|certificate| certificate.clone().into_owned()).collect()
}

/// Closing a socket with bytes unread has the kernel reset it, and our alert with it.
async fn drain(mut io: BigReads<TcpStream>) {
    if io.shutdown().await.is_ok() {
        let mut bytes = [0; 1024];
        while io.read(&mut bytes).await.is_ok_and(|len| len > 0) {}
    }
}

/// Who is at the other end.
#[derive(Debug)]
pub struct Peer {
    /// Its address, or its proxy's.
    pub address: SocketAddr,
    /// The chain it has shown.
    pub certificates: Option<Vec<CertificateDer<'static>>>,
}

/// A handle on a connection; cheap to clone.
#[derive(Debug, Clone)]
pub struct TcpPath(Arc<Handle>);

/// Held by every handle and stream; the last one closes the connection.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    peer: Peer,
    /// Cancelled when the task has ended.
    gone: CancellationToken,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.with(|state| state.mux.close(CloseCode::Done, "dropped"));
    }
}

impl TcpPath {
    /// Starts the task of a connection over any reliable byte stream that is as private as it must be.
    pub fn start<S>(io: S, peer: Peer, side: Side, timing: Timing) -> Self
    where
        S: AsyncBufRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::new(Shared::new(Mux::new(side, timing, Instant::now().into_std())));
        let (driver, gone) = (Driver::new(io, Arc::clone(&shared)), CancellationToken::new());
        let guard = gone.clone().drop_guard();
        tokio::spawn(async move {
            driver.run().await;
            drop(guard);
        });
        Self(Arc::new(Handle { shared, peer, gone }))
    }

    pub(crate) async fn open_bi(&self) -> Result<(TcpSend, TcpRecv), PathEnd> {
        poll_fn(|cx| {
            self.with(|state| match state.mux.open() {
                Ok(id) => Poll::Ready(Ok(self.halves(id))),
                Err(OpenError::Full) => {
                    state.opening.add(cx);
                    Poll::Pending
                }
                Err(OpenError::Ended) => Poll::Ready(Err(state.end().unwrap_or(PathEnd::Reset))),
            })
        })
        .await
    }

    pub(crate) async fn accept_bi(&self) -> Result<(TcpSend, TcpRecv), PathEnd> {
        poll_fn(|cx| {
            self.with(|state| match (state.mux.accept(), state.end()) {
                (Some(id), _) => Poll::Ready(Ok(self.halves(id))),
                (None, Some(end)) => Poll::Ready(Err(end)),
                (None, None) => {
                    state.accepting.add(cx);
                    Poll::Pending
                }
            })
        })
        .await
    }

    fn halves(&self, id: StreamId) -> (TcpSend, TcpRecv) {
        (TcpSend { handle: Arc::clone(&self.0), id }, TcpRecv { handle: Arc::clone(&self.0), id })
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.with(|state| state.mux.close(code, reason));
    }

    pub(crate) async fn closed(&self) -> PathEnd {
        poll_fn(|cx| {
            self.with(|state| match state.end() {
                Some(end) => Poll::Ready(end),
                None => {
                    state.closing.add(cx);
                    Poll::Pending
                }
            })
        })
        .await
    }

    pub(crate) async fn gone(&self) {
        self.0.gone.cancelled().await;
    }

    pub(crate) fn close_reason(&self) -> Option<PathEnd> {
        self.with(|state| state.end())
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.with(|state| state.mux.rtt()).unwrap_or(RTT_GUESS)
    }

    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.0.peer.certificates.as_deref()
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.0.peer.address
    }

    pub(crate) fn received(&self) -> u64 {
        self.with(|state| state.mux.received())
    }

    pub(crate) fn probe(&self) {
        self.with(|state| state.mux.probe(Instant::now().into_std()));
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        self.0.shared.with(act)
    }
}

/// Our half of a stream.
#[derive(Debug)]
pub(crate) struct TcpSend {
    handle: Arc<Handle>,
    id: StreamId,
}

impl Drop for TcpSend {
    fn drop(&mut self) {
        self.handle.shared.with(|state| state.release_send(self.id));
    }
}

impl TcpSend {
    pub(crate) async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), SendEnd> {
        poll_fn(|cx| self.poll_write(&bytes, cx)).await
    }

    fn poll_write(&mut self, bytes: &Bytes, cx: &Context<'_>) -> Poll<Result<(), SendEnd>> {
        self.handle.shared.with(|state| {
            Poll::Ready(match state.mux.write(self.id, bytes) {
                Write::Taken => Ok(()),
                Write::Stopped(code) => Err(SendEnd::Stopped(u64::from(code))),
                Write::Lost | Write::Ended => Err(SendEnd::Lost),
                Write::Full => {
                    state.wait_writable(self.id, cx);
                    return Poll::Pending;
                }
            })
        })
    }

    pub(crate) fn finish(&mut self) -> Result<(), SendEnd> {
        self.handle.shared.with(|state| {
            let is_told =
                state.mux.finish(self.id) || matches!(state.mux.outcome(self.id), Outcome::Stopped(_));
            is_told.then_some(()).ok_or(SendEnd::Lost)
        })
    }

    pub(crate) fn reset(&mut self, code: CloseCode) {
        self.handle.shared.with(|state| state.mux.reset(self.id, code));
    }

    pub(crate) async fn stopped(&mut self) -> Result<(), SendEnd> {
        poll_fn(|cx| {
            self.handle.shared.with(|state| {
                Poll::Ready(match state.mux.outcome(self.id) {
                    Outcome::Told => Ok(()),
                    Outcome::Stopped(code) => Err(SendEnd::Stopped(u64::from(code))),
                    Outcome::Lost => Err(SendEnd::Lost),
                    Outcome::Pending => {
                        state.wait_writable(self.id, cx);
                        return Poll::Pending;
                    }
                })
            })
        })
        .await
    }

    pub(crate) fn set_urgent(&mut self, is_urgent: bool) {
        self.handle.shared.with(|state| state.mux.set_urgent(self.id, is_urgent));
    }
}

/// The peer's half of a stream.
#[derive(Debug)]
pub(crate) struct TcpRecv {
    handle: Arc<Handle>,
    id: StreamId,
}

impl Drop for TcpRecv {
    fn drop(&mut self) {
        self.handle.shared.with(|state| state.release_recv(self.id));
    }
}

impl TcpRecv {
    pub(crate) async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, RecvEnd> {
        poll_fn(|cx| self.handle.shared.with(|state| poll_read(state, self.id, max, cx))).await
    }

    pub(crate) async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, RecvEnd> {
        poll_fn(|cx| self.handle.shared.with(|state| poll_read_many(state, self.id, chunks, cx))).await
    }

    pub(crate) fn stop(&mut self, code: CloseCode) {
        self.handle.shared.with(|state| state.mux.stop(self.id, code));
    }
}

fn poll_read(
    state: &mut State,
    id: StreamId,
    max: usize,
    cx: &Context<'_>,
) -> Poll<Result<Option<Bytes>, RecvEnd>> {
    Poll::Ready(match state.mux.read(id, max) {
        Some(Read::Bytes(bytes)) => Ok(Some(bytes)),
        Some(Read::Finished) => Ok(None),
        Some(Read::Reset(code)) => Err(RecvEnd::Reset(u64::from(code))),
        Some(Read::Stopped) | None => Err(RecvEnd::Lost),
        Some(Read::Empty) => {
            state.wait_readable(id, cx);
            return Poll::Pending;
        }
    })
}

/// The end, when it follows bytes, is left for the next call.
fn poll_read_many(
    state: &mut State,
    id: StreamId,
    chunks: &mut [Bytes],
    cx: &Context<'_>,
) -> Poll<Result<Option<usize>, RecvEnd>> {
    let Some((first, rest)) = chunks.split_first_mut() else { return Poll::Ready(Ok(Some(0))) };
    let Some(bytes) = std::task::ready!(poll_read(state, id, usize::MAX, cx))? else {
        return Poll::Ready(Ok(None));
    };
    let mut total = bytes.len();
    *first = bytes;
    let mut filled = 1;
    for chunk in rest {
        let Some(Read::Bytes(bytes)) =
            (total < CHUNKS_BYTES).then(|| state.mux.read(id, usize::MAX)).flatten()
        else {
            break;
        };
        total += bytes.len();
        *chunk = bytes;
        filled += 1;
    }
    Poll::Ready(Ok(Some(filled)))
}
