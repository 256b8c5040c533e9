//! What a broker counts, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A broker's figures at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Tunnels that stand now.
    pub tunnels: u64,
    /// Tunnels that ever stood since the start.
    pub tunnels_total: u64,
    /// Handshakes with agents that are under way now.
    pub handshakes: u64,
    /// Dials that were refused since the start: limits, bad certificates, revoked machines.
    pub tunnels_refused_total: u64,
    /// Viewer streams that are open now.
    pub streams: u64,
    /// Viewer streams opened since the start.
    pub streams_total: u64,
    /// Viewers refused since the start.
    pub viewers_refused_total: u64,
    /// Viewers that wait for their machine's tunnel now.
    pub held: u64,
    /// Bytes from viewers to agents since the start.
    pub bytes_to_agents_total: u64,
    /// Bytes from agents to viewers since the start.
    pub bytes_to_viewers_total: u64,
    /// Stream events that control was too slow to take: missing in the audit.
    pub events_lost_total: u64,
}

/// One figure.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Relaxed);
    }

    pub(crate) fn set(&self, n: usize) {
        self.0.store(n as u64, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The figures as they grow, shared by all tasks.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) tunnels: Count,
    pub(crate) tunnels_total: Count,
    pub(crate) handshakes: Count,
    pub(crate) tunnels_refused: Count,
    streams: Count,
    streams_total: Count,
    pub(crate) viewers_refused: Count,
    pub(crate) held: Count,
    pub(crate) bytes_to_agents: Count,
    pub(crate) bytes_to_viewers: Count,
    pub(crate) events_lost: Count,
}

impl Counters {
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            tunnels: self.tunnels.get(),
            tunnels_total: self.tunnels_total.get(),
            handshakes: self.handshakes.get(),
            tunnels_refused_total: self.tunnels_refused.get(),
            streams: self.streams.get(),
            streams_total: self.streams_total.get(),
            viewers_refused_total: self.viewers_refused.get(),
            held: self.held.get(),
            bytes_to_agents_total: self.bytes_to_agents.get(),
            bytes_to_viewers_total: self.bytes_to_viewers.get(),
            events_lost_total: self.events_lost.get(),
        }
    }
}

/// Counts a stream as open for as long as it lives, however it ends.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<Counters>);

impl OpenStream {
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        counters.streams.add(1);
        counters.streams_total.add(1);
        Self(counters.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.0.fetch_sub(1, Relaxed);
    }
}
