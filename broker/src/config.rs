//! What a broker is told when it starts, and what can be wrong with it.

use std::net::SocketAddr;

use rexec_shared::pki::{Identity, PkiError};
use rexec_shared::ticket::PublicKey;
use thiserror::Error;

/// Everything a broker is told when it starts.
#[derive(Debug)]
pub struct BrokerConfig {
    /// The broker's name, told to agents in `Welcome` and written into the log.
    pub name: String,
    /// Where agents dial, UDP and TCP alike, and browsers over UDP; port 0 takes one that is free for both.
    pub tunnel_addr: SocketAddr,
    /// The broker's certificate and key, from [`rexec_shared::pki::Authority::broker`].
    pub identity: Identity,
    /// What browsers are shown over WebTransport, from [`rexec_shared::pki::Authority::web`]; none: there is no WebTransport.
    pub web: Option<Identity>,
    /// The installation's own authority, PEM: the only one whose agents come in.
    pub ca_pem: String,
    /// Control's key for tickets and feeds.
    pub ticket_key: PublicKey,
    /// Key material for stateless resets and address tokens. Kept across restarts, so that agents of a broker that died learn
    /// with their next packet that it is gone.
    pub reset_key: [u8; 64],
    /// Origins of pages that may open a viewer's WebSocket or WebTransport, exactly as a browser sends them: `https://rexec.example`.
    pub allowed_origins: Vec<String>,
}

/// Why a broker does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The tunnel address cannot be bound.
    #[error("cannot listen for tunnels on {protocol} {addr}: {source}")]
    Bind {
        /// `udp` or `tcp`: both are needed.
        protocol: &'static str,
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The broker's certificate or the authority is no PEM certificate.
    #[error("the {what} is not a PEM certificate")]
    Certificate {
        /// Which one.
        what: &'static str,
    },
    /// The broker's key cannot be read.
    #[error("the broker's key: {0}")]
    Key(#[from] PkiError),
    /// The TLS library refuses the configuration.
    #[error("tunnel TLS: {0}")]
    Tls(String),
}
