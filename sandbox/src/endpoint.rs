//! Where an engine listens.

use std::path::PathBuf;

use bollard::{API_DEFAULT_VERSION, Docker};

use crate::error::EngineError;

/// Longest silence of an engine within one answer, seconds; each call has its own deadline besides.
const SILENCE_S: u64 = 120;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket on this machine.
    Unix(PathBuf),
    /// Another machine, with mutual TLS.
    Tcp {
        /// `host:port`.
        addr: String,
        /// Directory of `ca.pem`, `cert.pem` and `key.pem`.
        tls: PathBuf,
    },
}

impl Endpoint {
    pub(crate) fn dial(&self) -> Result<Docker, EngineError> {
        let docker = match self {
            Self::Unix(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), SILENCE_S, API_DEFAULT_VERSION)
            }
            Self::Tcp { addr, tls } => Docker::connect_with_ssl(
                &format!("tcp://{addr}"),
                &tls.join("key.pem"),
                &tls.join("cert.pem"),
                &tls.join("ca.pem"),
                SILENCE_S,
                API_DEFAULT_VERSION,
            ),
        };
        docker.map_err(EngineError::from)
    }
}
