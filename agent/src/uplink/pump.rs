//! One viewer's stream: bytes between the path and the session host's socket, both ways, unread.
//!
//! * Backpressure is the sockets' own: we read from one side only what the other has taken.
//! * A half-close passes through; the host's full close ends the stream once everything it said has arrived.
//! * A reset on either side resets the other with a code of the table.
//! * A viewer that left is no reset: what it typed before still arrives, within a deadline.
//! * After [`BUDGET`] bytes a direction lets others run, so a flood cannot hold its neighbour's echo.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes};
use rexec_shared::close::CloseCode;
use rexec_tunnel::{RecvEnd, RecvStream, SendStream};
use rustix::io::Errno;
use rustix::net::{SendFlags, send as send_nothing};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{sleep, timeout};

/// Bytes a direction moves before it yields.
const BUDGET: usize = 128 * 1024;
/// Bytes read from the host at once: coalesces the 4 KiB pieces that a PTY hands out.
const READ_MAX: usize = 64 * 1024;
/// Chunks of the path's (over QUIC a packet each, mostly) written to the host at once.
const CHUNKS: usize = 32;
/// The host accepts at once or never.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How long the last bytes may take to reach the broker after the host closed.
const FLUSH_DEADLINE: Duration = Duration::from_secs(30);
/// How long a viewer's last input may take to reach the host after it left.
const LAST_INPUT: Duration = Duration::from_secs(5);
/// How often a half-closed host's socket is looked at: nothing wakes us when it closes while its viewer is silent.
const CLOSED_LOOK: Duration = Duration::from_secs(1);

thread_local! {
    /// Where reads land before they are cut to size: an idle stream holds no buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

/// Carries one stream until both directions have ended.
pub(super) async fn run(mut send: SendStream, mut recv: RecvStream, viewer_socket: &Path) {
    match timeout(CONNECT_DEADLINE, UnixStream::connect(viewer_socket)).await {
        Ok(Ok(host)) => {
            let (host_read, host_write) = host.into_split();
            carry(send, recv, host_read, host_write).await;
        }
        Ok(Err(_)) | Err(_) => refuse(&mut send, &mut recv, CloseCode::HostUnavailable),
    }
}

fn refuse(send: &mut SendStream, recv: &mut RecvStream, code: CloseCode) {
    send.reset(code);
    recv.stop(code);
}

/// How the host's side of a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HostEnd {
    /// It will say no more, but listens.
    HalfClosed,
    /// It is done with the stream.
    Closed,
    /// The broker or the viewer wants to hear no more, or the tunnel is gone.
    Unwanted,
}

async fn carry(
    mut send: SendStream,
    mut recv: RecvStream,
    host_read: OwnedReadHalf,
    mut host_write: OwnedWriteHalf,
) {
    let outcome = {
        let to_viewer = from_host(&host_read, &mut send);
        let to_host = from_tunnel(&mut recv, &mut host_write);
        tokio::pin!(to_viewer, to_host);
        tokio::select! {
            end = &mut to_viewer => match end {
                HostEnd::HalfClosed => tokio::select! {
                    end = &mut to_host => end,
                    () = closed(host_read.as_ref()) => Ok(()),
                },
                HostEnd::Closed => Ok(()),
                // The viewer left: what it typed last still arrives, and what the host says to it is thrown away meanwhile.
                HostEnd::Unwanted => {
                    let last = async {
                        tokio::select! {
                            end = &mut to_host => if end.is_ok() { discard(&host_read).await },
                            () = discard(&host_read) => {}
                        }
                    };
                    let _ = timeout(LAST_INPUT, last).await;
                    Err(CloseCode::Done)
                }
            },
            end = &mut to_host => match end {
                Ok(()) => match to_viewer.await {
                    HostEnd::HalfClosed | HostEnd::Closed => Ok(()),
                    HostEnd::Unwanted => {
                        let _ = timeout(LAST_INPUT, discard(&host_read)).await;
                        Err(CloseCode::Done)
                    }
                },
                Err(code) => Err(code),
            },
        }
    };
    match outcome {
        // The end of the stream was announced by from_host; it must arrive before the stream is forgotten.
        Ok(()) => {
            let _ = timeout(FLUSH_DEADLINE, send.stopped()).await;
            recv.stop(CloseCode::Done);
        }
        Err(code) => refuse(&mut send, &mut recv, code),
    }
}

/// Host → viewer.
async fn from_host(host: &OwnedReadHalf, send: &mut SendStream) -> HostEnd {
    let mut moved = 0;
    loop {
        // A host that closes with input of ours unread ends in ECONNRESET, after everything it wrote: an end like any other.
        let bytes = read_host(host).await.unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        moved += bytes.len();
        if send.write_chunk(bytes).await.is_err() {
            return HostEnd::Unwanted;
        }
        yield_when_spent(&mut moved).await;
    }
    if send.finish().is_err() {
        return HostEnd::Unwanted;
    }
    if is_closed(host.as_ref()) { HostEnd::Closed } else { HostEnd::HalfClosed }
}

/// Takes what the host says until it says no more, so that it can go on to hear.
async fn discard(host: &OwnedReadHalf) {
    while read_host(host).await.is_ok_and(|bytes| !bytes.is_empty()) {}
}

/// Whether the host closed its socket, and did not merely shut one direction down.
///
/// Sending nothing fails exactly then, and tells at once; readiness as epoll reports it lags behind the end that `read` has seen.
fn is_closed(host: &UnixStream) -> bool {
    send_nothing(host, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) == Err(Errno::PIPE)
}

/// Returns when a host that had shut one direction down has closed.
async fn closed(host: &UnixStream) {
    while !is_closed(host) {
        sleep(CLOSED_LOOK).await;
    }
}

/// The next bytes from the host, cut to their own size; empty at its end.
async fn read_host(host: &OwnedReadHalf) -> io::Result<Bytes> {
    loop {
        host.readable().await?;
        let read = SCRATCH.with_borrow_mut(|scratch| {
            host.try_read(scratch).map(|n| Bytes::copy_from_slice(scratch.get(..n).unwrap_or_default()))
        });
        match read {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// Viewer → host. `Err` is the code with which to reset what remains.
async fn from_tunnel(recv: &mut RecvStream, host: &mut OwnedWriteHalf) -> Result<(), CloseCode> {
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    let mut moved = 0;
    loop {
        let count = match recv.read_chunks(&mut chunks).await {
            Ok(Some(count)) => count,
            // What the viewer had to say has been said; the host may go on speaking.
            Ok(None) => return host.shutdown().await.map_err(|_| CloseCode::Done),
            Err(RecvEnd::Reset(_)) => return Err(CloseCode::Done),
            Err(RecvEnd::Lost) => return Err(CloseCode::TunnelLost),
        };
        let filled = chunks.get_mut(..count).unwrap_or_default();
        moved += filled.iter().map(Bytes::len).sum::<usize>();
        if write_host(host, filled).await.is_err() {
            // The host hears no more of this stream; what it has said is still being read by the other direction.
            recv.stop(CloseCode::Done);
            return Ok(());
        }
        yield_when_spent(&mut moved).await;
    }
}

async fn write_host(host: &mut OwnedWriteHalf, chunks: &mut [Bytes]) -> io::Result<()> {
    let mut first = 0;
    while let Some(rest) = chunks.get_mut(first..).filter(|rest| !rest.is_empty()) {
        let written = {
            let slices: Vec<IoSlice<'_>> = rest.iter().map(|chunk| IoSlice::new(chunk)).collect();
            host.write_vectored(&slices).await?
        };
        first += advance(rest, written);
    }
    Ok(())
}

/// Takes `written` bytes off the front and says how many chunks are empty then.
fn advance(chunks: &mut [Bytes], mut written: usize) -> usize {
    let mut emptied = 0;
    for chunk in chunks {
        let taken = written.min(chunk.len());
        chunk.advance(taken);
        written -= taken;
        if !chunk.is_empty() {
            break;
        }
        emptied += 1;
    }
    emptied
}

async fn yield_when_spent(moved: &mut usize) {
    if *moved >= BUDGET {
        *moved = 0;
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_write_resumes_in_the_middle_of_a_chunk() {
        let mut chunks = [Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")];
        assert_eq!(advance(&mut chunks, 5), 2);
        assert_eq!(&chunks[2][..], b"fg");
        assert_eq!(advance(&mut chunks[2..], 2), 1);
    }
}
