//! Who an agent is, and its key.

use rexec_shared::enrol::TunnelTarget;
use rexec_shared::pki::{self, PkiError};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

/// What enrolment decided. Authority and ticket key are pinned here for good; only the broker's address ever changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Control's base URL.
    pub server: Url,
    /// The machine's id.
    pub machine: Uuid,
    /// Its organisation.
    pub org: Uuid,
    /// The name it was given at enrolment.
    pub name: String,
    /// Whom to trust and dial.
    pub tunnel: TunnelTarget,
}

/// The machine's private key: made here, never sent, never shown.
#[derive(Clone)]
pub struct MachineKey(String);

impl std::fmt::Debug for MachineKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MachineKey")
    }
}

impl MachineKey {
    /// A new key.
    pub fn generate() -> Result<Self, PkiError> {
        pki::generate_key().map(Self)
    }

    pub(super) fn from_pem(bytes: Vec<u8>) -> Result<Self, String> {
        let pem = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
        // The library's own message could quote the file, so it is not passed on.
        pki::key_fingerprint(&pem).map_err(|_| "it is not a private key".to_owned())?;
        Ok(Self(pem))
    }

    /// PKCS #8 in PEM.
    pub fn pem(&self) -> &str {
        &self.0
    }

    /// A signing request: proof that the key is here.
    pub fn signing_request(&self) -> Result<String, PkiError> {
        pki::signing_request(&self.0)
    }

    /// What a person compares on both screens.
    pub fn fingerprint(&self) -> Result<String, PkiError> {
        pki::key_fingerprint(&self.0)
    }

    /// Signs a text with the key.
    pub fn sign(&self, text: &str) -> Result<String, PkiError> {
        pki::sign_text(&self.0, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn st_07_a_key_shows_nothing_when_debugged() {
        let key = MachineKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "MachineKey");
        assert_eq!(
            MachineKey::from_pem(b"-----BEGIN SECRET".to_vec()).unwrap_err(),
            "it is not a private key"
        );
    }
}
