//! What browsers dial: WebTransport (ALPN `h3`) on the port that agents' tunnels come in on.
//!
//! A browser shows no certificate: who it is, its ticket says. So this is a configuration of its own, which never offers the tunnel's
//! protocol, beside the agents' one, which never offers `h3` and never does without a certificate. Which one a dial meets is decided before
//! its handshake, by [`rexec_tunnel::quic::is_tunnel`] (THREATS NW-01).

use std::sync::Arc;

use quinn::{ServerConfig, TransportConfig, VarInt};
use rexec_shared::limits::TUNNEL_IDLE;
use rexec_shared::pki::{ALPN_WEB_TRANSPORT, Identity, private_key_der};

use super::{certificate, common, quic_config, tls_builder, without_resumption};
use crate::config::StartError;
use crate::limits::{STREAM_WINDOW, WEB_DATAGRAM, WEB_KEEPALIVE, WEB_STREAMS, WEB_UNI_STREAMS, WEB_WINDOW};

/// What is shown to browsers from here on.
pub(crate) fn config(identity: &Identity, reset_key: &[u8; 64]) -> Result<Arc<ServerConfig>, StartError> {
    let mut server = quic_config(tls(identity)?, reset_key)?;
    server.transport_config(Arc::new(transport()));
    Ok(Arc::new(server))
}

fn tls(identity: &Identity) -> Result<rustls::ServerConfig, StartError> {
    let chain = vec![certificate(&identity.certificate_pem, "browsers' certificate")?];
    let mut tls = tls_builder()?
        .with_no_client_auth()
        .with_single_cert(chain, private_key_der(&identity.key_pem)?)
        .map_err(|error| StartError::Tls(error.to_string()))?;
    tls.alpn_protocols = vec![ALPN_WEB_TRANSPORT.to_vec()];
    without_resumption(&mut tls);
    Ok(tls)
}

fn transport() -> TransportConfig {
    let mut config = common();
    config
        // The request and the one stream of the viewer.
        .max_concurrent_bidi_streams(VarInt::from_u32(WEB_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(WEB_UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WEB_WINDOW))
        // One viewer's window of output, which its host keeps in flight at most, and as much for what is on its way to be acknowledged.
        .send_window(u64::from(WEB_WINDOW))
        // WebTransport is not agreed upon without datagrams (RFC 9297); one is kept, none is read.
        .datagram_receive_buffer_size(Some(WEB_DATAGRAM))
        // A hidden page is silent, and is not to be forgotten: browsers send no keep-alive of their own.
        .keep_alive_interval(Some(WEB_KEEPALIVE));
    const { assert!(2 * WEB_KEEPALIVE.as_secs() < TUNNEL_IDLE.as_secs()) };
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use rexec_shared::pki::Authority;
    use std::time::SystemTime;
    use uuid::Uuid;

    fn identity() -> Identity {
        let installation = Uuid::new_v4();
        let authority = Authority::generate(installation, SystemTime::now()).unwrap();
        Authority::load(&authority).unwrap().web(installation, SystemTime::now()).unwrap()
    }

    #[test]
    fn nw_05_browsers_have_no_early_data_either_and_are_offered_no_tunnel() {
        let tls = tls(&identity()).unwrap();
        assert_eq!((tls.max_early_data_size, tls.send_tls13_tickets), (0, 0));
        assert!(!tls.session_storage.can_cache() && !tls.ticketer.enabled());
        assert_eq!(tls.alpn_protocols, [ALPN_WEB_TRANSPORT]);
    }

    #[test]
    fn a_browser_can_pin_little_memory() {
        let shown = format!("{:?}", transport());
        for expected in [
            "max_concurrent_bidi_streams: 2",
            "max_concurrent_uni_streams: 3",
            "receive_window: 524288",
            "send_window: 524288",
            "datagram_receive_buffer_size: Some(1200)",
        ] {
            assert!(shown.contains(expected), "{expected} in {shown}");
        }
    }
}
