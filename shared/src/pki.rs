//! The installation's own certificate authority, and what agents and brokers need of X.509.
//!
//! An agent is named by its certificate alone: URI SAN `rexec://<organisation>/machine/<machine>` (THREATS MA-01). Of a signing request only the
//! public key is believed. Brokers carry the DNS SAN of [`broker_name`]; agents pin the authority and that name (NW-01).

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::limits::CERT_LIFE;

/// ALPN of the tunnel.
pub const ALPN_TUNNEL: &[u8] = b"rexec/1";
/// ALPN of browsers: WebTransport over HTTP/3.
pub const ALPN_WEB_TRANSPORT: &[u8] = b"h3";
/// How far back a certificate begins, so that a machine whose clock runs a little behind can use it at once.
const BACKDATE: Duration = Duration::from_secs(300);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
const BROKER_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Life of what browsers are shown. They take a certificate by its hash alone only if it lives two weeks at most, its backdating included.
pub const WEB_LIFE: Duration = Duration::from_secs(13 * 24 * 3600);

/// What went wrong with keys or certificates.
#[derive(Debug, Error)]
pub enum PkiError {
    /// The library refused.
    #[error("certificate: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// The request's key is of another kind than P-256.
    #[error("the signing request's key is not ECDSA P-256")]
    KeyKind,
    /// The certificate is malformed or lacks the machine's name.
    #[error("the certificate names no machine")]
    NoMachine,
    /// The text holds no certificate.
    #[error("not a PEM certificate")]
    NoCertificate,
}

/// The DNS name that the brokers of an installation prove.
pub fn broker_name(installation: Uuid) -> String {
    format!("broker.{}.rexec.internal", installation.simple())
}

/// What a browser is told to expect, as in `serverCertificateHashes`: the SHA-256 of a certificate's DER.
pub fn certificate_hash(certificate_pem: &str) -> Result<[u8; 32], PkiError> {
    let der =
        CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| PkiError::NoCertificate)?;
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &der).as_ref());
    Ok(hash)
}

/// A key on disk: PKCS #8 in PEM, P-256.
pub fn generate_key() -> Result<String, PkiError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem())
}

/// The private key of a PEM file, as rustls takes it.
pub fn private_key_der(key_pem: &str) -> Result<PrivateKeyDer<'static>, PkiError> {
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(KeyPair::from_pem(key_pem)?.serialize_der())))
}

/// A signing request for the key; its subject is empty because nobody reads it.
pub fn signing_request(key_pem: &str) -> Result<String, PkiError> {
    let key = KeyPair::from_pem(key_pem)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&key)?.pem()?)
}

/// What a person compares: `SHA256:` and base64url of the hash of the public key (its SubjectPublicKeyInfo).
pub fn key_fingerprint(key_pem: &str) -> Result<String, PkiError> {
    Ok(fingerprint(&KeyPair::from_pem(key_pem)?.subject_public_key_info()))
}

/// The fingerprint of a request's key, once its signature has proved possession.
pub fn request_fingerprint(csr_pem: &str) -> Result<String, PkiError> {
    Ok(fingerprint(&read_request(csr_pem)?.public_key.subject_public_key_info()))
}

fn fingerprint(spki: &[u8]) -> String {
    format!("SHA256:{}", BASE64.encode(digest(&SHA256, spki).as_ref()))
}

fn read_request(csr_pem: &str) -> Result<CertificateSigningRequestParams, PkiError> {
    let request = CertificateSigningRequestParams::from_pem(csr_pem)?;
    if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
        return Err(PkiError::KeyKind);
    }
    Ok(request)
}

/// Signs a text with an agent's key: base64url of an ASN.1 ECDSA signature, checked by [`verify_text`].
pub fn sign_text(key_pem: &str, text: &str) -> Result<String, PkiError> {
    let key = KeyPair::from_pem(key_pem)?;
    Ok(BASE64.encode(rcgen::SigningKey::sign(&key, text.as_bytes())?))
}

/// Checks [`sign_text`] against the uncompressed public point that enrolment kept.
pub fn verify_text(public_point: &[u8], text: &str, signature: &str) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    BASE64.decode(signature).is_ok_and(|signature| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_point)
            .verify(text.as_bytes(), &signature)
            .is_ok()
    })
}

/// The uncompressed public point of a request's key.
pub fn request_public_point(csr_pem: &str) -> Result<Vec<u8>, PkiError> {
    Ok(read_request(csr_pem)?.public_key.der_bytes().to_vec())
}

/// A machine as its certificate names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MachineName {
    /// The organisation that owns it.
    pub org: Uuid,
    /// The machine.
    pub machine: Uuid,
}

impl MachineName {
    /// Reads the one URI SAN of a verified client certificate.
    pub fn from_certificate(der: &CertificateDer<'_>) -> Result<Self, PkiError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| PkiError::NoMachine)?;
        let names = certificate.subject_alternative_name().map_err(|_| PkiError::NoMachine)?;
        let [GeneralName::URI(uri)] = names.as_ref().map_or(&[][..], |san| &san.value.general_names[..])
        else {
            return Err(PkiError::NoMachine);
        };
        Self::from_uri(uri).ok_or(PkiError::NoMachine)
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let (org, machine) = uri.strip_prefix("rexec://")?.split_once("/machine/")?;
        Some(Self { org: Uuid::try_parse(org).ok()?, machine: Uuid::try_parse(machine).ok()? })
    }

    fn uri(&self) -> String {
        format!("rexec://{}/machine/{}", self.org, self.machine)
    }
}

/// When a certificate ends, Unix seconds.
pub fn not_after(der: &CertificateDer<'_>) -> Result<i64, PkiError> {
    Ok(*validity(der)?.end())
}

/// When a certificate is good, Unix seconds.
pub fn validity(der: &CertificateDer<'_>) -> Result<RangeInclusive<i64>, PkiError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| PkiError::NoMachine)?;
    let validity = certificate.validity();
    Ok(validity.not_before.timestamp()..=validity.not_after.timestamp())
}

/// When a certificate begins, as it says: a little before it was made.
pub fn not_before(certificate_pem: &str) -> Result<SystemTime, PkiError> {
    let der =
        CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| PkiError::NoCertificate)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| PkiError::NoCertificate)?;
    let seconds =
        u64::try_from(certificate.validity().not_before.timestamp()).map_err(|_| PkiError::NoCertificate)?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The installation's certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key, PKCS #8.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

fn params(now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = OffsetDateTime::from(now - BACKDATE);
    params.not_after = OffsetDateTime::from(now + life);
    params
}

fn server_params(name: String, now: SystemTime, life: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = params(now, life);
    params.subject_alt_names = vec![SanType::DnsName(name.try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

impl Authority {
    /// A new authority: certificate and key to keep.
    pub fn generate(installation: Uuid, now: SystemTime) -> Result<Identity, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(now, AUTHORITY_LIFE);
        params.distinguished_name.push(DnType::CommonName, format!("Rexec {installation}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// The authority of kept PEM texts.
    pub fn load(identity: &Identity) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(&identity.key_pem)?;
        let issuer = Issuer::from_ca_cert_pem(&identity.certificate_pem, key)?;
        Ok(Self { issuer, certificate_pem: identity.certificate_pem.clone() })
    }

    /// What agents pin.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Signs an agent's request: only its public key is taken from it.
    pub fn sign_machine(
        &self,
        csr_pem: &str,
        name: MachineName,
        now: SystemTime,
    ) -> Result<String, PkiError> {
        let request = read_request(csr_pem)?;
        let mut params = params(now, CERT_LIFE);
        params.subject_alt_names = vec![SanType::URI(name.uri().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&request.public_key, &self.issuer)?.pem())
    }

    /// Makes a broker's server identity: for one that shares control's process.
    pub fn broker(&self, installation: Uuid, now: SystemTime) -> Result<Identity, PkiError> {
        self.server(broker_name(installation), now, BROKER_LIFE)
    }

    /// Makes what a broker shows to browsers, good from `from` on. Its name is not a broker's: no agent would take it for one.
    pub fn web(&self, installation: Uuid, from: SystemTime) -> Result<Identity, PkiError> {
        self.server(format!("web.{}.rexec.internal", installation.simple()), from, WEB_LIFE)
    }

    fn server(&self, name: String, now: SystemTime, life: Duration) -> Result<Identity, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = server_params(name, now, life)?;
        Ok(Identity {
            certificate_pem: params.signed_by(&key, &self.issuer)?.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Signs the request of a broker that stands alone: only its public key is taken from it. It lives no longer than an agent's, so that a
    /// broker which was removed is nobody's broker a day later.
    pub fn sign_broker(
        &self,
        csr_pem: &str,
        installation: Uuid,
        now: SystemTime,
    ) -> Result<String, PkiError> {
        let request = read_request(csr_pem)?;
        let params = server_params(broker_name(installation), now, CERT_LIFE)?;
        Ok(params.signed_by(&request.public_key, &self.issuer)?.pem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(installation: Uuid) -> Authority {
        Authority::load(&Authority::generate(installation, SystemTime::now()).unwrap()).unwrap()
    }

    #[test]
    fn ma_01_a_machine_is_named_by_its_certificate_and_by_nothing_its_request_says() {
        let name = MachineName { org: Uuid::new_v4(), machine: Uuid::new_v4() };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut wish = CertificateParams::default();
        wish.subject_alt_names =
            vec![SanType::URI(MachineName { machine: Uuid::new_v4(), ..name }.uri().try_into().unwrap())];
        let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
        let pem = authority(Uuid::new_v4()).sign_machine(&csr, name, SystemTime::now()).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(MachineName::from_certificate(&der).unwrap(), name);
    }

    #[test]
    fn a_broker_certificate_names_no_machine() {
        let installation = Uuid::new_v4();
        let identity = authority(installation).broker(installation, SystemTime::now()).unwrap();
        let der = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap();
        assert!(MachineName::from_certificate(&der).is_err());
    }

    #[test]
    fn what_browsers_are_shown_lives_two_weeks_at_most_and_is_no_brokers() {
        let installation = Uuid::new_v4();
        let identity = authority(installation).web(installation, SystemTime::now()).unwrap();
        let der = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let validity = certificate.validity();
        assert!(validity.not_after.timestamp() - validity.not_before.timestamp() <= 14 * 24 * 3600);
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        assert_ne!(names.value.general_names, [GeneralName::DNSName(&broker_name(installation))]);
        assert_eq!(certificate_hash(&identity.certificate_pem).unwrap()[..], *digest(&SHA256, &der).as_ref());
    }

    #[test]
    fn nw_01_a_broker_is_named_as_one_whatever_its_request_says() {
        let installation = Uuid::new_v4();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut wish = CertificateParams::new(vec!["evil.test".to_owned()]).unwrap();
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
        let pem = authority(installation).sign_broker(&csr, installation, SystemTime::now()).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        let [GeneralName::DNSName(name)] = &names.value.general_names[..] else { panic!("one name") };
        assert_eq!(*name, broker_name(installation));
        assert!(!certificate.is_ca());
        let usage = certificate.extended_key_usage().unwrap().unwrap();
        assert!(usage.value.server_auth && !usage.value.client_auth);
        let life = certificate.validity().time_to_expiration().unwrap().whole_seconds();
        assert!(life <= i64::try_from(CERT_LIFE.as_secs()).unwrap());
    }

    #[test]
    fn a_text_signed_by_the_agents_key_verifies_with_the_point_of_its_request() {
        let key = generate_key().unwrap();
        let point = request_public_point(&signing_request(&key).unwrap()).unwrap();
        let signature = sign_text(&key, "rexec-unregister").unwrap();
        assert!(verify_text(&point, "rexec-unregister", &signature));
        assert!(!verify_text(&point, "rexec-unregistes", &signature));
        assert_eq!(
            key_fingerprint(&key).unwrap(),
            request_fingerprint(&signing_request(&key).unwrap()).unwrap()
        );
    }
}
