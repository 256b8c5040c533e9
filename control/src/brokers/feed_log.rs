//! The newest feed of each organisation, in the order in which they were signed. Pure.
#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use uuid::Uuid;

/// Feeds given out at once.
const BATCH: usize = 256;

/// Newest feeds, numbered by versions of this process: whoever knows the version up to which it has been told learns what is newer.
#[derive(Debug, Default)]
pub(super) struct FeedLog {
    last: u64,
    versions: HashMap<Uuid, u64>,
    feeds: BTreeMap<u64, (Uuid, Arc<str>)>,
}

impl FeedLog {
    /// A newer feed of `org`; the version it has.
    pub(super) fn push(&mut self, org: Uuid, token: Arc<str>) -> u64 {
        self.last += 1;
        if let Some(older) = self.versions.insert(org, self.last) {
            self.feeds.remove(&older);
        }
        self.feeds.insert(self.last, (org, token));
        self.last
    }

    /// The first feeds after `version`, with their versions.
    pub(super) fn after(&self, version: u64) -> Vec<(u64, Uuid, Arc<str>)> {
        self.feeds
            .range((Bound::Excluded(version), Bound::Unbounded))
            .take(BATCH)
            .map(|(version, (org, token))| (*version, *org, Arc::clone(token)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whoever_asks_now_and_then_ends_with_the_newest_of_each(
            steps in prop::collection::vec((0u128..5, any::<bool>()), 0..300),
        ) {
            let (mut log, mut told, mut known, mut truth) = (FeedLog::default(), 0, HashMap::new(), HashMap::new());
            let mut n = 0;
            let mut ask = |log: &FeedLog| {
                for (version, org, token) in log.after(told) {
                    assert!(version > told);
                    told = version;
                    known.insert(org, token);
                }
            };
            for (org, asks) in steps {
                n += 1;
                let (org, token): (Uuid, Arc<str>) = (Uuid::from_u128(org), n.to_string().into());
                log.push(org, Arc::clone(&token));
                truth.insert(org, token);
                if asks { ask(&log); }
            }
            ask(&log);
            prop_assert_eq!(known, truth);
            prop_assert!(log.feeds.len() <= 5, "older ones are forgotten");
        }
    }
}
