//! Tickets, resume capabilities and revocation feeds: signed by control, checked by broker and session host alike.
//!
//! ```text
//! rxt1.<base64url(claims)>.<base64url(signature)>
//! ```
//!
//! The signature is Ed25519 over `"rexec-" prefix "\0" claims`; the prefix is signed with the claims, so one kind never passes for another, and no algorithm
//! is named, so none can be confused. [`Verifier::check`] is the only place where a permission is decided; it knows no clock and no network.
#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;
use uuid::Uuid;

use crate::close::CloseCode;
use crate::limits::{CLOCK_SKEW, FEED_ENTRIES_MAX, FEED_STALE, REPLAY_MAX, TICKET_LIFE, TICKET_MAX};

const TICKET: &str = "rxt1";
const RESUME: &str = "rxr1";
const FEED: &str = "rxf1";
/// Largest encoded feed: `FEED_ENTRIES_MAX` entries fit in one frame.
const FEED_BYTES_MAX: usize = 60 * 1024;

/// What a ticket lets its holder do on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Capability {
    /// Open terminals and type into them.
    #[serde(rename = "terminal")]
    Terminal,
    /// Run commands.
    #[serde(rename = "exec")]
    Exec,
    /// Read files.
    #[serde(rename = "files.read")]
    FilesRead,
    /// Write files.
    #[serde(rename = "files.write")]
    FilesWrite,
    /// Forward ports.
    #[serde(rename = "forward")]
    Forward,
    /// Look at sessions.
    #[serde(rename = "view")]
    View,
}

/// What acts: a person's browser, an access token, an AI client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// A signed-in person.
    Person,
    /// A personal access token.
    Token,
    /// An AI client.
    Ai,
}

/// Who acts, for the audit and for the list of viewers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// What it is.
    pub kind: ActorKind,
    /// Its id.
    pub id: Uuid,
    /// Its name, shown to other viewers.
    pub name: String,
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The ticket's own number.
    pub jti: Uuid,
    /// The machine it is for.
    pub aud: Uuid,
    /// The organisation that owns the machine.
    pub org: Uuid,
    /// The user on whose authority.
    pub usr: Uuid,
    /// The login or token it was issued to.
    pub lgn: Uuid,
    /// Who acts.
    pub act: Actor,
    /// The session it opens or attaches to.
    pub ses: Uuid,
    /// What it allows.
    pub caps: Vec<Capability>,
    /// base64url(sha256(viewer's public key)).
    pub cnf: String,
    /// Issued at, Unix milliseconds.
    pub iat: u64,
    /// Not good from here on, Unix milliseconds.
    pub exp: u64,
}

impl Claims {
    /// Whether the capability is among those granted.
    pub fn allows(&self, capability: Capability) -> bool {
        self.caps.contains(&capability)
    }
}

/// Something issued at or before `at` to this principal is void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// `user:<id>`, `login:<id>` or `machine:<id>`.
    pub principal: String,
    /// Unix milliseconds, control's clock.
    pub at: u64,
}

/// The revocations of one organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// The organisation.
    pub org: Uuid,
    /// Grows with every feed signed; a verifier takes none that does not.
    pub seq: u64,
    /// When it was signed, Unix milliseconds.
    pub issued: u64,
    /// What is void.
    pub entries: Vec<Revocation>,
}

/// Why a ticket, a resume capability or a feed is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TicketError {
    /// Not of the form, or too long.
    #[error("the ticket is malformed")]
    Malformed,
    /// The signature is not control's.
    #[error("the ticket's signature does not verify")]
    Signature,
    /// For another machine or organisation.
    #[error("the ticket is for another machine")]
    Audience,
    /// For another session than the frame names.
    #[error("the ticket is for another session")]
    Session,
    /// Issued in the future or with too long a life.
    #[error("the ticket's times make no sense here; is a clock wrong?")]
    Times,
    /// Its time has passed.
    #[error("the ticket has expired")]
    Expired,
    /// Presented before.
    #[error("the ticket was used before")]
    Used,
    /// Its user, login or machine was revoked.
    #[error("the permission was revoked")]
    Revoked,
    /// A resume capability where a ticket is needed.
    #[error("a resume capability opens nothing new")]
    ResumeOnly,
    /// No fresh feed.
    #[error("no fresh revocation feed, so nothing new is opened")]
    Stale,
    /// Too many tickets are remembered.
    #[error("too many tickets at once; try again in a minute")]
    Full,
    /// An old feed, or another organisation's.
    #[error("the revocation feed is not newer than the one in force")]
    OldFeed,
}

impl TicketError {
    /// The close code a peer is told.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Malformed
            | Self::Signature
            | Self::Audience
            | Self::Session
            | Self::Times
            | Self::ResumeOnly
            | Self::OldFeed => CloseCode::BadTicket,
            Self::Expired => CloseCode::TicketExpired,
            Self::Used => CloseCode::TicketUsed,
            Self::Revoked => CloseCode::Revoked,
            Self::Stale => CloseCode::FeedStale,
            Self::Full => CloseCode::Overloaded,
        }
    }
}

/// Which of the two signed permissions a string is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Single use, short-lived.
    Ticket,
    /// Attach to one session until the login ends.
    Resume,
}

/// Control's signing key.
pub struct Signer {
    key: Ed25519KeyPair,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// The stored key is not an Ed25519 key in PKCS #8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the ticket key is not an Ed25519 key in PKCS #8")]
pub struct BadKey;

impl Signer {
    /// A new key, as PKCS #8 bytes to keep.
    pub fn generate() -> Result<Vec<u8>, BadKey> {
        Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|_| BadKey)
    }

    /// A signer from kept bytes.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, BadKey> {
        Ed25519KeyPair::from_pkcs8(bytes).map(|key| Self { key }).map_err(|_| BadKey)
    }

    /// The public key that machines pin, base64url.
    pub fn public_key(&self) -> String {
        BASE64.encode(self.key.public_key().as_ref())
    }

    /// Signs a ticket.
    pub fn ticket(&self, claims: &Claims) -> String {
        self.sign(TICKET, claims)
    }

    /// Signs a resume capability.
    pub fn resume(&self, claims: &Claims) -> String {
        self.sign(RESUME, claims)
    }

    /// Signs a feed.
    pub fn feed(&self, feed: &Feed) -> String {
        self.sign(FEED, feed)
    }

    fn sign<T: Serialize>(&self, prefix: &str, body: &T) -> String {
        let body = serde_json::to_vec(body).unwrap_or_default();
        let signature = self.key.sign(&signed_bytes(prefix, &body));
        format!("{prefix}.{}.{}", BASE64.encode(&body), BASE64.encode(signature.as_ref()))
    }
}

fn signed_bytes(prefix: &str, body: &[u8]) -> Vec<u8> {
    [b"rexec-", prefix.as_bytes(), b"\0", body].concat()
}

/// Tickets seen, so that each is good once.
#[derive(Debug, Default)]
struct ReplayCache {
    seen: HashMap<Uuid, u64>,
    by_expiry: BTreeMap<(u64, Uuid), ()>,
}

impl ReplayCache {
    fn admit(&mut self, jti: Uuid, exp: u64, now: u64) -> Result<(), TicketError> {
        while let Some((&(oldest, id), ())) = self.by_expiry.first_key_value() {
            if oldest.saturating_add(CLOCK_SKEW.as_millis() as u64) > now {
                break;
            }
            self.by_expiry.remove(&(oldest, id));
            self.seen.remove(&id);
        }
        if self.seen.contains_key(&jti) {
            return Err(TicketError::Used);
        }
        if self.seen.len() >= REPLAY_MAX {
            return Err(TicketError::Full);
        }
        self.seen.insert(jti, exp);
        self.by_expiry.insert((exp, jti), ());
        Ok(())
    }
}

/// The newest feed of an organisation, and when it came.
#[derive(Debug, Clone)]
pub struct FeedState {
    seq: u64,
    received: Option<Instant>,
    revoked: HashMap<String, u64>,
}

impl FeedState {
    /// No feed yet; the age counts from `now`, so that a verifier just started has the grace of a stale feed.
    pub fn starting(now: Instant) -> Self {
        Self { seq: 0, received: Some(now), revoked: HashMap::new() }
    }

    /// Whether something issued to these claims' user, login or machine at their `iat` is void.
    pub fn is_revoked(&self, claims: &Claims) -> bool {
        [("user", claims.usr), ("login", claims.lgn), ("machine", claims.aud)]
            .iter()
            .any(|(kind, id)| self.revoked.get(&format!("{kind}:{id}")).is_some_and(|at| claims.iat <= *at))
    }

    /// Whether this machine itself is revoked.
    pub fn machine_revoked(&self, machine: Uuid) -> bool {
        self.revoked.contains_key(&format!("machine:{machine}"))
    }

    /// Whether nothing new may be opened.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.received.is_none_or(|at| now.saturating_duration_since(at) > FEED_STALE)
    }
}

/// Checks signatures with control's public key.
#[derive(Debug, Clone)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// From the base64url text that [`Signer::public_key`] gives.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        BASE64.decode(text).ok().filter(|key| key.len() == 32).map(Self).ok_or(BadKey)
    }

    /// Reads and verifies a permission; decides nothing else.
    pub fn permission(&self, text: &str) -> Result<(Permission, Claims), TicketError> {
        if text.len() > TICKET_MAX {
            return Err(TicketError::Malformed);
        }
        match text.split_once('.') {
            Some((TICKET, rest)) => Ok((Permission::Ticket, self.open(TICKET, rest)?)),
            Some((RESUME, rest)) => Ok((Permission::Resume, self.open(RESUME, rest)?)),
            Some(_) | None => Err(TicketError::Malformed),
        }
    }

    /// Reads and verifies a feed.
    pub fn feed(&self, text: &str) -> Result<Feed, TicketError> {
        if text.len() > FEED_BYTES_MAX {
            return Err(TicketError::Malformed);
        }
        match text.split_once('.') {
            Some((FEED, rest)) => self.open(FEED, rest),
            Some(_) | None => Err(TicketError::Malformed),
        }
    }

    fn open<T: DeserializeOwned>(&self, prefix: &str, rest: &str) -> Result<T, TicketError> {
        let (body, signature) = rest.split_once('.').ok_or(TicketError::Malformed)?;
        let body = BASE64.decode(body).map_err(|_| TicketError::Malformed)?;
        let signature = BASE64.decode(signature).map_err(|_| TicketError::Malformed)?;
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(&signed_bytes(prefix, &body), &signature)
            .map_err(|_| TicketError::Signature)?;
        serde_json::from_slice(&body).map_err(|_| TicketError::Malformed)
    }
}

/// What a checker knows of the moment: control's clock as far as known, and a clock that only moves forward.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Unix milliseconds.
    pub unix_ms: u64,
    /// For ages.
    pub instant: Instant,
}

/// One organisation's verifier: key, feed, tickets seen.
#[derive(Debug)]
pub struct Verifier {
    key: PublicKey,
    org: Uuid,
    feed: FeedState,
    replay: ReplayCache,
}

impl Verifier {
    /// A verifier for machines of one organisation.
    pub fn new(key: PublicKey, org: Uuid, now: Instant) -> Self {
        Self { key, org, feed: FeedState::starting(now), replay: ReplayCache::default() }
    }

    /// Takes a feed that is newer than the one in force.
    pub fn handle_feed(&mut self, text: &str, now: Instant) -> Result<&FeedState, TicketError> {
        let feed = self.key.feed(text)?;
        if feed.org != self.org || feed.seq <= self.feed.seq {
            return Err(TicketError::OldFeed);
        }
        let revoked = feed
            .entries
            .into_iter()
            .take(FEED_ENTRIES_MAX)
            .map(|entry| (entry.principal, entry.at))
            .collect();
        self.feed = FeedState { seq: feed.seq, received: Some(now), revoked };
        Ok(&self.feed)
    }

    /// The feed in force.
    pub fn feed(&self) -> &FeedState {
        &self.feed
    }

    /// Decides whether `text` permits its holder to come to `session` on `machine`; marks a ticket as used.
    ///
    /// `opening` is whether a session would be made: a resume capability is refused then. Possession of the key is
    /// proved afterwards, by [`crate::proof`].
    pub fn check(
        &mut self,
        text: &str,
        machine: Uuid,
        session: Uuid,
        opening: bool,
        now: Now,
    ) -> Result<Claims, TicketError> {
        let (kind, claims) = self.key.permission(text)?;
        if claims.aud != machine || claims.org != self.org {
            return Err(TicketError::Audience);
        }
        if claims.ses != session {
            return Err(TicketError::Session);
        }
        check_times(kind, &claims, now.unix_ms)?;
        if self.feed.is_revoked(&claims) {
            return Err(TicketError::Revoked);
        }
        match kind {
            Permission::Resume if opening => return Err(TicketError::ResumeOnly),
            Permission::Resume => {}
            Permission::Ticket => {
                if self.feed.is_stale(now.instant) {
                    return Err(TicketError::Stale);
                }
                self.replay.admit(claims.jti, claims.exp, now.unix_ms)?;
            }
        }
        Ok(claims)
    }
}

fn check_times(kind: Permission, claims: &Claims, now: u64) -> Result<(), TicketError> {
    let skew = CLOCK_SKEW.as_millis() as u64;
    let life = claims.exp.checked_sub(claims.iat).ok_or(TicketError::Times)?;
    if claims.iat > now.saturating_add(skew) {
        return Err(TicketError::Times);
    }
    if kind == Permission::Ticket && Duration::from_millis(life) > TICKET_LIFE {
        return Err(TicketError::Times);
    }
    if claims.exp <= now {
        return Err(TicketError::Expired);
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has a clock")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;

    struct Bench {
        signer: Signer,
        verifier: Verifier,
        claims: Claims,
        now: Now,
    }

    fn bench() -> Bench {
        let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
        let [org, machine, user, login, session] = [1, 2, 3, 4, 5].map(Uuid::from_u128);
        let now = Now { unix_ms: 1_800_000_000_000, instant: Instant::now() };
        let actor = Actor { kind: ActorKind::Person, id: user, name: "Ada".into() };
        let claims = Claims {
            jti: Uuid::from_u128(9),
            aud: machine,
            org,
            usr: user,
            lgn: login,
            act: actor,
            ses: session,
            caps: vec![Capability::Terminal],
            cnf: "x".into(),
            iat: now.unix_ms,
            exp: now.unix_ms + MINUTE,
        };
        let verifier = Verifier::new(PublicKey::parse(&signer.public_key()).unwrap(), org, now.instant);
        Bench { signer, verifier, claims, now }
    }

    impl Bench {
        fn check(&mut self, text: &str, opening: bool) -> Result<Claims, TicketError> {
            self.verifier.check(text, self.claims.aud, self.claims.ses, opening, self.now)
        }

        fn check_edited(&mut self, edit: impl FnOnce(&mut Claims)) -> Result<Claims, TicketError> {
            let mut claims = self.claims.clone();
            edit(&mut claims);
            let text = self.signer.ticket(&claims);
            self.check(&text, true)
        }

        fn feed(&mut self, seq: u64, principal: String, at: u64) -> Result<(), TicketError> {
            let entries = vec![Revocation { principal, at }];
            let feed = Feed { org: self.claims.org, seq, issued: self.now.unix_ms, entries };
            let text = self.signer.feed(&feed);
            self.verifier.handle_feed(&text, self.now.instant).map(|_| ())
        }
    }

    #[test]
    fn bu_04_a_ticket_opens_once_and_only_what_it_names() {
        let mut bench = bench();
        let text = bench.signer.ticket(&bench.claims);
        assert_eq!(bench.check(&text, true), Ok(bench.claims.clone()));
        assert_eq!(bench.check(&text, true), Err(TicketError::Used));
        let other = Uuid::from_u128(77);
        assert_eq!(bench.check_edited(|claims| claims.aud = other), Err(TicketError::Audience));
        assert_eq!(bench.check_edited(|claims| claims.org = other), Err(TicketError::Audience));
        assert_eq!(bench.check_edited(|claims| claims.ses = other), Err(TicketError::Session));
        let now = bench.now.unix_ms;
        assert_eq!(bench.check_edited(|claims| claims.exp = now), Err(TicketError::Expired));
        assert_eq!(
            bench.check_edited(|claims| claims.exp = claims.iat + MINUTE + 1),
            Err(TicketError::Times)
        );
        assert_eq!(bench.check_edited(|claims| claims.exp = claims.iat - 1), Err(TicketError::Times));
        let future = now + MINUTE + 1;
        assert_eq!(
            bench.check_edited(|claims| (claims.iat, claims.exp) = (future, future + 1)),
            Err(TicketError::Times)
        );
    }

    #[test]
    fn bu_04_a_ticket_of_another_signer_or_of_another_kind_is_refused() {
        let mut bench = bench();
        let stranger = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
        let forged = stranger.ticket(&bench.claims);
        assert_eq!(bench.check(&forged, true), Err(TicketError::Signature));
        let resume = bench.signer.resume(&bench.claims);
        assert_eq!(bench.check(&resume, true), Err(TicketError::ResumeOnly));
        assert!(bench.check(&resume, false).is_ok());
        assert!(bench.check(&resume, false).is_ok(), "a resume capability is good many times");
        let renamed = resume.replacen(RESUME, TICKET, 1);
        assert_eq!(bench.check(&renamed, true), Err(TicketError::Signature));
        for text in ["", "rxt1", "rxt1.", "rxt1.!.", "rxt2.e30.e30", &"x".repeat(TICKET_MAX + 1)] {
            assert_eq!(bench.check(text, true), Err(TicketError::Malformed), "{text:.20}");
        }
    }

    #[test]
    fn bu_03_what_was_issued_before_a_revocation_is_void_and_what_comes_after_is_not() {
        let mut bench = bench();
        let (user, iat) = (bench.claims.usr, bench.claims.iat);
        let resume = bench.signer.resume(&bench.claims);
        bench.feed(1, format!("user:{user}"), iat).unwrap();
        assert_eq!(bench.check(&resume, false), Err(TicketError::Revoked));
        assert_eq!(bench.check_edited(|_| ()), Err(TicketError::Revoked));
        assert!(bench.check_edited(|claims| claims.iat = iat + 1).is_ok());
        assert_eq!(
            bench.feed(1, "user:x".into(), 0),
            Err(TicketError::OldFeed),
            "a replayed feed changes nothing"
        );
    }

    #[test]
    fn br_07_without_a_fresh_feed_nothing_opens_and_resumes_go_on() {
        let mut bench = bench();
        bench.now.instant += FEED_STALE + Duration::from_secs(1);
        let resume = bench.signer.resume(&bench.claims);
        assert_eq!(bench.check_edited(|_| ()), Err(TicketError::Stale));
        assert!(bench.check(&resume, false).is_ok());
        bench.feed(1, "user:x".into(), 0).unwrap();
        assert!(bench.check_edited(|_| ()).is_ok());
    }

    #[test]
    fn the_replay_cache_forgets_only_what_has_expired_and_refuses_when_full() {
        let mut cache = ReplayCache::default();
        for n in 0..REPLAY_MAX as u128 {
            cache.admit(Uuid::from_u128(n), MINUTE, 0).unwrap();
        }
        assert_eq!(cache.admit(Uuid::from_u128(u128::MAX), MINUTE, 0), Err(TicketError::Full));
        assert_eq!(cache.admit(Uuid::from_u128(1), MINUTE, MINUTE), Err(TicketError::Used));
        assert_eq!(cache.admit(Uuid::from_u128(1), 5 * MINUTE, 3 * MINUTE), Ok(()));
    }

    proptest! {
        #[test]
        fn bu_04_no_single_changed_byte_of_a_ticket_passes(position in any::<prop::sample::Index>(), replacement in any::<u8>()) {
            let mut bench = bench();
            let text = bench.signer.ticket(&bench.claims);
            let mut bytes = text.clone().into_bytes();
            let at = position.index(bytes.len());
            prop_assume!(bytes[at] != replacement);
            bytes[at] = replacement;
            if let Ok(altered) = String::from_utf8(bytes) {
                prop_assert!(bench.check(&altered, true).is_err());
            }
        }
    }
}
