//! What browsers are shown over WebTransport, and what tickets tell them to expect.
//!
//! A browser believes a certificate that no public authority has signed by its hash alone, if it lives two weeks at most
//! (`serverCertificateHashes`). So there are always two: the one in use, and the one that follows it. A ticket names both, and a page that
//! got its ticket long ago finds one of them in use for as long as [`TURN`] at least. They are kept, because pages outlive a restart.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rexec_shared::pki::{Authority, Identity, PkiError, WEB_LIFE, certificate_hash, not_before};
use uuid::Uuid;

/// How long one is the next before it is the one in use, and in use before it is replaced. Two turns make eight of its thirteen days: one
/// turn in a row may fail.
pub const TURN: Duration = Duration::from_secs(4 * 24 * 3600);
const _: () = assert!(3 * TURN.as_secs() < WEB_LIFE.as_secs());

const KEY: &str = "-----END PRIVATE KEY-----";
const CERTIFICATE: &str = "-----END CERTIFICATE-----";

/// The two certificates, with their keys.
#[derive(Debug)]
pub struct WebIdentities {
    current: Identity,
    next: Identity,
}

impl WebIdentities {
    /// Two new ones, both good from now on.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn new(authority: &Authority, installation: Uuid, now: SystemTime) -> Result<Self, PkiError> {
        let made = || authority.web(installation, now);
        Ok(Self { current: made()?, next: made()? })
    }

    /// The one that is shown.
    pub const fn current(&self) -> &Identity {
        &self.current
    }

    /// Base64url of the SHA-256 of both, the one in use first.
    ///
    /// # Errors
    /// Never, of what this made.
    pub fn hashes(&self) -> Result<[String; 2], PkiError> {
        Ok([hash(&self.current)?, hash(&self.next)?])
    }

    /// Whether [`Self::turn`] is due. A clock that was set back makes it due as well: what begins in the future is good for nobody.
    pub fn is_due(&self, now: SystemTime) -> bool {
        let age = not_before(&self.next.certificate_pem).ok().and_then(|from| now.duration_since(from).ok());
        age.is_none_or(|age| age >= TURN)
    }

    /// What follows: the next in use and a new one after it, or two new ones where the next is not good, or not for long.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn turn(&self, authority: &Authority, installation: Uuid, now: SystemTime) -> Result<Self, PkiError> {
        let age = not_before(&self.next.certificate_pem).ok().and_then(|from| now.duration_since(from).ok());
        match age {
            Some(age) if age < 2 * TURN => {
                Ok(Self { current: self.next.clone(), next: authority.web(installation, now)? })
            }
            Some(_) | None => Self::new(authority, installation, now),
        }
    }

    /// As it is kept.
    pub fn to_pem(&self) -> String {
        let Self { current, next } = self;
        [&current.certificate_pem, &current.key_pem, &next.certificate_pem, &next.key_pem]
            .map(String::as_str)
            .concat()
    }

    /// What [`Self::to_pem`] made; none of anything else.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let mut rest = pem;
        let mut identity = || {
            let certificate_pem = take_through(&mut rest, CERTIFICATE)?;
            Some(Identity { certificate_pem, key_pem: take_through(&mut rest, KEY)? })
        };
        let made = Self { current: identity()?, next: identity()? };
        let is_whole = made.hashes().is_ok() && rest.trim().is_empty();
        is_whole.then_some(made)
    }
}

fn hash(identity: &Identity) -> Result<String, PkiError> {
    Ok(URL_SAFE_NO_PAD.encode(certificate_hash(&identity.certificate_pem)?))
}

/// Cuts off all up to and including the line that ends with `end`.
fn take_through(text: &mut &str, end: &str) -> Option<String> {
    let (taken, rest) = text.split_at_checked(text.find(end)? + end.len())?;
    *text = rest.trim_start();
    Some(format!("{taken}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> (Authority, Uuid) {
        let id = Uuid::new_v4();
        let made = Authority::generate(id, SystemTime::UNIX_EPOCH).expect("made");
        (Authority::load(&made).expect("loaded"), id)
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn the_hash_told_last_is_the_one_in_use_after_the_turn() {
        let (authority, id) = authority();
        let first = WebIdentities::new(&authority, id, now()).expect("made");
        assert!(!first.is_due(now()) && !first.is_due(now() + TURN / 2));
        assert!(first.is_due(now() + TURN));
        let [_, next] = first.hashes().expect("hashes");
        let second = first.turn(&authority, id, now() + TURN).expect("turned");
        let [current, after] = second.hashes().expect("hashes");
        assert_eq!(current, next);
        assert_ne!(after, next);
        assert!(!second.is_due(now() + TURN));
    }

    #[test]
    fn after_a_long_sleep_or_with_a_clock_set_back_both_are_made_anew() {
        let (authority, id) = authority();
        for later in [now() + 2 * TURN, now() - TURN] {
            let kept = WebIdentities::new(&authority, id, now()).expect("made");
            assert!(kept.is_due(later));
            let [_, next] = kept.hashes().expect("hashes");
            let turned = kept.turn(&authority, id, later).expect("turned");
            assert!(!turned.hashes().expect("hashes").contains(&next));
            assert!(!turned.is_due(later));
        }
    }

    #[test]
    fn what_is_kept_is_read_again_and_nothing_else_is() {
        let (authority, id) = authority();
        let made = WebIdentities::new(&authority, id, now()).expect("made");
        let pem = made.to_pem();
        let read = WebIdentities::from_pem(&pem).expect("read");
        assert_eq!(read.hashes().expect("hashes"), made.hashes().expect("hashes"));
        assert_eq!(read.current().key_pem, made.current().key_pem);
        for torn in ["", "nonsense", &pem[..pem.len() / 2], &format!("{pem}more")] {
            assert!(WebIdentities::from_pem(torn).is_none(), "{torn}");
        }
    }
}
