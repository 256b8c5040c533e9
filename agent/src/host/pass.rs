//! What a stream that is no session's is let in with: room, and the two reasons for which it ends without being asked.

use rexec_shared::close::CloseCode;
use rexec_shared::ticket::{Claims, FeedState};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::handshake::Refusal;

/// See the module.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) feed: watch::Receiver<FeedState>,
    pub(super) stopping: CancellationToken,
    /// Room, as long as it is held.
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Pass {
    /// Waits until whoever showed `claims` may no longer be here.
    pub(super) async fn ended(&mut self, claims: &Claims) -> Refusal {
        let revoked = async {
            if self.feed.wait_for(|feed| feed.is_revoked(claims)).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = revoked => Refusal::new(CloseCode::Revoked, "the login was ended"),
            () = self.stopping.cancelled() => Refusal::host_gone(),
        }
    }
}
