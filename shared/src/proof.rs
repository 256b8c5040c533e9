//! Proof that a viewer holds the key its ticket names: a stolen ticket is worth nothing (THREATS ST-05).
//!
//! The session host sends 32 random bytes; the viewer signs `"rexec-proof-v1\0" · nonce · sha256(payload of its first frame)` with ECDSA P-256 and
//! SHA-256, so nobody between the two can put another spec under the signature. WebCrypto makes exactly this signature (raw `r · s`).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use thiserror::Error;

use crate::message::Proof;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 32;
const CONTEXT: &[u8] = b"rexec-proof-v1\0";

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProofError {
    /// Not base64url, or of the wrong length.
    #[error("the proof is malformed")]
    Malformed,
    /// The key is not the one the ticket names.
    #[error("the proof is by another key than the ticket's")]
    WrongKey,
    /// The signature does not verify.
    #[error("the proof's signature does not verify")]
    Signature,
    /// The key could not be made or could not sign.
    #[error("the key cannot sign")]
    Key,
}

/// The `cnf` of a public key: base64url(sha256(uncompressed point)).
pub fn confirmation(public_key: &[u8]) -> String {
    BASE64.encode(digest(&SHA256, public_key).as_ref())
}

fn signed_bytes(nonce: &[u8], first_payload: &[u8]) -> Vec<u8> {
    [CONTEXT, nonce, digest(&SHA256, first_payload).as_ref()].concat()
}

/// Checks a viewer's proof against the ticket's `cnf`, the nonce sent and the first frame received.
pub fn verify(proof: &Proof, cnf: &str, nonce: &[u8], first_payload: &[u8]) -> Result<(), ProofError> {
    let key = BASE64.decode(&proof.key).map_err(|_| ProofError::Malformed)?;
    let signature = BASE64.decode(&proof.signature).map_err(|_| ProofError::Malformed)?;
    if confirmation(&key) != cnf {
        return Err(ProofError::WrongKey);
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
        .verify(&signed_bytes(nonce, first_payload), &signature)
        .map_err(|_| ProofError::Signature)
}

/// A viewer's own key, for viewers written in Rust.
pub struct ViewerKey(EcdsaKeyPair);

impl std::fmt::Debug for ViewerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ViewerKey")
    }
}

impl ViewerKey {
    /// A new key, never stored.
    pub fn generate() -> Result<Self, ProofError> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self).map_err(|_| ProofError::Key)
    }

    /// The hash that goes into a ticket request.
    pub fn confirmation(&self) -> String {
        confirmation(self.0.public_key().as_ref())
    }

    /// Answers a challenge.
    pub fn prove(&self, nonce: &[u8], first_payload: &[u8]) -> Result<Proof, ProofError> {
        let signature = self
            .0
            .sign(&SystemRandom::new(), &signed_bytes(nonce, first_payload))
            .map_err(|_| ProofError::Key)?;
        Ok(Proof {
            key: BASE64.encode(self.0.public_key().as_ref()),
            signature: BASE64.encode(signature.as_ref()),
        })
    }
}
