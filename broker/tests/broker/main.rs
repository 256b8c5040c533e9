//! The broker with real agents (QUIC, certificates of a test authority) and real viewers (WebSocket, WebTransport).

#![expect(clippy::unwrap_used, reason = "a test fails where its ground gives way")]
#![expect(clippy::print_stdout, reason = "figures measured on the way")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one event among many")]

mod cable;
mod gaps;
mod handshakes;
mod isolation;
mod kit;
mod memory;
mod revocation;
mod tcp;
mod tunnels;
mod viewers;
mod web_transport;
