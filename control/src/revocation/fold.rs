//! Which revocations are folded into fewer, wider ones when there are more than a feed holds. Pure.
#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Principal;
use crate::time::Timestamp;

/// A revocation in force.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its row.
    pub(super) row: Uuid,
    /// Whom it concerns.
    pub(super) principal: Principal,
    /// The person behind it, where there is one.
    pub(super) user: Option<Uuid>,
    /// The moment.
    pub(super) at: Timestamp,
    /// Until when it must be told.
    pub(super) until: Timestamp,
}

/// What takes the place of what.
#[derive(Debug, Default)]
pub(super) struct Folded {
    /// Rows that go.
    pub(super) removed: Vec<Uuid>,
    /// What comes for them: whom, the moment, until when.
    pub(super) added: Vec<(Principal, Timestamp, Timestamp)>,
}

impl Folded {
    fn replace(&mut self, entries: &[Entry], principal: Principal) {
        let newest = entries.iter().map(|entry| entry.at).max();
        let longest = entries.iter().map(|entry| entry.until).max();
        if let (Some(at), Some(until)) = (newest, longest) {
            self.removed.extend(entries.iter().map(|entry| entry.row));
            self.added.push((principal, at, until));
        }
    }
}

/// Folds until at most `most` are left, the user with most entries first, so that whoever ends logins by the hundred pays for it
/// alone. Where no user has two, all users become one entry of the organisation. Machines are never folded: no wider entry keeps a
/// machine from dialling.
pub(super) fn fold(entries: Vec<Entry>, organisation: Uuid, most: usize) -> Folded {
    let (mut folded, mut left) = (Folded::default(), entries.len());
    let mut by_user = BTreeMap::<Option<Uuid>, Vec<Entry>>::new();
    for entry in entries.into_iter().filter(|entry| !matches!(entry.principal, Principal::Machine(_))) {
        by_user.entry(entry.user).or_default().push(entry);
    }
    let mut alone = by_user.remove(&None).unwrap_or_default();
    while left > most {
        let crowd = by_user.iter().max_by_key(|(_, entries)| entries.len());
        let Some((Some(user), crowd)) = crowd.map(|(user, entries)| (*user, entries.len())) else { break };
        if crowd < 2 {
            break;
        }
        let entries = by_user.remove(&Some(user)).unwrap_or_default();
        folded.replace(&entries, Principal::User(user));
        left = left.saturating_sub(entries.len()).saturating_add(1);
    }
    if left > most {
        // Whatever stands for one user by now goes, too, the entries just made included.
        alone.extend(by_user.into_values().flatten());
        let made = std::mem::take(&mut folded.added);
        alone.extend(made.into_iter().map(|(principal, at, until)| Entry {
            row: Uuid::nil(),
            principal,
            user: None,
            at,
            until,
        }));
        folded.replace(&alone, Principal::Organisation(organisation));
        folded.removed.retain(|row| !row.is_nil());
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ORGANISATION: Uuid = Uuid::from_u128(1);

    fn at(ms: i64) -> Timestamp {
        Timestamp(ms)
    }

    /// The login number `n` of `user`, ended at `n`.
    fn ended(n: u128, user: u128) -> Entry {
        let when = at(i64::try_from(n).expect("a small number"));
        let principal = Principal::Login(Uuid::from_u128(1_000_000 + n));
        Entry {
            row: Uuid::from_u128(n + 1),
            principal,
            user: Some(Uuid::from_u128(user)),
            at: when,
            until: when,
        }
    }

    fn removed(n: u128) -> Entry {
        Entry { principal: Principal::Machine(Uuid::from_u128(n)), user: None, ..ended(n, 0) }
    }

    #[test]
    fn whoever_ends_most_logins_is_folded_alone() {
        let mut entries: Vec<Entry> = (10..30).map(|n| ended(n, 7)).collect();
        entries.extend([ended(1, 8), ended(2, 8), removed(3)]);
        let folded = fold(entries, ORGANISATION, 22);
        assert_eq!(folded.added, [(Principal::User(Uuid::from_u128(7)), at(29), at(29))]);
        assert_eq!(folded.removed.len(), 20);
    }

    #[test]
    fn where_no_user_has_two_the_organisation_is_void_up_to_the_newest() {
        let mut entries: Vec<Entry> = (1..30).map(|n| ended(n, n)).collect();
        entries.push(removed(99));
        let folded = fold(entries, ORGANISATION, 20);
        assert_eq!(folded.added, [(Principal::Organisation(ORGANISATION), at(29), at(29))]);
        assert_eq!(folded.removed.len(), 29, "the machine stays");
    }

    proptest! {
        #[test]
        fn bu_03_whatever_is_folded_what_was_void_stays_void(
            users in prop::collection::vec(0u128..6, 0..60), machines in 0u128..4, most in 5usize..40,
        ) {
            let mut entries: Vec<Entry> = users.iter().zip(1u128..).map(|(user, n)| ended(n, *user)).collect();
            entries.extend((100..100 + machines).map(removed));
            let folded = fold(entries.clone(), ORGANISATION, most);
            prop_assert!(entries.len() - folded.removed.len() + folded.added.len() <= most);
            for entry in entries.iter().filter(|entry| folded.removed.contains(&entry.row)) {
                let covered = folded.added.iter().any(|(principal, at, until)| {
                    let wide = match principal {
                        Principal::User(id) => entry.user == Some(*id),
                        Principal::Organisation(_) => true,
                        Principal::Login(_) | Principal::Machine(_) => false,
                    };
                    wide && *at >= entry.at && *until >= entry.until
                });
                prop_assert!(covered, "{entry:?}");
            }
        }
    }
}
