//! The brokers of the installation: the embedded one, and those that stand alone and hold a [`link`] to control.
//!
//! Who they are is in the database ([`rows`]); who is there now, only here. Feeds are a level and not a queue: each link is told the newest
//! of every organisation when it begins, and afterwards whatever has become newer ([`feed_log`]), so a slow one costs nobody anything and
//! misses nothing. Orders to close a tunnel are queued, and a link that takes none any more is cut: it is told everything when it is back.

mod feed_log;
pub mod link;
pub mod rows;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::seq::SliceRandom as _;
use rexec_shared::broker_link::ToBroker;
use rexec_shared::close::CloseCode;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::feed_log::FeedLog;
use crate::app::App;
use crate::entity::broker;

/// Orders that may wait for one link: each is a machine that moved or was removed.
const ORDERS_MAX: usize = 1_024;
/// How often the database is asked which brokers there are: one that was removed is cut off within this time.
const LOOK: Duration = Duration::from_secs(2);
/// Where viewers knock, below a broker's origin.
pub const VIEWER_PATH: &str = "/viewer";

/// The embedded broker.
#[derive(Debug)]
pub struct Embedded {
    /// What agents dial, as `host:port`.
    pub tunnel_addr: String,
    /// Where its orders go.
    pub orders: mpsc::Sender<ToBroker>,
}

/// What is known of all brokers.
#[derive(Debug)]
pub struct Brokers {
    embedded: Option<Embedded>,
    state: Mutex<State>,
    /// Version of the newest feed.
    feeds: watch::Sender<u64>,
    /// Links that stand.
    live: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<Uuid, Known>,
    links: BTreeMap<Uuid, Standing>,
    last_generation: u64,
    feeds: FeedLog,
}

/// A broker that stands alone, as the database knows it.
#[derive(Debug, Clone)]
struct Known {
    viewer_url: Option<String>,
    tunnel_addr: Option<String>,
}

/// A link that stands.
#[derive(Debug)]
struct Standing {
    generation: u64,
    orders: mpsc::Sender<ToBroker>,
    cut: CancellationToken,
}

/// A link's end of the hub.
#[derive(Debug)]
struct Joined {
    generation: u64,
    orders: mpsc::Receiver<ToBroker>,
    /// Cancelled when the link must end: another took its place, the broker was removed, or it took no orders.
    cut: CancellationToken,
    feeds: watch::Receiver<u64>,
    live: watch::Receiver<usize>,
}

impl Brokers {
    /// The embedded broker, if there is one, and nobody else yet.
    pub fn new(embedded: Option<Embedded>) -> Self {
        Self { embedded, state: Mutex::default(), feeds: watch::Sender::new(0), live: watch::Sender::new(0) }
    }

    /// Links that stand.
    pub fn linked(&self) -> usize {
        *self.live.borrow()
    }

    /// What agents dial to reach the embedded broker.
    pub fn embedded_addr(&self) -> Option<&str> {
        self.embedded.as_ref().map(|embedded| embedded.tunnel_addr.as_str())
    }

    /// What agents may dial, in an order drawn by lot: brokers that are there; if none is, all that are known.
    pub fn tunnel_addrs(&self) -> Vec<String> {
        let state = self.lock();
        let live = state.known.iter().filter(|(id, _)| state.links.contains_key(id));
        let embedded = self.embedded.iter().map(|embedded| embedded.tunnel_addr.clone());
        let mut addrs: Vec<String> =
            live.filter_map(|(_, known)| known.tunnel_addr.clone()).chain(embedded).collect();
        if addrs.is_empty() {
            addrs = state.known.values().filter_map(|known| known.tunnel_addr.clone()).collect();
        }
        addrs.shuffle(&mut rand::rng());
        addrs
    }

    /// Where viewers find a machine: at the broker that has its tunnel. One that is offline is waited for at its last broker if that is
    /// there, else at any. A path stands for the embedded broker. None when there is no broker at all.
    pub fn viewer_url(&self, broker: Option<Uuid>, is_online: bool) -> Option<String> {
        let state = self.lock();
        let url = |id: &Uuid| Some(format!("{}{VIEWER_PATH}", state.known.get(id)?.viewer_url.as_ref()?));
        let embedded = || self.embedded.is_some().then(|| VIEWER_PATH.to_owned());
        match broker {
            Some(id) if is_online || state.links.contains_key(&id) => url(&id),
            None if self.embedded.is_some() => embedded(),
            Some(_) | None => None,
        }
        .or_else(embedded)
        .or_else(|| state.links.keys().find_map(url))
        .or_else(|| state.known.keys().find_map(url))
    }

    /// Where viewers may look for a machine while control cannot be asked: `first`, then all brokers that are there.
    pub fn viewer_urls(&self, first: &str) -> Vec<String> {
        let state = self.lock();
        let url = |id: &Uuid| Some(format!("{}{VIEWER_PATH}", state.known.get(id)?.viewer_url.as_ref()?));
        let embedded = self.embedded.is_some().then(|| VIEWER_PATH.to_owned());
        let others = state.links.keys().filter_map(url).chain(embedded).filter(|url| url != first);
        std::iter::once(first.to_owned()).chain(others).collect()
    }

    /// Origins that pages of the web app talk to, besides their own.
    pub fn viewer_origins(&self) -> Vec<String> {
        self.lock().known.values().filter_map(|known| known.viewer_url.clone()).collect()
    }

    /// Brokers that agents of `id` may go to.
    fn others(&self, id: Uuid) -> u32 {
        let state = self.lock();
        let links = state.links.keys().filter(|other| **other != id).count();
        u32::try_from(links + usize::from(self.embedded.is_some())).unwrap_or(u32::MAX)
    }

    /// Tells all brokers.
    pub async fn tell(&self, order: ToBroker) {
        match &order {
            ToBroker::Feed { org, token } => {
                let version = self.lock().feeds.push(*org, token.as_str().into());
                self.feeds.send_replace(version);
            }
            ToBroker::Disconnect { .. } => {
                self.lock().links.values().for_each(|link| link.order(order.clone()));
            }
        }
        self.tell_embedded(order).await;
    }

    /// Has one broker close its tunnel of a machine, unless it has a newer one than `up_to`.
    pub async fn disconnect(&self, broker: Option<Uuid>, machine: Uuid, code: CloseCode, up_to: u64) {
        let order = ToBroker::Disconnect { machine, code, up_to: Some(up_to) };
        match broker {
            None => self.tell_embedded(order).await,
            Some(id) => {
                if let Some(link) = self.lock().links.get(&id) {
                    link.order(order);
                }
            }
        }
    }

    async fn tell_embedded(&self, order: ToBroker) {
        if let Some(embedded) = &self.embedded
            && embedded.orders.send(order).await.is_err()
        {
            tracing::error!("the embedded broker has stopped listening");
        }
    }

    /// Learns which brokers there are; links of all others are cut.
    pub fn learn(&self, rows: Vec<broker::Model>) {
        let mut state = self.lock();
        let State { known, links, .. } = &mut *state;
        let mut before = std::mem::take(known);
        for row in rows {
            // One that is linked has said itself where it is, perhaps after the rows were read.
            let told = before.remove(&row.id).filter(|_| links.contains_key(&row.id));
            let written = Known { viewer_url: row.viewer_url, tunnel_addr: row.tunnel_addr };
            known.insert(row.id, told.unwrap_or(written));
        }
        for (_, link) in links.iter().filter(|(id, _)| !known.contains_key(id)) {
            link.cut.cancel();
        }
    }

    /// Whether the broker was removed.
    fn is_removed(&self, id: Uuid) -> bool {
        !self.lock().known.contains_key(&id)
    }

    /// A link of `id` begins; an older one of the same broker ends.
    fn join(&self, id: Uuid, viewer_url: String, tunnel_addr: String) -> Joined {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let cut = CancellationToken::new();
        let mut state = self.lock();
        state.last_generation += 1;
        let generation = state.last_generation;
        state.known.insert(id, Known { viewer_url: Some(viewer_url), tunnel_addr: Some(tunnel_addr) });
        let standing = Standing { generation, orders, cut: cut.clone() };
        if let Some(older) = state.links.insert(id, standing) {
            tracing::warn!(broker = %id, "a newer link of the same broker takes the place of the older");
            older.cut.cancel();
        }
        let links = state.links.len();
        drop(state);
        self.live.send_replace(links);
        let (feeds, live) = (self.feeds.subscribe(), self.live.subscribe());
        Joined { generation, orders: receiver, cut, feeds, live }
    }

    /// A link has ended; whether the broker has none now.
    fn leave(&self, id: Uuid, generation: u64) -> bool {
        let mut state = self.lock();
        let was_last = state.links.get(&id).is_some_and(|link| link.generation == generation);
        if was_last {
            state.links.remove(&id);
        }
        let links = state.links.len();
        drop(state);
        self.live.send_replace(links);
        was_last
    }

    fn is_linked(&self, id: Uuid) -> bool {
        self.lock().links.contains_key(&id)
    }

    /// Some feeds that are newer than `version`, oldest first.
    fn feeds_after(&self, version: u64) -> Vec<(u64, Uuid, Arc<str>)> {
        self.lock().feeds.after(version)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// A link that takes no orders is of no use: its broker comes again, and is told everything.
    fn order(&self, order: ToBroker) {
        if self.orders.try_send(order).is_err() {
            self.cut.cancel();
        }
    }
}

/// Passes on what is for all brokers, until the process ends.
pub async fn distribute(app: App, mut orders: mpsc::Receiver<ToBroker>) {
    while let Some(order) = orders.recv().await {
        app.parts().brokers.tell(order).await;
    }
}

/// Keeps up with the database until the process ends: brokers are added and removed beside this process.
pub async fn keep_up(app: App) {
    let ending = app.parts().ending.clone();
    let mut round = tokio::time::interval(LOOK);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ending.cancelled() => return,
            _ = round.tick() => {}
        }
        match rows::all(app.db()).await {
            Ok(rows) => app.parts().brokers.learn(rows),
            Err(error) => tracing::error!(%error, "the brokers could not be looked up; it is tried again"),
        }
        if let Some(embedded) = &app.parts().broker {
            embedded.beside_others(app.parts().brokers.linked() > 0).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u128, url: &str) -> broker::Model {
        broker::Model {
            id: Uuid::from_u128(id),
            name: format!("b{id}"),
            token_mac: String::new(),
            viewer_url: Some(url.to_owned()),
            tunnel_addr: Some(format!("{id}.example:7443")),
            version: None,
            certificate_until: None,
            created_at: crate::time::Timestamp(0),
            last_seen_at: None,
            revoked_at: None,
        }
    }

    fn join(brokers: &Brokers, id: u128) -> Joined {
        brokers.join(Uuid::from_u128(id), format!("https://{id}.example"), format!("{id}.example:7443"))
    }

    fn embedded() -> (Embedded, mpsc::Receiver<ToBroker>) {
        let (orders, receiver) = mpsc::channel(8);
        (Embedded { tunnel_addr: "here:7443".to_owned(), orders }, receiver)
    }

    #[test]
    fn viewers_are_sent_to_the_broker_that_has_the_machine_and_never_nowhere_while_one_is_known() {
        let [a, b] = [1, 2].map(Uuid::from_u128);
        let alone = Brokers::new(None);
        assert_eq!(alone.viewer_url(None, false), None, "there is no broker");
        alone.learn(vec![row(1, "https://1.example"), row(2, "https://2.example")]);
        assert_eq!(alone.viewer_url(Some(a), false).as_deref(), Some("https://1.example/viewer"));
        let _b = join(&alone, 2);
        assert_eq!(alone.viewer_url(Some(a), false).as_deref(), Some("https://2.example/viewer"));
        assert_eq!(alone.viewer_url(Some(a), true).as_deref(), Some("https://1.example/viewer"));
        assert_eq!(alone.viewer_url(Some(b), true).as_deref(), Some("https://2.example/viewer"));
        let (embedded, _orders) = embedded();
        let both = Brokers::new(Some(embedded));
        both.learn(vec![row(1, "https://1.example")]);
        assert_eq!(both.viewer_url(None, true).as_deref(), Some("/viewer"));
        assert_eq!(both.viewer_url(Some(a), true).as_deref(), Some("https://1.example/viewer"));
        assert_eq!(both.viewer_url(Some(a), false).as_deref(), Some("/viewer"), "it is not there");
    }

    #[test]
    fn agents_are_given_the_brokers_that_are_there() {
        let (embedded, _orders) = embedded();
        let brokers = Brokers::new(Some(embedded));
        brokers.learn(vec![row(1, "https://1.example"), row(2, "https://2.example")]);
        assert_eq!(brokers.tunnel_addrs(), ["here:7443"]);
        let joined = join(&brokers, 2);
        let mut addrs = brokers.tunnel_addrs();
        addrs.sort();
        assert_eq!(addrs, ["2.example:7443", "here:7443"]);
        assert_eq!((brokers.others(Uuid::from_u128(2)), brokers.others(Uuid::from_u128(1))), (1, 2));
        assert!(brokers.leave(Uuid::from_u128(2), joined.generation));
        assert_eq!(brokers.tunnel_addrs(), ["here:7443"]);
        let none = Brokers::new(None);
        none.learn(vec![row(1, "https://1.example")]);
        assert_eq!(none.tunnel_addrs(), ["1.example:7443"], "better one that is away than none");
    }

    #[test]
    fn a_link_ends_when_another_takes_its_place_when_its_broker_is_removed_and_when_it_takes_no_orders() {
        let brokers = Brokers::new(None);
        brokers.learn(vec![row(1, "https://1.example")]);
        let older = join(&brokers, 1);
        let newer = join(&brokers, 1);
        assert!(older.cut.is_cancelled() && !newer.cut.is_cancelled());
        assert!(!brokers.leave(Uuid::from_u128(1), older.generation), "the newer stands");
        brokers.learn(Vec::new());
        assert!(newer.cut.is_cancelled() && brokers.is_removed(Uuid::from_u128(1)));

        brokers.learn(vec![row(1, "https://1.example")]);
        let stuck = join(&brokers, 1);
        let order = ToBroker::Disconnect { machine: Uuid::nil(), code: CloseCode::Revoked, up_to: Some(1) };
        (0..ORDERS_MAX)
            .for_each(|_| brokers.lock().links.values().for_each(|link| link.order(order.clone())));
        assert!(!stuck.cut.is_cancelled());
        brokers.lock().links.values().for_each(|link| link.order(order.clone()));
        assert!(stuck.cut.is_cancelled());
    }
}
