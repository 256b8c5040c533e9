//! A tunnel's path, and the room that its viewers' streams have in it.
//!
//! Invariants: of the viewers, [`STALLED_PER_TUNNEL`] may be slow at once, so that what the agent has sent and nobody takes stays within the
//! tunnel's receive window. The send window has a whole stream window for each stream that stands and [`crate::limits::SPARE_WINDOWS`] more, so that bytes
//! of streams whose path is slow or whose agent does not read never keep the control stream waiting.

use std::sync::{Arc, Mutex, PoisonError};

use rexec_tunnel::{Path, PathEnd, RecvStream, SendStream};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits::{STALLED_PER_TUNNEL, send_window};

/// What streams are opened on.
#[derive(Debug, Clone)]
pub(crate) struct Carrier {
    path: Path,
    /// Held while the window is set, so that the newest count is the one that stays.
    lanes: Arc<Mutex<u32>>,
    /// Places for viewers that are slow.
    slow: Arc<Semaphore>,
}

/// One stream's room; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lane(Carrier);

impl Carrier {
    pub(crate) fn new(path: Path) -> Self {
        Self { path, lanes: Arc::default(), slow: Arc::new(Semaphore::new(STALLED_PER_TUNNEL)) }
    }

    /// Opens a stream and makes room for it.
    pub(crate) async fn open(&self) -> Result<(SendStream, RecvStream, Lane), PathEnd> {
        let (send, recv) = self.path.open_bi().await?;
        self.count(|lanes| lanes.saturating_add(1));
        Ok((send, recv, Lane(self.clone())))
    }

    /// Viewers' streams that stand.
    pub(crate) fn lanes(&self) -> u32 {
        *self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl Fn(u32) -> u32) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        *lanes = change(*lanes);
        self.path.set_send_window(send_window(*lanes));
    }
}

impl Lane {
    /// A place for its viewer while it is slow; none when too many are.
    pub(crate) fn enter_slow(&self) -> Option<SemaphorePermit<'_>> {
        self.0.slow.try_acquire().ok()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.count(|lanes| lanes.saturating_sub(1));
    }
}
