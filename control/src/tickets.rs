//! What a ticket says: who, where, what, for how long. Pure; the handler brings caller, clock and key.
#![deny(clippy::disallowed_methods)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rexec_shared::limits::TICKET_LIFE;
use rexec_shared::ticket::{Actor, ActorKind, Capability, Claims, Signer};
use uuid::Uuid;

use crate::auth::signed_in::SignedIn;
use crate::entity::Role;
use crate::error::ApiError;
use crate::time::Timestamp;

/// What a viewer asks for; the machine is known to be the caller's.
#[derive(Debug)]
pub struct Wish {
    /// The machine.
    pub machine: Uuid,
    /// The session.
    pub session: Uuid,
    /// What to do there.
    pub capabilities: Vec<Capability>,
    /// base64url(sha256(public key)).
    pub key: String,
}

/// What it gets.
#[derive(Debug)]
pub struct Issued {
    /// Single use.
    pub ticket: String,
    /// For coming back.
    pub resume: String,
    /// What was granted of what was asked.
    pub capabilities: Vec<Capability>,
    /// End of the ticket.
    pub expires_at: Timestamp,
}

/// What a role can pass on: nobody gives away what they do not have (THREATS BU-14).
const fn ceiling(role: Role) -> &'static [Capability] {
    use Capability::{Exec, FilesRead, FilesWrite, Forward, Terminal, View};
    match role {
        Role::Owner | Role::Admin | Role::Member => &[Terminal, Exec, FilesRead, FilesWrite, Forward, View],
        Role::Viewer => &[View],
    }
}

/// Signs a ticket and a resume capability for `wish`, with no more than the caller's role allows.
///
/// # Errors
/// When the key is no hash, nothing is asked for, or nothing of it is allowed.
pub fn issue(caller: &SignedIn, wish: &Wish, now: Timestamp, signer: &Signer) -> Result<Issued, ApiError> {
    if !is_hash(&wish.key) {
        return Err(ApiError::invalid(
            "key",
            "the key is base64url of the SHA-256 of the viewer's public key",
        ));
    }
    if wish.capabilities.is_empty() {
        return Err(ApiError::invalid("caps", "a ticket without capabilities is good for nothing"));
    }
    let capabilities = granted(caller.role, &wish.capabilities);
    if capabilities.is_empty() {
        return Err(ApiError::forbidden(
            "forbidden",
            "your role in this organisation allows none of these capabilities",
        ));
    }
    let expires_at = now.plus(TICKET_LIFE);
    let ticket = claims(caller, wish, capabilities.clone(), now, expires_at);
    let resume =
        Claims { jti: Uuid::new_v4(), exp: caller.login.born_to_end_at().unix_ms(), ..ticket.clone() };
    Ok(Issued { ticket: signer.ticket(&ticket), resume: signer.resume(&resume), capabilities, expires_at })
}

fn granted(role: Role, asked: &[Capability]) -> Vec<Capability> {
    ceiling(role).iter().copied().filter(|capability| asked.contains(capability)).collect()
}

fn claims(
    caller: &SignedIn,
    wish: &Wish,
    caps: Vec<Capability>,
    now: Timestamp,
    expires_at: Timestamp,
) -> Claims {
    Claims {
        jti: Uuid::new_v4(),
        aud: wish.machine,
        org: caller.organisation.id,
        usr: caller.person.id,
        lgn: caller.login.id,
        act: Actor { kind: ActorKind::Person, id: caller.person.id, name: caller.person.name.clone() },
        ses: wish.session,
        caps,
        cnf: wish.key.clone(),
        iat: now.unix_ms(),
        exp: expires_at.unix_ms(),
    }
}

fn is_hash(key: &str) -> bool {
    URL_SAFE_NO_PAD.decode(key).is_ok_and(|hash| hash.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Capability; 6] = [
        Capability::Terminal,
        Capability::Exec,
        Capability::FilesRead,
        Capability::FilesWrite,
        Capability::Forward,
        Capability::View,
    ];

    proptest! {
        #[test]
        fn bu_14_nothing_is_granted_beyond_the_role_or_the_wish(
            role in prop::sample::select(vec![Role::Owner, Role::Admin, Role::Member, Role::Viewer]),
            asked in prop::collection::vec(prop::sample::select(ALL.to_vec()), 0..12),
        ) {
            for capability in granted(role, &asked) {
                prop_assert!(ceiling(role).contains(&capability) && asked.contains(&capability));
            }
        }
    }

    #[test]
    fn a_viewer_gets_to_look_and_nothing_else() {
        assert_eq!(granted(Role::Viewer, &ALL), [Capability::View]);
        assert!(granted(Role::Viewer, &[Capability::Terminal]).is_empty());
        assert_eq!(
            granted(Role::Member, &[Capability::Terminal, Capability::Terminal]),
            [Capability::Terminal]
        );
    }

    #[test]
    fn only_a_hash_is_a_key() {
        assert!(is_hash(&"A".repeat(43)));
        for wrong in ["", "A", &"A".repeat(44), &"=".repeat(43)] {
            assert!(!is_hash(wrong), "{wrong}");
        }
    }
}
