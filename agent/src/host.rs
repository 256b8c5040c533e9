//! The session host: owner of PTYs, output logs, screens, viewers and writer leases; and where files and ports of the machine are reached ([`files`], [`forward`]).
//!
//! Two sockets and nothing else connect it to the world. On `viewer.sock` come the streams of viewers, copied there unread by the
//! uplink; each proves itself with a ticket and a signature before the host keeps anything of it ([`handshake`]). On `link.sock` the
//! uplink brings revocation feeds and takes the list of sessions, and local commands ask and stop ([`link`]).
//!
//! ```text
//!                                 ┌▶ files, forward (a task for each stream; revocations, stop: pass)
//!  viewer.sock ─▶ handshake ─▶ stream ◀── batches ── session (one task: PTY, log, screen, viewers, lease)
//!                     │ ▲                                ▲ revocations, stop
//!                     ▼ │ admission                      │
//!                     hub (one task: verifier, sessions, uplink's state) ◀─▶ link ◀─ link.sock
//! ```
//!
//! The host knows no network but the machine's own loopback, which forwards lead to, no file of its own but the two sockets, and no clock but the machine's. No lifetime of a session hangs on a socket:
//! uplinks come and go.

mod account;
mod environment;
mod files;
mod forward;
mod handshake;
mod hub;
mod link;
mod pass;
mod presence;
mod pty;
mod screen;
mod session;
mod socket;
mod stream;
mod sys;
mod title;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rexec_shared::ticket::PublicKey;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use hub::{Hub, HubHandle};
use socket::{Listener, SocketError};

/// Streams of viewers at once, whatever their state: what a tunnel carries and some that are just leaving.
const STREAMS_MAX: usize = rexec_shared::limits::STREAMS_PER_TUNNEL as usize + 64;
/// Connections to the link at once: one uplink, one that takes over from it, some local commands.
const LINKS_MAX: usize = 16;

/// How long streams may take to bring their last words, once every session has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a session host needs to be told.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Where viewer streams come in.
    pub viewer_socket: PathBuf,
    /// Where the uplink and local commands come in.
    pub link_socket: PathBuf,
    /// This machine.
    pub machine: Uuid,
    /// The organisation that owns it.
    pub org: Uuid,
    /// Control's ticket key, pinned at enrolment.
    pub ticket_key: PublicKey,
    /// Version of the agent, shown by `status`.
    pub version: String,
    /// The directory that is `/` to who looks at files.
    pub files_root: PathBuf,
}

/// Why a session host ended although nobody stopped it.
#[derive(Debug, Error)]
pub enum HostError {
    /// The machine was revoked: its sessions are hung up and nothing will be opened again.
    #[error("this machine was revoked by its owner")]
    Revoked,
    /// A socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The task that owns the sessions failed.
    #[error("the session host failed: {0}")]
    Failed(String),
}

/// Runs the session host until it is told to stop: by `shutdown`, or over the link. Sessions are hung up then and get a short grace.
pub async fn run(config: HostConfig, shutdown: CancellationToken) -> Result<(), HostError> {
    let viewers = Listener::bind(&config.viewer_socket)?;
    let links = Listener::bind(&config.link_socket)?;
    let (hub, handle) = Hub::new(config, shutdown.clone());
    let hub = tokio::spawn(hub.run());
    let streams = TaskTracker::new();
    let viewers = accept(viewers, STREAMS_MAX, &streams, handle.clone(), stream::serve);
    let links = accept(links, LINKS_MAX, &streams, handle, link::serve);
    let ended = tokio::select! {
        ended = hub => ended.unwrap_or_else(|error| Err(HostError::Failed(error.to_string()))),
        () = viewers => Ok(()),
        () = links => Ok(()),
    };
    // The last words of sessions are on their way.
    streams.close();
    let _ = tokio::time::timeout(LAST_WORDS, streams.wait()).await;
    ended
}

/// Accepts connections of our own user for ever, each in a task of its own: a panic in one is the end of that one.
async fn accept<F>(
    listener: Listener,
    max: usize,
    streams: &TaskTracker,
    hub: HubHandle,
    serve: fn(UnixStream, HubHandle) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = std::sync::Arc::new(Semaphore::new(max));
    loop {
        let stream = listener.accept().await;
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            tracing::warn!(max, "too many connections to a socket; one is refused");
            continue;
        };
        let serving = serve(stream, hub.clone());
        streams.spawn(async move {
            let _permit = permit;
            serving.await;
        });
    }
}

/// Now, in Unix milliseconds.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
