//! Feeds: a revocation goes before everything else.

use rexec_control::entity::organisation;
use rexec_control::feed::{self, Feeds};
use rexec_shared::broker_link::ToBroker;
use sea_orm::{ActiveModelTrait as _, Set};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::harness::TestApp;

#[test]
fn bu_03_a_revocation_does_not_wait_for_the_feeds_of_everybody_else() {
    let app = TestApp::on_sqlite();
    let now = app.app().now();
    let all: Vec<Uuid> = (0..100).map(|_| Uuid::now_v7()).collect();
    app.block_on(async {
        for id in &all {
            let row =
                organisation::ActiveModel { id: Set(*id), name: Set(String::new()), created_at: Set(now) };
            row.insert(app.app().db()).await.expect("made");
        }
        // A broker that takes one message at a time, so that a round is under way when the order comes.
        let (to_broker, mut broker) = mpsc::channel(1);
        let (feeds, orders) = Feeds::new();
        let signing = tokio::spawn(feed::run(app.app().clone(), orders, to_broker));
        broker.recv().await.expect("the round has begun");
        let (last, machine) = (all[99], Uuid::new_v4());
        let order = tokio::spawn(async move { feeds.cut_off(last, machine).await });
        // What stood in the way already: one in the channel, one being sent, and whatever the order took to come in.
        while !order.is_finished() {
            match broker.recv().await.expect("a message") {
                ToBroker::Feed { .. } => tokio::task::yield_now().await,
                ToBroker::Disconnect { machine: cut, .. } => {
                    assert_eq!(cut, machine);
                    break;
                }
            }
        }
        let mut left = 0;
        while let Ok(Some(_)) =
            tokio::time::timeout(std::time::Duration::from_millis(500), broker.recv()).await
        {
            left += 1;
        }
        assert!(left > 50, "the round went on after the revocation, not before: {left} were left");
        signing.abort();
    });
}
