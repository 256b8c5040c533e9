//! Certificates and signing requests: `c` and a certificate, `r` and a request, both DER, or the text of a request.

use std::sync::LazyLock;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rexec_shared::pki::{self, Authority, MachineName};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use uuid::Uuid;

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let identity = Authority::generate(Uuid::from_u128(1), SystemTime::now()).expect("a key");
    Authority::load(&identity).expect("what was made")
});

pub(crate) fn target(bytes: &[u8]) {
    match bytes.split_first() {
        Some((b'c', der)) => certificate(&CertificateDer::from(der)),
        Some((b'r', der)) => {
            let lines = STANDARD.encode(der);
            request(&format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{lines}\n-----END CERTIFICATE REQUEST-----\n"
            ));
        }
        Some(_) => request(&String::from_utf8_lossy(bytes)),
        None => {}
    }
}

fn certificate(der: &CertificateDer<'_>) {
    let _ = MachineName::from_certificate(der);
    let _ = pki::not_after(der);
}

/// Of a request only the key counts: what is signed names the machine that control chose.
fn request(pem: &str) {
    let name = MachineName { org: Uuid::from_u128(2), machine: Uuid::from_u128(3) };
    let Ok(point) = pki::request_public_point(pem) else { return };
    assert!(pki::request_fingerprint(pem).is_ok());
    let _ = pki::verify_text(&point, "a text", "AAAA");
    if let Ok(signed) = AUTHORITY.sign_machine(pem, name, SystemTime::now()) {
        let der = CertificateDer::from_pem_slice(signed.as_bytes()).expect("it was just made");
        assert_eq!(MachineName::from_certificate(&der).ok(), Some(name));
    }
}
