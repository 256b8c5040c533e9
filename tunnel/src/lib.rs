//! The path between an agent and a broker: one connection with many streams, over QUIC or, where UDP is blocked, over TLS on TCP.
//!
//! [`Path`] is the connection; [`SendStream`] and [`RecvStream`] are the two halves of its streams. Who uses them does not see which transport
//! carries them. [`tcp`] brings TCP connections up; QUIC ones come from quinn, marked by [`quic`].
//!
//! The crate refuses to know what streams carry, who the peer is, and when to dial.
//!
//! Invariants, the same over both transports:
//!
//! * A stuck stream delays no other stream: windows are per stream.
//! * A half that is dropped without an end is reset (or stopped) with [`CloseCode::Internal`](rexec_shared::close::CloseCode::Internal), so nobody takes
//!   a torn stream for a whole one.
//! * A path whose last handle is dropped is closed.

mod end;
mod path;
pub mod quic;
mod stream;
pub mod tcp;

pub use end::{PathEnd, RecvEnd, SendEnd};
pub use path::{Path, Transport};
pub use stream::{RecvStream, SendStream};
