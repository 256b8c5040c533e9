//! Whom HTTPS trusts: what `SSL_CERT_FILE` names, else the system's bundle, else Mozilla's roots built in.
//!
//! The same order as curl, so that where the installer's download worked, registering works. The tunnel trusts none of these: it has its
//! own authority (THREATS NW-01).

use std::path::Path;
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use url::Url;

/// Where distributions keep their bundle.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

pub(super) fn tls_config(server: &Url) -> TlsConfig {
    let builder = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    // A bundle is 200 KiB to read and parse: only where it is needed.
    if server.scheme() == "https" { builder.root_certs(roots()).build() } else { builder.build() }
}

fn roots() -> RootCerts {
    let named = std::env::var_os("SSL_CERT_FILE");
    let found = match &named {
        Some(path) => bundle(Path::new(path)),
        None => BUNDLES
            .iter()
            .map(|path| bundle(Path::new(path)))
            .find(|certificates| !certificates.is_empty())
            .unwrap_or_default(),
    };
    if found.is_empty() { RootCerts::WebPki } else { RootCerts::from(found) }
}

fn bundle(path: &Path) -> Vec<Certificate<'static>> {
    let Ok(pem) = std::fs::read(path) else { return Vec::new() };
    let certificate = |item| if let Ok(PemItem::Certificate(found)) = item { Some(found) } else { None };
    parse_pem(&pem).filter_map(certificate).collect()
}
