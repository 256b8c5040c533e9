//! The TCP socket under TLS: its options, and reads that are larger than TLS asks for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::{cmp, io};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// Bytes read at once. rustls asks for 4 KiB at a time: 16 system calls where one will do.
const READ: usize = 64 * 1024;

/// Sets the options of a tunnel's socket.
pub(super) fn tune(socket: &TcpStream) -> io::Result<()> {
    // Frames are coalesced by the multiplexer; the kernel must not wait for more.
    socket.set_nodelay(true)?;
    tune_kernel(socket)
}

#[cfg(target_os = "linux")]
fn tune_kernel(socket: &TcpStream) -> io::Result<()> {
    /// Bytes unsent in the kernel above which the socket takes no more. They are what a keystroke waits for behind bulk; less would leave
    /// gaps between our wake-ups on a fast path.
    const NOT_SENT: u32 = 16 * 1024;
    /// How long sent bytes may stay unacknowledged, or the peer's window closed.
    const USER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_notsent_lowat(NOT_SENT)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Elsewhere the pings of the multiplexer find a dead path by themselves, and bulk queues deeper.
#[cfg(not(target_os = "linux"))]
fn tune_kernel(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// A stream that is read in large pieces, with a buffer only while there is something in it.
#[derive(Debug)]
pub(super) struct BigReads<S> {
    io: S,
    buffer: BytesMut,
}

impl<S> BigReads<S> {
    pub(super) fn new(io: S) -> Self {
        Self { io, buffer: BytesMut::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BigReads<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, buffer } = self.get_mut();
        if buffer.is_empty() {
            buffer.clear();
            buffer.reserve(READ);
            let Poll::Ready(read) = poll_read_buf(Pin::new(io), cx, buffer) else {
                *buffer = BytesMut::new();
                return Poll::Pending;
            };
            read?;
        }
        let len = cmp::min(buffer.len(), out.remaining());
        out.put_slice(buffer.get(..len).unwrap_or_default());
        buffer.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BigReads<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
