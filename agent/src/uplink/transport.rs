//! QUIC's limits on our end of the tunnel, every one of them set: a library's defaults let one peer pin gigabytes (RUSTSEC-2026-0341).

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{MtuDiscoveryConfig, TransportConfig, VarInt};
use rexec_shared::limits::{STREAMS_PER_TUNNEL, TUNNEL_IDLE, TUNNEL_KEEPALIVE};

use super::connect::quic::UDP_PAYLOAD_MAX;

/// Unread bytes of one stream. With it as large as the connection's, a flood on one stream held its neighbour's echo at 1.9 s; from 64 KiB to
/// 4 MiB below it, at 41 ms (docs/TRANSPORT.md). As large as the input a viewer keeps in flight; 70 Mbit/s at 30 ms for each stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Windows beyond one for each viewer's stream: the control stream's, and those of streams that are just being opened.
const SPARE_WINDOWS: u32 = 4;
/// Unread bytes of all streams together: a whole window for each stream there can be, so that streams left unread never take the control
/// stream's credit.
const CONNECTION_WINDOW: u32 = (STREAMS_PER_TUNNEL + SPARE_WINDOWS) * STREAM_WINDOW;
/// Out-of-order handshake bytes: a chain of two small certificates fits many times.
const CRYPTO_BUFFER: usize = 16 * 1024;
/// RTT assumed before one is known: QUIC's 333 ms wait for a lost first packet is longer than any tunnel needs.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Smallest payload every path carries (RFC 9000 §14).
const MTU_MIN: u16 = 1200;

/// Unacknowledged bytes we hold for the broker, with so many viewers' streams: a whole window for each, so that a slow path full of theirs
/// leaves room for the control stream's.
pub(super) fn send_window(streams: usize) -> u64 {
    (streams as u64 + u64::from(SPARE_WINDOWS)) * u64::from(STREAM_WINDOW)
}

/// The whole transport configuration.
pub(super) fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    // The broker opens one stream per viewer; nobody opens one-way streams or sends datagrams.
    config.max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_PER_TUNNEL));
    config.max_concurrent_uni_streams(VarInt::from_u32(0));
    config.datagram_receive_buffer_size(None);
    config.datagram_send_buffer_size(0);
    config.stream_receive_window(VarInt::from_u32(STREAM_WINDOW));
    config.receive_window(VarInt::from_u32(CONNECTION_WINDOW));
    // Grows with the streams that are open.
    config.send_window(send_window(0));
    // Round-robin between viewers, so a flood shares with an echo.
    config.send_fairness(true);
    config.crypto_buffer_size(CRYPTO_BUFFER);
    config.max_idle_timeout(VarInt::try_from(TUNNEL_IDLE.as_millis()).ok().map(Into::into));
    // Well inside the idle timeout and inside the 30 s that home routers keep a UDP mapping (RFC 4787 asks for 120).
    config.keep_alive_interval(Some(TUNNEL_KEEPALIVE));
    config.initial_rtt(INITIAL_RTT);
    config.initial_mtu(MTU_MIN);
    config.min_mtu(MTU_MIN);
    // Up to what the broker takes; a black hole brings it back down.
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(UDP_PAYLOAD_MAX);
    config.mtu_discovery_config(Some(discovery));
    config.pad_to_mtu(false);
    // Loss detection as RFC 9002 recommends; congestion control by measurement: docs/TRANSPORT.md.
    config.packet_threshold(3);
    config.time_threshold(9.0 / 8.0);
    config.persistent_congestion_threshold(3);
    config.congestion_controller_factory(Arc::new(CubicConfig::default()));
    config.ack_frequency_config(None);
    // Passive observers need not learn the round trip.
    config.allow_spin(false);
    // Worth 3.3 × in bulk; quinn turns it off by itself where a driver cannot.
    config.enable_segmentation_offload(true);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_left_unread_leave_the_control_stream_its_window_and_no_datagram_is_taken() {
        const { assert!(CONNECTION_WINDOW - STREAMS_PER_TUNNEL * STREAM_WINDOW >= STREAM_WINDOW) };
        assert!(send_window(9) - 9 * u64::from(STREAM_WINDOW) >= u64::from(STREAM_WINDOW));
        let shown = format!("{:?}", transport_config());
        for expected in [
            "stream_receive_window: 262144",
            "receive_window: 269484032",
            "datagram_receive_buffer_size: None",
            "upper_bound: 4000",
        ] {
            assert!(shown.contains(expected), "{expected} in {shown}");
        }
    }
}
