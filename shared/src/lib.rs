//! What every part of Rexec agrees on: the session protocol, tickets, limits, and the decisions of sessions as pure state machines.
//!
//! The crate knows no socket, clock, task or lock. Its machines are told bytes and times and answer with bytes, events and deadlines;
//! [`viewer::Viewer`] is one end of a session, and [`log::OutputLog`], [`ledger::InputLedger`], [`pacing::Pacer`] and
//! [`lease::Lease`] are what the session host builds the other end from. [`ticket`] is the only place where permission is decided.
//!
//! `docs/PROTOCOL.md` tells the wire in prose; the modules here are the authority for numbers and layouts.

pub mod address;
pub mod backoff;
pub mod broker_link;
pub mod close;
pub mod enrol;
pub mod files;
pub mod frame;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod log;
pub mod message;
pub mod mux;
pub mod pacing;
pub mod pki;
pub mod proof;
pub mod sandbox;
pub mod text;
pub mod ticket;
pub mod tunnel;
pub mod viewer;

/// Version of the session protocol and of the tunnel that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
