//! Revocation feeds: signed for every organisation at each interval and at each change, handed to the broker, which passes
//! them on unread to the organisation's agents.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rexec_shared::broker_link::ToBroker;
use rexec_shared::close::CloseCode;
use rexec_shared::ticket::Feed;
use sea_orm::{DbErr, EntityTrait as _, QuerySelect as _};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::app::App;
use crate::entity::organisation;
use crate::revocation;
use crate::scope::Scope;

/// Orders waiting for the task that signs: each is one click of somebody.
const QUEUE: usize = 256;
/// How long a click waits for the broker to be told; the next interval tells it again.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// A handle to the task that signs feeds.
#[derive(Debug, Clone)]
pub struct Feeds {
    orders: mpsc::Sender<Order>,
}

/// Something the broker must know.
#[derive(Debug)]
struct Order {
    organisation: Uuid,
    wish: Wish,
    done: oneshot::Sender<()>,
}

/// What of an organisation the broker must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// A feed, be it an older one of this run.
    Known,
    /// What was revoked just now.
    News,
    /// That, and that this machine's tunnel is cut.
    CutOff(Uuid),
}

/// The task's end of [`Feeds`].
#[derive(Debug)]
pub struct FeedOrders(mpsc::Receiver<Order>);

impl Feeds {
    /// A handle, and what [`run`] needs.
    pub fn new() -> (Self, FeedOrders) {
        let (orders, receiver) = mpsc::channel(QUEUE);
        (Self { orders }, FeedOrders(receiver))
    }

    /// The revocations of `organisation` changed: the broker has the new feed when this returns, or soon after.
    pub async fn changed(&self, organisation: Uuid) {
        self.order(organisation, Wish::News).await;
    }

    /// `organisation` has a machine: the broker has a feed of it when this returns, or soon after. One that was told in this run is told
    /// nothing: a fleet that enrols is no news to those that stand.
    pub async fn introduce(&self, organisation: Uuid) {
        self.order(organisation, Wish::Known).await;
    }

    /// `machine` was removed: as [`Feeds::changed`], and its tunnel is cut.
    pub async fn cut_off(&self, organisation: Uuid, machine: Uuid) {
        self.order(organisation, Wish::CutOff(machine)).await;
    }

    /// Whether the task that signs is there.
    pub fn is_running(&self) -> bool {
        !self.orders.is_closed()
    }

    async fn order(&self, organisation: Uuid, wish: Wish) {
        let (done, told) = oneshot::channel();
        let telling = async {
            self.orders.send(Order { organisation, wish, done }).await.ok()?;
            told.await.ok()
        };
        if !matches!(tokio::time::timeout(TELL_WITHIN, telling).await, Ok(Some(()))) {
            tracing::warn!(%organisation, "the broker could not be told of a revocation at once; the next feed tells it");
        }
    }
}

/// Signs feeds until the process ends. A round through all organisations is made one at a time, so that a revocation waits for one
/// signature at most. `broker` takes what is to be told.
pub async fn run(app: App, FeedOrders(mut orders): FeedOrders, broker: mpsc::Sender<ToBroker>) {
    let mut signing = Signing { app, broker, last_seq: 0, told: BTreeSet::new(), round: VecDeque::new() };
    let ending = signing.app.parts().ending.clone();
    let mut interval = tokio::time::interval(rexec_shared::limits::FEED_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = ending.cancelled() => return,
            Some(order) = orders.recv() => signing.obey(order).await,
            _ = interval.tick() => signing.begin_round().await,
            () = std::future::ready(()), if !signing.round.is_empty() => signing.go_on().await,
        }
    }
}

struct Signing {
    app: App,
    broker: mpsc::Sender<ToBroker>,
    /// Feeds are numbered by the clock, so that numbers go on growing after a restart, and never stand still.
    last_seq: u64,
    /// Organisations that the broker has had a feed of: as many as there are, and no more.
    told: BTreeSet<Uuid>,
    /// Organisations whose turn is yet to come in this round.
    round: VecDeque<Uuid>,
}

impl Signing {
    async fn obey(&mut self, order: Order) {
        if order.wish != Wish::Known || !self.told.contains(&order.organisation) {
            self.one(order.organisation).await;
        }
        if let Wish::CutOff(machine) = order.wish {
            let code = CloseCode::Revoked;
            self.tell(ToBroker::Disconnect { machine, code, up_to: None }).await;
        }
        // Whoever asked may have gone.
        let _ = order.done.send(());
    }

    /// Begins a round, unless the last is still going: then the interval is too short for so many, and nobody may be left out.
    async fn begin_round(&mut self) {
        if !self.round.is_empty() {
            tracing::warn!(
                left = self.round.len(),
                "feeds take longer to sign than the interval between them"
            );
            return;
        }
        let organisations = organisation::Entity::find()
            .select_only()
            .column(organisation::Column::Id)
            .into_tuple::<Uuid>()
            .all(self.app.db())
            .await;
        match organisations {
            Ok(organisations) => self.round = organisations.into(),
            Err(error) => tracing::error!(%error, "feeds could not be signed"),
        }
    }

    async fn go_on(&mut self) {
        if let Some(organisation) = self.round.pop_front() {
            self.one(organisation).await;
        }
    }

    async fn one(&mut self, organisation: Uuid) {
        match self.sign(organisation).await {
            Ok(token) => {
                self.tell(ToBroker::Feed { org: organisation, token }).await;
                self.told.insert(organisation);
            }
            Err(error) => tracing::error!(%organisation, %error, "a feed could not be signed"),
        }
    }

    async fn sign(&mut self, organisation: Uuid) -> Result<String, DbErr> {
        let now = self.app.now();
        let entries = revocation::in_force(self.app.db(), Scope::of(organisation), now).await?;
        self.last_seq = now.unix_ms().max(self.last_seq.saturating_add(1));
        let feed = Feed { org: organisation, seq: self.last_seq, issued: now.unix_ms(), entries };
        Ok(self.app.parts().keys.signer.feed(&feed))
    }

    async fn tell(&self, message: ToBroker) {
        if self.broker.send(message).await.is_err() {
            tracing::error!("the broker has stopped listening");
        }
    }
}
