//! `rexec-agent`: what runs on a machine.
//!
//! Two processes: the *session host* ([`host`]) owns PTYs, output logs, screens and viewers and knows nothing of the network; the
//! *uplink* dials the broker and copies viewer streams to the host's socket unread. Killing either leaves the shells of the host alive.

pub mod cli;
pub mod clock;
pub mod control_api;
pub mod copy_home;
pub mod enrolment;
pub mod guard;
pub mod host;
pub mod plain_text;
pub mod renewal;
pub mod state;
pub mod supervisor;
pub mod uplink;
