//! What Rexec asks of a Docker engine: sandboxes, their networks, homes and images.
//!
//! ```text
//!  image ── ensure_image ──┐
//!  agent ── ensure_agent ──┤  (a volume, made from a one-file image: no host mount, works on any engine)
//!                          ▼
//!                      create ──▶ start ──▶ guard ──▶ admit ──▶ the agent enrols and dials out
//!                  (network, home,          (rules in the sandbox's own network namespace;
//!                   hardened container)      nothing of the tenant runs before them)
//! ```
//!
//! Every call has a deadline and may be repeated: a second `create` finds what the first one made. The crate keeps no state; the engine is the
//! truth about containers, control's database about what should be.
//!
//! A sandbox is named by the id of its machine. Its container and its network are `rexec-<id>`, its home is `rexec-home-<id of the volume>`. All carry the
//! installation's id, and nothing else on the engine is ever touched.

mod agent;
mod endpoint;
mod engine;
mod error;
mod found;
mod image;
mod lifecycle;
mod network;
mod run;
mod snapshot;
mod spec;
mod volume;

pub use agent::AgentVolume;
pub use endpoint::Endpoint;
pub use engine::{Engine, Health};
pub use error::{EngineError, ErrorKind};
pub use found::{Container, Found, Sample};
pub use image::Pull;
pub use rexec_shared::sandbox::{Admission, Egress, EgressMode, Protocol, Reach};
pub use snapshot::{SnapshotSize, snapshot_image};
pub use spec::{HardenedSpec, Limits, Wish};
pub use volume::FoundVolume;
