//! Tickets, resume capabilities, feeds and proofs. What nobody signed is refused; what was signed, as anything at all, permits only what it says.

use std::sync::LazyLock;
use std::time::Instant;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rexec_shared::limits::CLOCK_SKEW;
use rexec_shared::message::Proof;
use rexec_shared::proof;
use rexec_shared::ticket::{Now, PublicKey, TicketError, Verifier};
use uuid::Uuid;

const UNIX_MS: u64 = 1_800_000_000_000;
const ORG: Uuid = Uuid::from_u128(1);
const MACHINE: Uuid = Uuid::from_u128(2);
const SESSION: Uuid = Uuid::from_u128(3);

static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any 32 bytes are a seed"));

/// The key that control would have.
pub(crate) fn public_key() -> PublicKey {
    PublicKey::parse(&BASE64.encode(KEY.public_key())).expect("a key of 32 bytes")
}

pub(crate) fn target(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    match kind {
        b't' => permits("rxt1", body),
        b'r' => permits("rxr1", body),
        b'f' => feeds(body),
        b'p' => proves(body),
        _ => unsigned(bytes),
    }
}

fn unsigned(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(public_key().permission(text).is_err());
    assert!(public_key().feed(text).is_err());
    let _ = PublicKey::parse(text);
}

/// A text that control has signed.
fn signed(prefix: &str, body: &[u8]) -> String {
    let signature = KEY.sign(&[b"rexec-", prefix.as_bytes(), b"\0", body].concat());
    format!("{prefix}.{}.{}", BASE64.encode(body), BASE64.encode(signature))
}

fn permits(prefix: &str, body: &[u8]) {
    let (text, is_ticket) = (signed(prefix, body), prefix == "rxt1");
    let now = Now { unix_ms: UNIX_MS, instant: start() };
    let mut verifier = Verifier::new(public_key(), ORG, now.instant);
    let opening = verifier.check(&text, MACHINE, SESSION, true, now);
    let Ok(claims) = opening.or_else(|error| {
        if error == TicketError::ResumeOnly {
            verifier.check(&text, MACHINE, SESSION, false, now)
        } else {
            Err(error)
        }
    }) else {
        return;
    };
    assert_eq!((claims.org, claims.aud, claims.ses), (ORG, MACHINE, SESSION));
    assert!(claims.exp > UNIX_MS && claims.iat <= UNIX_MS + CLOCK_SKEW.as_millis() as u64);
    let again = verifier.check(&text, MACHINE, SESSION, true, now).err();
    assert_eq!(again, Some(if is_ticket { TicketError::Used } else { TicketError::ResumeOnly }));
    assert!(verifier.check(&text, ORG, SESSION, false, now).is_err());
    let entries = serde_json::json!([{ "principal": format!("login:{}", claims.lgn), "at": 0 }]);
    let feed = serde_json::json!({ "org": ORG, "seq": 1, "issued": UNIX_MS, "entries": entries });
    let told = verifier.handle_feed(&signed("rxf1", feed.to_string().as_bytes()), now.instant);
    assert!(told.is_ok_and(|feed| feed.is_revoked(&claims)));
    assert_eq!(verifier.check(&text, MACHINE, SESSION, false, now).err(), Some(TicketError::Revoked));
}

fn feeds(body: &[u8]) {
    let text = signed("rxf1", body);
    let mut verifier = Verifier::new(public_key(), ORG, start());
    if let Ok(feed) = verifier.handle_feed(&text, start()) {
        let _ = feed.machine_revoked(MACHINE);
        let _ = feed.is_stale(Now { unix_ms: UNIX_MS, instant: start() });
        assert_eq!(verifier.handle_feed(&text, start()).err(), Some(TicketError::OldFeed));
    }
    assert!(public_key().permission(&text).is_err(), "a feed is no ticket");
}

/// Key and signature in two lines, as they come in a `Proof`.
fn proves(body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let (key, signature) = text.split_once('\n').unwrap_or((&text, ""));
    let cnf = BASE64.decode(key).map(|key| proof::confirmation(&key)).unwrap_or_default();
    let proof = Proof { key: key.to_owned(), signature: signature.to_owned() };
    assert!(proof::verify(&proof, &cnf, &[0; proof::NONCE_LEN], b"first").is_err());
}

/// A moment; one is as good as another.
fn start() -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START
}
