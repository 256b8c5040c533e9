//! `link.sock`: the uplink's feeds and state, local commands.

use std::time::Duration;

use bytes::BytesMut;
use rexec_shared::frame::Decoder;
use rexec_shared::limits::FIRST_FRAME_DEADLINE;
use rexec_shared::tunnel::{LinkAnswer, LinkMessage, LinkRole};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::hub::HubHandle;

/// Least time between two lists of sessions to the uplink.
const SESSIONS_EVERY: Duration = Duration::from_millis(100);
/// How long a local peer may take to read an answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// Serves one connection until the peer leaves or breaks the protocol.
pub(super) async fn serve(stream: UnixStream, hub: HubHandle) {
    let (read, write) = stream.into_split();
    let mut reader = Reader { read, decoder: Decoder::new() };
    let Ok(Some(LinkMessage::Hello { role })) = timeout(FIRST_FRAME_DEADLINE, reader.next()).await else {
        tracing::debug!("a link began without LinkHello");
        return;
    };
    match role {
        LinkRole::Uplink => {
            tokio::select! {
                () = take_feeds(reader, &hub) => {}
                () = tell_sessions(write, &hub) => {}
            }
        }
        LinkRole::Cli => answer_commands(reader, write, &hub).await,
    }
}

struct Reader {
    read: OwnedReadHalf,
    decoder: Decoder,
}

impl Reader {
    /// The next message this build knows; `None` at the end or on a broken protocol.
    async fn next(&mut self) -> Option<LinkMessage> {
        loop {
            match self.decoder.poll_frame() {
                Ok(Some(frame)) => match LinkMessage::decode(&frame) {
                    Ok(Some(message)) => return Some(message),
                    Ok(None) => continue,
                    Err(error) => return broken(&error),
                },
                Ok(None) => {}
                Err(error) => return broken(&error),
            }
            let read = self.read.read_buf(self.decoder.buffer_mut()).await;
            if !read.is_ok_and(|len| len > 0) {
                return None;
            }
        }
    }
}

fn broken(error: &dyn std::error::Error) -> Option<LinkMessage> {
    tracing::warn!(%error, "a link broke the protocol");
    None
}

async fn take_feeds(mut reader: Reader, hub: &HubHandle) {
    while let Some(message) = reader.next().await {
        match message {
            LinkMessage::Feed { token } => hub.feed(token).await,
            LinkMessage::Status(status) => hub.status(status).await,
            LinkMessage::Hello { .. } | LinkMessage::Query | LinkMessage::Stop => {}
        }
    }
}

async fn tell_sessions(mut write: OwnedWriteHalf, hub: &HubHandle) {
    let mut changes = hub.changes();
    loop {
        changes.mark_unchanged();
        let Some(sessions) = hub.sessions().await else { return };
        if !send(&mut write, &LinkAnswer::Sessions { boot: hub.boot(), sessions }).await {
            return;
        }
        tokio::time::sleep(SESSIONS_EVERY).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn answer_commands(mut reader: Reader, mut write: OwnedWriteHalf, hub: &HubHandle) {
    while let Some(message) = reader.next().await {
        match message {
            LinkMessage::Query => {
                let Some(status) = hub.query().await else { return };
                if !send(&mut write, &LinkAnswer::Status(status)).await {
                    return;
                }
            }
            LinkMessage::Stop => hub.stop().await,
            LinkMessage::Hello { .. } | LinkMessage::Feed { .. } | LinkMessage::Status(_) => {}
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, answer: &LinkAnswer) -> bool {
    let mut out = BytesMut::new();
    answer.encode(&mut out);
    matches!(timeout(WRITE_DEADLINE, write.write_all(&out)).await, Ok(Ok(())))
}
