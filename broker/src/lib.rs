//! The data plane of Rexec: joins viewers to agents and holds no truth (DESIGN §2, §5).
//!
//! A [`Broker`] listens for agents' tunnels (QUIC, mutual TLS) and serves viewers, over WebSocket and WebTransport. It reads a viewer's first frame, whose
//! ticket it checks to keep junk out, opens one QUIC stream on the machine's tunnel, and from then on copies bytes both ways.
//!
//! | module | what it owns |
//! |---|---|
//! | `endpoint` | TLS, transport limits, keys that survive a restart |
//! | `listener`, `half_open` | the accept loop, handshakes under way |
//! | `tunnel`, `control_stream`, `liveness` | one agent's tunnel |
//! | `carrier` | the room that viewers' streams have in a tunnel |
//! | `registry` | which machine has which tunnel, which streams live on it, what control is told |
//! | `viewer` | one viewer: WebSocket or WebTransport, first frame, pump |
//!
//! What the broker refuses to know: it never parses a frame after the first, knows no session, stores nothing, and opens no shell by itself: the
//! session host checks every ticket again.

#[cfg(test)]
extern crate self as rexec_broker;

mod broker;
mod carrier;
mod config;
mod control_stream;
mod counters;
mod endpoint;
mod half_open;
mod limits;
mod listener;
mod liveness;
#[cfg(test)]
mod panics;
mod prefix;
mod problem;
mod registry;
mod tunnel;
mod viewer;

pub use broker::{Broker, Drain};
pub use config::{BrokerConfig, StartError};
pub use counters::Counts;
pub use viewer::ViewerAddress;
