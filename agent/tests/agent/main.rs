//! The agent against real sockets, processes and peers: command line, enrolment, tunnel, supervision, installer.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get ends it")]

mod broker;
mod command_line;
mod control;
mod doctor;
mod fallback;
mod installer;
mod processes;
mod renewal;
mod server_trust;
mod streams;
mod support;
mod tunnel;
