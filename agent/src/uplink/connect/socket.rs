//! The UDP socket under a QUIC dial, with no more memory for receiving than datagrams can fill.
//!
//! quinn keeps 32 buffers for each endpoint, each as large as the largest payload times the segments that the kernel may hand over at once: 8 MB.
//! The kernel hands over no more than one IP packet's worth, [`GATHERED_MAX`], however many segments it says. An agent that redials makes endpoint after
//! endpoint, and the allocator zeroes memory that it gives out again, so all of that became resident.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};

/// The most the kernel gathers into one receive, bytes: a UDP packet's length has 16 bits (RFC 768).
const GATHERED_MAX: usize = 64 * 1024;

/// A socket for payloads of at most `payload` bytes.
pub(super) fn narrow(socket: UdpSocket, payload: u16) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let inner = TokioRuntime.wrap_udp_socket(socket)?;
    let segments = GATHERED_MAX.div_ceil(usize::from(payload)).min(inner.max_receive_segments());
    Ok(Arc::new(Narrow { inner, segments }))
}

#[derive(Debug)]
struct Narrow {
    inner: Arc<dyn AsyncUdpSocket>,
    segments: usize,
}

impl AsyncUdpSocket for Narrow {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.segments
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_buffer_holds_whatever_the_kernel_gathers_and_not_much_more() {
        for payload in [1_200_u16, 4_000, u16::MAX] {
            let socket = narrow(UdpSocket::bind("127.0.0.1:0").unwrap(), payload).unwrap();
            let buffer = socket.max_receive_segments() * usize::from(payload);
            assert!(buffer < GATHERED_MAX + usize::from(payload), "{payload}: {buffer}");
            let unbounded = TokioRuntime.wrap_udp_socket(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            let whole = unbounded.max_receive_segments() * usize::from(payload);
            assert!(buffer >= GATHERED_MAX.min(whole), "{payload}: {buffer}");
        }
    }
}
