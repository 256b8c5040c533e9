//! Secrets in memory, and what is kept of them in the database.

use std::fmt;

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A value that never shows itself in a log, an error or a debug print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value; every call is a place to look at when asking where a secret goes.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Bytes of randomness in a token: nobody guesses 256 bits.
const TOKEN_BYTES: usize = 32;

/// What a stored keyed hash stands for; one kind never passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The cookie of a login.
    Login,
    /// The one-time link that makes the owner.
    Setup,
    /// A join token.
    Join,
    /// What an agent polls with while a person decides.
    DeviceCode,
    /// The short code a person types.
    UserCode,
    /// The credential of a broker that stands alone.
    Broker,
    /// What a restricted sandbox shows to its proxy.
    Egress,
    /// What lets one browser into a preview, once.
    Preview,
    /// The link of a preview.
    PreviewShare,
    /// The cookie of a preview: a signature, nothing is stored.
    PreviewVisit,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Login => b"rexec-login-v1\0",
            Self::Setup => b"rexec-setup-v1\0",
            Self::Join => b"rexec-join-v1\0",
            Self::DeviceCode => b"rexec-device-code-v1\0",
            Self::UserCode => b"rexec-user-code-v1\0",
            Self::Broker => b"rexec-broker-v1\0",
            Self::Egress => b"rexec-egress-v1\0",
            Self::Preview => b"rexec-preview-v1\0",
            Self::PreviewShare => b"rexec-preview-share-v1\0",
            Self::PreviewVisit => b"rexec-preview-visit-v1\0",
        }
    }
}

/// Makes tokens and the keyed hashes (HMAC-SHA256 with `JWT_SECRET`) under which they are stored, so that a copy of the
/// database alone opens nothing.
pub struct Vault {
    key: hmac::Key,
}

impl Vault {
    /// A vault keyed with `JWT_SECRET`.
    pub fn new(secret: &Secret<String>) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()) }
    }

    /// The hash to store, or to look up, for `token`.
    pub fn mac(&self, purpose: Purpose, token: &str) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(purpose.label());
        context.update(token.as_bytes());
        URL_SAFE_NO_PAD.encode(context.sign().as_ref())
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

/// Whether two values are the same, in a time that does not depend on where they differ.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// A fresh token of 256 random bits behind `prefix`.
///
/// # Errors
/// When the system has no randomness to give.
pub fn fresh_token(prefix: &str) -> Result<Secret<String>, NoRandomness> {
    let bytes: [u8; TOKEN_BYTES] = random()?;
    Ok(Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

/// `N` random bytes from the system.
///
/// # Errors
/// When the system has no randomness to give.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no randomness")]
pub struct NoRandomness;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn st_07_a_secret_never_prints_itself() {
        let secret = Secret::new("canary".to_owned());
        assert_eq!(format!("{secret:?}"), "[secret]");
    }

    #[test]
    fn a_mac_depends_on_key_purpose_and_token() {
        let vault = Vault::new(&Secret::new("a".to_owned()));
        let other = Vault::new(&Secret::new("b".to_owned()));
        let mac = vault.mac(Purpose::Login, "t");
        assert_eq!(mac, vault.mac(Purpose::Login, "t"));
        assert_ne!(mac, vault.mac(Purpose::Join, "t"));
        assert_ne!(mac, vault.mac(Purpose::Login, "u"));
        assert_ne!(mac, other.mac(Purpose::Login, "t"));
    }

    #[test]
    fn fresh_tokens_differ_and_carry_256_bits() {
        let a = fresh_token("rexec_join_").expect("randomness");
        let b = fresh_token("rexec_join_").expect("randomness");
        assert_ne!(a.expose(), b.expose());
        assert_eq!(a.expose().len(), "rexec_join_".len() + 43);
    }
}
