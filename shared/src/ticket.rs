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

/// What was issued to a principal is void: all of it, whenever issued, for a login or a machine, neither of which ever comes
/// back; what was issued at or before `at` for a user or a whole organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// `login:<id>`, `machine:<id>`, `user:<id>` or `org:<id>`.
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

/// The newest feed of an organisation, when it was signed and when it came.
#[derive(Debug, Clone)]
pub struct FeedState {
    seq: u64,
    /// Unix milliseconds, control's clock; none before the first feed.
    issued: Option<u64>,
    received: Instant,
    revoked: HashMap<String, u64>,
}

impl FeedState {
    /// No feed yet; the age counts from `now`, so that a verifier just started has the grace of a stale feed.
    pub fn starting(now: Instant) -> Self {
        Self { seq: 0, issued: None, received: now, revoked: HashMap::new() }
    }

    /// Whether these claims are void: their login or machine is revoked, or their user or organisation was at or after their `iat`.
    pub fn is_revoked(&self, claims: &Claims) -> bool {
        let at = |kind: &str, id: Uuid| self.revoked.get(&format!("{kind}:{id}"));
        let for_good = [("login", claims.lgn), ("machine", claims.aud)];
        let until_then = [("user", claims.usr), ("org", claims.org)];
        for_good.iter().any(|(kind, id)| at(kind, *id).is_some())
            || until_then.iter().any(|(kind, id)| at(kind, *id).is_some_and(|at| claims.iat <= *at))
    }

    /// Whether this machine itself is revoked.
    pub fn machine_revoked(&self, machine: Uuid) -> bool {
        self.revoked.contains_key(&format!("machine:{machine}"))
    }

    /// Whether nothing new may be opened: the feed came too long ago, or was signed too long ago, however late whoever carried it let it go on. The two clocks
    /// may differ by [`CLOCK_SKEW`].
    pub fn is_stale(&self, now: Now) -> bool {
        let oldest = now.unix_ms.saturating_sub((FEED_STALE + CLOCK_SKEW).as_millis() as u64);
        self.issued.is_some_and(|issued| issued < oldest)
            || now.instant.saturating_duration_since(self.received) > FEED_STALE
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

    /// Takes a feed that is newer than the one in force. One that was long on its way still revokes, and does not make what it says fresh:
    /// see [`FeedState::is_stale`] (THREATS BR-07).
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
        self.feed = FeedState { seq: feed.seq, issued: Some(feed.issued), received: now, revoked };
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
                if self.feed.is_stale(now) {
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
            self.feed_issued(self.now.unix_ms, seq, principal, at)
        }

        fn feed_issued(
            &mut self,
            issued: u64,
            seq: u64,
            principal: String,
            at: u64,
        ) -> Result<(), TicketError> {
            let entries = vec![Revocation { principal, at }];
            let feed = Feed { org: self.claims.org, seq, issued, entries };
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
    fn bu_03_a_user_or_an_organisation_is_void_up_to_a_moment_a_login_or_a_machine_for_good() {
        let Claims { usr, lgn, aud, org, iat, .. } = bench().claims;
        for (principal, for_good) in [
            (format!("user:{usr}"), false),
            (format!("org:{org}"), false),
            (format!("login:{lgn}"), true),
            (format!("machine:{aud}"), true),
        ] {
            let mut bench = bench();
            bench.feed(1, principal.clone(), iat).unwrap();
            let before = bench.check_edited(|claims| claims.iat = iat);
            assert_eq!(before, Err(TicketError::Revoked), "{principal}");
            let after = bench.check_edited(|claims| claims.iat = iat + 1);
            assert_eq!(after.err(), for_good.then_some(TicketError::Revoked), "{principal}");
        }
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
    fn br_07_a_feed_that_was_withheld_makes_nothing_fresh_and_still_revokes() {
        let limit = (FEED_STALE + CLOCK_SKEW).as_millis() as u64;
        for (age, opens) in [(0, true), (limit, true), (limit + 1, false), (100 * limit, false)] {
            let mut bench = bench();
            let (issued, user, iat) = (bench.now.unix_ms - age, bench.claims.usr, bench.claims.iat);
            bench.feed_issued(issued, 1, "user:x".into(), 0).unwrap();
            let opened = bench.check_edited(|_| ());
            assert_eq!(opened.err(), (!opens).then_some(TicketError::Stale), "{age} ms old");
            bench.feed_issued(issued, 2, format!("user:{user}"), iat).unwrap();
            assert_eq!(bench.check_edited(|_| ()), Err(TicketError::Revoked), "{age} ms old");
        }
    }

    #[test]
    fn br_07_feeds_let_through_one_by_one_and_late_do_not_keep_a_verifier_open() {
        let mut bench = bench();
        let begin = bench.now.unix_ms;
        let mut opened_until = 0;
        for minute in 0..60 {
            bench.now.unix_ms = begin + minute * MINUTE;
            bench.now.instant += Duration::from_secs(60);
            // Each minute brings a feed, of a time that passes ten times slower.
            bench.feed_issued(begin + minute * MINUTE / 10, minute + 1, "user:x".into(), 0).unwrap();
            let now = bench.now.unix_ms;
            let opened = bench.check_edited(|claims| {
                (claims.jti, claims.iat, claims.exp) = (Uuid::from_u128(now.into()), now, now + MINUTE);
            });
            opened_until = if opened.is_ok() { minute } else { opened_until };
        }
        assert_eq!(opened_until, 6, "the first feed whose age exceeds five minutes and the skew ends it");
    }

    #[test]
    fn br_07_a_feed_signed_by_a_clock_ahead_is_stale_five_minutes_after_it_came() {
        let mut bench = bench();
        bench.feed_issued(bench.now.unix_ms + 100 * MINUTE, 1, "user:x".into(), 0).unwrap();
        assert!(bench.check_edited(|claims| claims.jti = Uuid::from_u128(10)).is_ok());
        bench.now.instant += FEED_STALE + Duration::from_secs(1);
        assert_eq!(bench.check_edited(|_| ()), Err(TicketError::Stale));
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

    /// What somebody may take for the principal `kind:id` and is not.
    fn lookalike(kind: &str, id: Uuid, other: Uuid, way: usize) -> String {
        let exact = format!("{kind}:{id}");
        match way {
            0 => exact.to_uppercase(),
            1 => format!("{kind}:{}", id.simple()),
            2 => format!("{kind}:{{{id}}}"),
            3 => format!("{kind}:urn:uuid:{id}"),
            4 => format!("{exact}\n"),
            5 => format!("{exact}\0"),
            6 => format!(" {exact}"),
            7 => format!("{exact},{kind}:{other}"),
            8 => format!("{kind}:{other},{exact}"),
            9 => format!("{kind}:*"),
            10 => format!("{kind}: {id}"),
            11 => format!("{kind}/{id}"),
            12 => exact[..exact.len() - 1].to_owned(),
            13 => format!("{kind}:{other}"),
            _ => id.to_string(),
        }
    }

    proptest! {
        /// Of all texts only the four that name these claims byte for byte revoke them (OpenSSH CVE-2026-35414).
        #[test]
        fn nw_06_a_principal_is_one_typed_identity_compared_byte_for_byte(
            ids in prop::array::uniform4(any::<u128>()), other in any::<u128>(), which in 0usize..4, way in 0usize..16, noise in any::<String>(),
        ) {
            prop_assume!(ids.iter().all(|id| *id != other));
            let [usr, lgn, aud, org] = ids.map(Uuid::from_u128);
            let mut bench = bench();
            bench.claims = Claims { usr, lgn, aud, org, ..bench.claims };
            let mut named = vec![("user", usr), ("login", lgn), ("machine", aud), ("org", org)];
            let (kind, id) = named.remove(which);
            let voids = |principal: String| {
                let revoked = HashMap::from([(principal, u64::MAX)]);
                FeedState { revoked, ..FeedState::starting(bench.now.instant) }.is_revoked(&bench.claims)
            };
            let (exact, prolonged) = (format!("{kind}:{id}"), format!("{kind}:{id}{noise}x"));
            prop_assert!(voids(exact));
            let alike = lookalike(kind, id, Uuid::from_u128(other), way);
            prop_assert!(!voids(alike.clone()), "{:?}", alike);
            prop_assert!(!voids(noise.clone()), "{:?}", noise);
            prop_assert!(!voids(prolonged));
            // The same id as another kind of principal is another principal.
            let misnamed = named.iter().filter(|(_, theirs)| *theirs != id).map(|(kind, _)| format!("{kind}:{id}"));
            prop_assert!(!misnamed.into_iter().any(voids));
        }

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
