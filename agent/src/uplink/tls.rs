//! What the tunnel trusts and shows: the authority pinned at enrolment and nothing else, our own certificate, TLS 1.3, one ALPN, no early data.
//!
//! Neither the system's roots nor a configured exception can widen this (THREATS NW-01); sessions are not resumed, so there is no ticket that
//! early data could ride on (NW-05).

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rexec_shared::pki::{ALPN_TUNNEL, PkiError, private_key_der};
use rexec_tunnel::quic::dial_id;
use rustls::client::Resumption;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;

use super::transport::transport_config;
use crate::state::MachineKey;

/// Why no tunnel can be secured.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The pinned authority.
    #[error("the installation's authority is not a certificate")]
    Authority,
    /// Our certificate.
    #[error("the machine's certificate is not PEM")]
    Certificate,
    /// Our key.
    #[error("the machine's key: {0}")]
    Key(#[from] PkiError),
    /// The name the broker must prove.
    #[error("the broker's name is not a DNS name")]
    ServerName,
    /// Key and certificate do not belong together, or the provider lacks what QUIC needs.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// The provider lacks QUIC's initial cipher.
    #[error("TLS: the provider lacks AES-128-GCM")]
    Cipher,
}

/// The name a broker must prove.
pub fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName)
}

/// TLS of the tunnel.
pub fn client_config(
    authority_pem: &str,
    certificate_pem: &str,
    key: &MachineKey,
) -> Result<ClientConfig, TlsError> {
    let roots = roots(authority_pem)?;
    let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::Certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private_key_der(key.pem())?)?;
    config.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Whether the authority has signed the certificate for a machine, as a broker looks at it while it is good: at `at`, Unix seconds.
pub fn check_issuer(authority_pem: &str, certificate_pem: &str, at: u64) -> Result<(), TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority_pem)?), provider)
        .build()
        .map_err(|_| TlsError::Authority)?;
    let certificate =
        CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| TlsError::Certificate)?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    verifier.verify_client_cert(&certificate, &[], at)?;
    Ok(())
}

fn roots(authority_pem: &str) -> Result<RootCertStore, TlsError> {
    let authority =
        CertificateDer::from_pem_slice(authority_pem.as_bytes()).map_err(|_| TlsError::Authority)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(|_| TlsError::Authority)?;
    Ok(roots)
}

/// QUIC of the tunnel.
pub fn quic_config(tls: ClientConfig) -> Result<quinn::ClientConfig, TlsError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|_| TlsError::Cipher)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config()));
    // The broker asks for our certificate only where a dial says that it is a tunnel's.
    config.initial_dst_cid_provider(Arc::new(|| dial_id(rand::random())));
    Ok(config)
}

/// The same TLS for both ways to a broker.
#[derive(Debug, Clone)]
pub struct Secured {
    /// For QUIC.
    pub quic: quinn::ClientConfig,
    /// For TCP.
    pub tcp: Arc<ClientConfig>,
}

impl Secured {
    /// From one configuration.
    pub fn new(tls: ClientConfig) -> Result<Self, TlsError> {
        Ok(Self { tcp: Arc::new(tls.clone()), quic: quic_config(tls)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rexec_shared::pki::{Authority, MachineName};
    use std::time::SystemTime;
    use uuid::Uuid;

    fn authority() -> Authority {
        Authority::load(&Authority::generate(Uuid::new_v4(), SystemTime::now()).unwrap()).unwrap()
    }

    fn certificate(authority: &Authority, key: &MachineKey) -> String {
        let name = MachineName { org: Uuid::new_v4(), machine: Uuid::new_v4() };
        authority.sign_machine(&key.signing_request().unwrap(), name, SystemTime::now()).unwrap()
    }

    #[test]
    fn nw_05_early_data_is_off_and_sessions_are_not_resumed() {
        let (authority, key) = (authority(), MachineKey::generate().unwrap());
        let config =
            client_config(authority.certificate_pem(), &certificate(&authority, &key), &key).unwrap();
        assert!(!config.enable_early_data);
        assert!(
            format!("{:?}", config.resumption).contains("NoClientSessionStorage"),
            "{:?}",
            config.resumption
        );
        assert_eq!(config.alpn_protocols, vec![b"rexec/1".to_vec()]);
    }

    #[test]
    fn a_certificate_for_another_key_is_noticed_before_dialling() {
        let authority = authority();
        let (key, other) = (MachineKey::generate().unwrap(), MachineKey::generate().unwrap());
        let certificate = certificate(&authority, &other);
        assert!(client_config(authority.certificate_pem(), &certificate, &key).is_err());
    }

    #[test]
    fn a_certificate_of_another_authority_is_noticed_before_dialling() {
        let (ours, theirs, key) = (authority(), authority(), MachineKey::generate().unwrap());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let check =
            |issuer: &Authority, at| check_issuer(ours.certificate_pem(), &certificate(issuer, &key), at);
        assert!(check(&ours, now).is_ok());
        assert!(check(&theirs, now).is_err());
        assert!(check(&ours, now + 48 * 3600).is_err(), "nor is it good for ever");
    }
}
