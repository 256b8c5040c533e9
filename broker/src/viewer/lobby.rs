//! Who is counted by where it comes from: viewers that have not shown a ticket yet, each until its first frame or its deadline, and browsers'
//! connections over WebTransport. One address may hold only a share of the places, so that it never locks out the rest.
#![deny(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::{
    VIEWERS_PENDING_LOOPBACK, VIEWERS_PENDING_MAX, VIEWERS_PENDING_PER_PREFIX, VIEWERS_TOTAL_MAX,
    WEB_PER_PREFIX,
};
use crate::prefix;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// In the whole lobby.
    All,
    /// For this address.
    Prefix,
}

/// How many places there are.
#[derive(Debug, Clone, Copy)]
struct Places {
    all: usize,
    /// For one /32 or /64.
    per_prefix: usize,
    /// For this very machine, and for those whose origin whoever serves the routes does not tell.
    loopback: usize,
}

/// The counts, without a lock.
#[derive(Debug)]
struct Counts {
    places: Places,
    total: usize,
    prefixes: HashMap<Option<IpAddr>, usize>,
}

impl Counts {
    fn enter(&mut self, from: Option<IpAddr>) -> Result<(), Full> {
        if self.total >= self.places.all {
            return Err(Full::All);
        }
        let share = self.places.share(from);
        let count = self.prefixes.entry(from).or_default();
        if *count >= share {
            return Err(Full::Prefix);
        }
        *count += 1;
        self.total += 1;
        Ok(())
    }

    fn leave(&mut self, from: Option<IpAddr>) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.prefixes.get_mut(&from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.prefixes.remove(&from);
            }
        }
    }
}

impl Places {
    fn share(self, from: Option<IpAddr>) -> usize {
        if from.is_none_or(|address| address.is_loopback()) { self.loopback } else { self.per_prefix }
    }
}

/// The lobby of one broker.
#[derive(Debug, Clone)]
pub(super) struct Lobby(Arc<Mutex<Counts>>);

/// A place in it; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    lobby: Lobby,
    from: Option<IpAddr>,
}

impl Lobby {
    /// For viewers that have not shown a ticket.
    pub(super) fn of_pending() -> Self {
        Self::new(Places {
            all: VIEWERS_PENDING_MAX,
            per_prefix: VIEWERS_PENDING_PER_PREFIX,
            loopback: VIEWERS_PENDING_LOOPBACK,
        })
    }

    /// For connections that stand.
    pub(super) fn of_standing() -> Self {
        Self::new(Places { all: VIEWERS_TOTAL_MAX, per_prefix: WEB_PER_PREFIX, loopback: VIEWERS_TOTAL_MAX })
    }

    fn new(places: Places) -> Self {
        Self(Arc::new(Mutex::new(Counts { places, total: 0, prefixes: HashMap::new() })))
    }

    /// Takes a place for a viewer from `address`, an address with or without a port.
    pub(super) fn enter(&self, address: &str) -> Result<Place, Full> {
        let from = origin(address);
        self.with(|counts| counts.enter(from))?;
        Ok(Place { lobby: self.clone(), from })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.with(|counts| counts.leave(self.from));
    }
}

fn origin(address: &str) -> Option<IpAddr> {
    let ip = address.parse::<IpAddr>().ok();
    ip.or_else(|| address.parse::<SocketAddr>().ok().map(|address| address.ip())).map(prefix::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(lobby: &Lobby, address: &str) -> (Vec<Place>, Full) {
        let mut places = Vec::new();
        loop {
            match lobby.enter(address) {
                Ok(place) => places.push(place),
                Err(full) => return (places, full),
            }
        }
    }

    #[test]
    fn one_address_holds_its_share_and_locks_nobody_out() {
        let lobby = Lobby::of_pending();
        let (held, full) = fill(&lobby, "192.0.2.1:5000");
        assert_eq!((held.len(), full), (VIEWERS_PENDING_PER_PREFIX, Full::Prefix));
        assert_eq!(lobby.enter("192.0.2.1").err(), Some(Full::Prefix), "with or without a port");
        let _neighbour = lobby.enter("192.0.2.2:5000").unwrap();
        let (network, _) = fill(&lobby, "[2001:db8::1]:5000");
        assert_eq!(lobby.enter("2001:db8::ffff").err(), Some(Full::Prefix), "one network counts together");
        drop((held, network));
        assert_eq!(lobby.enter("192.0.2.1").err(), None);
    }

    #[test]
    fn a_proxy_on_this_machine_may_bring_nearly_everybody() {
        let lobby = Lobby::of_pending();
        let (held, _) = fill(&lobby, "127.0.0.1:5000");
        assert_eq!(held.len(), VIEWERS_PENDING_LOOPBACK);
        let _other = lobby.enter("192.0.2.1:5000").unwrap();
    }

    #[test]
    fn the_lobby_is_bounded_and_leaves_nothing_behind() {
        let lobby = Lobby::of_pending();
        let places: Vec<Place> = (0..10_000u32)
            .filter_map(|n| lobby.enter(&std::net::Ipv4Addr::from(n).to_string()).ok())
            .collect();
        assert_eq!(places.len(), VIEWERS_PENDING_MAX);
        assert_eq!(lobby.enter("192.0.2.1").err(), Some(Full::All));
        drop(places);
        lobby.with(|counts| assert!(counts.total == 0 && counts.prefixes.is_empty()));
    }
}
