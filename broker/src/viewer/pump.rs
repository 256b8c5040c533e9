//! The pump: bytes both ways between a viewer's WebSocket and its stream on the tunnel, unread.
//!
//! Each direction waits for its own receiver, so a slow viewer fills one stream's window and one socket's buffer and nothing else. After each
//! [`BATCH`] a direction lets its neighbours go first.

use bytes::{Bytes, BytesMut};
use rexec_shared::close::CloseCode;
use rexec_tunnel::{RecvEnd, RecvStream, SendStream};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::OpenedStream;
use super::socket::{Inbound, Outlet, SendEnd, Socket, Source};
use crate::counters::Counters;
use crate::limits::{BATCH, BATCH_CHUNKS, LAST_INPUT, LAST_WORDS, VIEWER_PING};

/// Bytes copied.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Copied {
    pub(super) to_agent: u64,
    pub(super) to_viewer: u64,
}

/// How a pump ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pumped {
    /// With this code, which the viewer is to be told.
    Closed(CloseCode),
    /// The viewer went away: nobody is left to be told.
    ViewerLeft,
}

/// How the viewer's direction ended.
enum UpEnd {
    Left,
    Closed(CloseCode),
    /// The agent reads no more, but may have something to say about it.
    Stopped(CloseCode),
}

/// Copies until one side ends, and ends the stream accordingly.
pub(super) async fn run(socket: &mut Socket, open: &mut OpenedStream, counters: &Counters) -> Pumped {
    let OpenedStream { send, recv, cut, copied, lane, .. } = open;
    let pumped = {
        let up = to_agent(&mut socket.source, send, &mut copied.to_agent, counters);
        let mut outlet = Outlet { sink: &mut socket.sink, lane };
        let down = to_viewer(&mut outlet, recv, &mut copied.to_viewer, counters);
        let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
        let pumped = async {
            tokio::select! {
                biased;
                ended = &mut down => {
                    // What the viewer typed before it left may still be on its way in.
                    if matches!(ended, Pumped::ViewerLeft) {
                        timeout(LAST_INPUT, up).await.ok();
                    }
                    ended
                }
                ended = &mut up => match ended {
                    UpEnd::Left => Pumped::ViewerLeft,
                    UpEnd::Closed(code) => Pumped::Closed(code),
                    UpEnd::Stopped(code) => timeout(LAST_WORDS, down).await.unwrap_or(Pumped::Closed(code)),
                },
            }
        };
        tokio::select! {
            biased;
            // The registry forgets a stream only together with its tunnel.
            code = cut => Pumped::Closed(code.unwrap_or(CloseCode::TunnelLost)),
            pumped = pumped => pumped,
        }
    };
    end_stream(send, recv, pumped);
    pumped
}

/// What a stream was given is delivered when its viewer left or was told all; it is dropped when the stream was cut. A stream that has ended
/// already takes no end: that is no error.
fn end_stream(send: &mut SendStream, recv: &mut RecvStream, pumped: Pumped) {
    let code = match pumped {
        Pumped::ViewerLeft | Pumped::Closed(CloseCode::Done) => {
            send.finish().ok();
            CloseCode::Done
        }
        Pumped::Closed(code) => {
            send.reset(code);
            code
        }
    };
    recv.stop(code);
}

async fn to_agent(
    source: &mut Source,
    send: &mut SendStream,
    copied: &mut u64,
    counters: &Counters,
) -> UpEnd {
    let mut budget = BATCH;
    loop {
        let bytes = match source.next().await {
            Inbound::Bytes(bytes) => bytes,
            Inbound::Alive => continue,
            Inbound::Left => return UpEnd::Left,
            Inbound::Broken(code) => return UpEnd::Closed(code),
        };
        let len = bytes.len();
        match send.write_chunk(bytes).await {
            Ok(()) => {}
            Err(rexec_tunnel::SendEnd::Stopped(code)) => return UpEnd::Stopped(told(code)),
            Err(rexec_tunnel::SendEnd::Lost) => return UpEnd::Closed(CloseCode::TunnelLost),
        }
        *copied += len as u64;
        counters.bytes_to_agents.add(len);
        take_turn(&mut budget, len).await;
    }
}

async fn to_viewer(
    outlet: &mut Outlet<'_>,
    recv: &mut RecvStream,
    copied: &mut u64,
    counters: &Counters,
) -> Pumped {
    let mut ping = interval_at(Instant::now() + VIEWER_PING, VIEWER_PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut chunks: [Bytes; BATCH_CHUNKS] = std::array::from_fn(|_| Bytes::new());
    let mut budget = BATCH;
    loop {
        let sent = tokio::select! {
            biased;
            _ = ping.tick() => outlet.ping().await,
            read = recv.read_chunks(&mut chunks) => match read {
                Ok(Some(filled)) => {
                    let sent = send_merged(outlet, chunks.get_mut(..filled).unwrap_or_default()).await;
                    sent.map(|len| {
                        *copied += len as u64;
                        counters.bytes_to_viewers.add(len);
                        budget = budget.saturating_sub(len);
                    })
                }
                Ok(None) => return Pumped::Closed(CloseCode::Done),
                Err(end) => return Pumped::Closed(read_end(end)),
            },
        };
        match sent {
            Ok(()) => take_turn(&mut budget, 0).await,
            Err(SendEnd::Left) => return Pumped::ViewerLeft,
            Err(SendEnd::Stuck) => return Pumped::Closed(CloseCode::TooSlow),
        }
    }
}

/// Sends chunks as messages of up to about [`BATCH`] bytes, and says how many bytes they were. One chunk alone, an echo, is not copied.
async fn send_merged(outlet: &mut Outlet<'_>, mut chunks: &mut [Bytes]) -> Result<usize, SendEnd> {
    let mut sent = 0;
    while !chunks.is_empty() {
        let (group, rest) = chunks.split_at_mut(group_len(chunks));
        let message = merge(group);
        sent += message.len();
        outlet.send(message).await?;
        chunks = rest;
    }
    Ok(sent)
}

/// How many chunks fit in one message; at least one.
fn group_len(chunks: &[Bytes]) -> usize {
    let mut bytes = 0;
    let fitting = chunks.iter().take_while(|chunk| {
        bytes += chunk.len();
        bytes <= BATCH
    });
    fitting.count().max(1)
}

/// Takes the chunks, so that the packets they came in are freed.
fn merge(chunks: &mut [Bytes]) -> Bytes {
    if let [only] = chunks {
        return std::mem::take(only);
    }
    let mut merged = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        merged.extend_from_slice(&std::mem::take(chunk));
    }
    merged.freeze()
}

/// Gives way to other tasks once the budget is used up.
async fn take_turn(budget: &mut usize, used: usize) {
    *budget = budget.saturating_sub(used);
    if *budget == 0 {
        *budget = BATCH;
        yield_now().await;
    }
}

fn read_end(end: RecvEnd) -> CloseCode {
    match end {
        RecvEnd::Reset(code) => told(code),
        RecvEnd::Lost => CloseCode::TunnelLost,
    }
}

/// The code an agent ended its stream with; one that a newer agent knows and we do not is passed on as a defect.
fn told(code: u64) -> CloseCode {
    CloseCode::from_number(code).unwrap_or(CloseCode::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merging_keeps_every_byte_in_order_and_messages_within_a_batch(
            sizes in prop::collection::vec(1usize..9_000, 1..BATCH_CHUNKS)
        ) {
            let mut chunks: Vec<Bytes> = sizes.iter().enumerate()
                .map(|(index, size)| Bytes::from(vec![index as u8; *size])).collect();
            let whole = chunks.concat();
            let (mut rest, mut merged) = (&mut chunks[..], Vec::new());
            while !rest.is_empty() {
                let (group, after) = rest.split_at_mut(group_len(rest));
                let message = merge(group);
                prop_assert!(message.len() <= BATCH);
                merged.extend_from_slice(&message);
                rest = after;
            }
            prop_assert_eq!(merged, whole);
        }
    }
}
