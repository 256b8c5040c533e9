//! The session host against real PTYs and unix sockets, with tickets signed as control signs them.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests fail as tests do, whatever else comes, and figures are for whoever reads the log"
)]

mod files;
mod forward;
mod input;
mod link;
mod pacing;
mod sessions;
mod shell;
mod support;
mod tickets;
