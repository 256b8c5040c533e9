//! The uplink's end of the link to the session host: feeds and status in, the list of sessions out.
//!
//! All three are levels, not queues: the newest feed, the newest status and the newest list replace older ones, so nothing can pile up.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rexec_shared::frame::{Decoder, FrameError};
use rexec_shared::message::MessageError;
use rexec_shared::tunnel::{LinkAnswer, LinkMessage, LinkRole, SessionInfo, UplinkStatus};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// The host answers at once or is not there.
const LINK_DEADLINE: Duration = Duration::from_secs(5);
/// How long a host may take to bind its sockets.
const BIND_PATIENCE: Duration = Duration::from_secs(3);
/// Between looks.
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// Why the link ended. The uplink ends with it: its host is gone.
#[derive(Debug, Error)]
pub enum LinkError {
    /// No host at the socket.
    #[error("the session host does not answer: {0}")]
    Io(#[from] std::io::Error),
    /// The host is there and says nothing.
    #[error("the session host said nothing within {} s", LINK_DEADLINE.as_secs())]
    Silent,
    /// The host closed.
    #[error("the session host closed the link")]
    Closed,
    /// What came is no frame.
    #[error("the session host's link: {0}")]
    Frame(#[from] FrameError),
    /// What came is no message.
    #[error("the session host's link: {0}")]
    Message(#[from] MessageError),
}

/// What the host last said of its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSessions {
    /// One life of the host.
    pub boot: Uuid,
    /// Sessions alive.
    pub sessions: Vec<SessionInfo>,
}

/// The rest of the uplink's handle on the link.
#[derive(Debug)]
pub struct LinkHandle {
    /// The newest feed a broker passed on.
    pub feed: watch::Sender<Option<String>>,
    /// How the uplink fares.
    pub status: watch::Sender<UplinkStatus>,
    /// The host's sessions.
    pub sessions: watch::Receiver<HostSessions>,
}

/// The link's own half, to be run.
#[derive(Debug)]
pub struct Link {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    decoder: Decoder,
    feed: watch::Receiver<Option<String>>,
    status: watch::Receiver<UplinkStatus>,
    sessions: watch::Sender<HostSessions>,
}

impl Link {
    /// Greets the host and waits for its first list of sessions.
    pub async fn connect(link_socket: &Path) -> Result<(Self, LinkHandle), LinkError> {
        timeout(LINK_DEADLINE, Self::greet(link_socket)).await.unwrap_or(Err(LinkError::Silent))
    }

    async fn greet(link_socket: &Path) -> Result<(Self, LinkHandle), LinkError> {
        let (mut read, mut write) = reach(link_socket).await?.into_split();
        send(&mut write, &LinkMessage::Hello { role: LinkRole::Uplink }).await?;
        let mut decoder = Decoder::new();
        let first = loop {
            if let Some(LinkAnswer::Sessions { boot, sessions }) = receive(&mut read, &mut decoder).await? {
                break HostSessions { boot, sessions };
            }
        };
        let (feed_in, feed) = watch::channel(None);
        let (status_in, status) = watch::channel(UplinkStatus::default());
        let (sessions, sessions_out) = watch::channel(first);
        let handle = LinkHandle { feed: feed_in, status: status_in, sessions: sessions_out };
        Ok((Self { read, write, decoder, feed, status, sessions }, handle))
    }

    /// Carries both directions until the link ends.
    pub async fn run(self) -> LinkError {
        let Self { mut read, mut write, mut decoder, mut feed, mut status, sessions } = self;
        let hear = async {
            loop {
                match receive(&mut read, &mut decoder).await {
                    Ok(Some(LinkAnswer::Sessions { boot, sessions: list })) => {
                        sessions.send_replace(HostSessions { boot, sessions: list });
                    }
                    Ok(Some(LinkAnswer::Status(_)) | None) => {}
                    Err(error) => return error,
                }
            }
        };
        let tell = async {
            loop {
                let message = tokio::select! {
                    Ok(()) = feed.changed() => feed.borrow_and_update().clone().map(|token| LinkMessage::Feed { token }),
                    Ok(()) = status.changed() => Some(LinkMessage::Status(status.borrow_and_update().clone())),
                    else => return LinkError::Closed,
                };
                if let Some(message) = message
                    && let Err(error) = send(&mut write, &message).await
                {
                    return error.into();
                }
            }
        };
        tokio::select! {
            error = hear => error,
            error = tell => error,
        }
    }
}

/// Connects; a host that has just been started may not have bound its socket yet.
async fn reach(link_socket: &Path) -> std::io::Result<UnixStream> {
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        match UnixStream::connect(link_socket).await {
            Err(error) if is_not_yet(&error) && Instant::now() < deadline => sleep(BIND_PAUSE).await,
            other => return other,
        }
    }
}

fn is_not_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

async fn send(write: &mut OwnedWriteHalf, message: &LinkMessage) -> std::io::Result<()> {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    write.write_all(&out).await
}

/// The next message; `None` for one of a newer host.
async fn receive(read: &mut OwnedReadHalf, decoder: &mut Decoder) -> Result<Option<LinkAnswer>, LinkError> {
    loop {
        if let Some(frame) = decoder.poll_frame()? {
            return Ok(LinkAnswer::decode(&frame)?);
        }
        if read.read_buf(decoder.buffer_mut()).await? == 0 {
            return Err(LinkError::Closed);
        }
    }
}
