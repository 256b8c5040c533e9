//! Limits, approached by many at once (THREATS BU-09), and what happens when there is one too many.

use std::time::Duration;

use rexec_control::db;
use rexec_control::entity::{MachineKind, join_token, login, machine};
use rexec_control::limits::{DEVICE_WAITING_PER_NET, JOIN_TOKENS_MAX, LOGINS_PER_PERSON, MACHINES_MAX};
use rexec_control::revocation::{self, Principal};
use rexec_control::scope::Scope;
use rexec_control::time::Timestamp;
use sea_orm::{ColumnTrait as _, PaginatorTrait as _, QueryFilter as _};
use serde_json::json;
use uuid::Uuid;

use crate::harness::{Browser, PASSWORD, TestAgent, TestApp, with_facts};

/// Rows written in one statement.
const AT_ONCE: usize = 500;

fn login_row(org: Uuid, person: Uuid, seen: Timestamp, ended: Option<Timestamp>) -> login::ActiveModel {
    let id = Uuid::now_v7();
    login::Model {
        id,
        organisation_id: org,
        person_id: person,
        token_mac: id.to_string(),
        created_at: seen,
        last_seen_at: seen,
        user_agent: String::new(),
        ip: "192.0.2.1".to_owned(),
        net: "192.0.2.1".to_owned(),
        revoked_at: ended,
    }
    .into()
}

fn insert<A: sea_orm::ActiveModelTrait>(app: &TestApp, rows: Vec<A>) {
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let part: Vec<A> = rows.by_ref().take(AT_ONCE).collect();
        let part =
            <A::Entity as sea_orm::EntityTrait>::insert_many(part).exec_without_returning(app.app().db());
        app.block_on(part).expect("inserted");
    }
}

/// So many logins of `person` that have ended, each with its revocation.
pub(crate) fn end_logins(app: &TestApp, org: Uuid, person: Uuid, count: usize) {
    let now = app.app().now();
    let rows: Vec<login::ActiveModel> = (0..count).map(|_| login_row(org, person, now, Some(now))).collect();
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.clone().unwrap()).collect();
    insert(app, rows);
    app.block_on(async {
        let tx = db::write(app.app().db()).await.expect("a transaction");
        for id in ids {
            let until = revocation::longest(now);
            revocation::record(&tx, Scope::of(org), Principal::Login(id), now, until)
                .await
                .expect("recorded");
        }
        tx.commit().await.expect("committed");
    });
}

fn person_of(browser: &Browser<'_>) -> (Uuid, Uuid) {
    let me = browser.get("/api/me").expect(200).json();
    let id = |part: &str| me[part]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    (id("org"), id("user"))
}

/// How many of so many at once succeed.
fn at_once(count: usize, one: impl Fn(usize) -> u16 + Sync) -> usize {
    std::thread::scope(|scope| {
        let one = &one;
        let tries: Vec<_> = (0..count).map(|i| scope.spawn(move || one(i))).collect();
        tries.into_iter().map(|one| one.join().expect("answered")).filter(|status| *status == 201).count()
    })
}

on_both_databases! {
    fn bu_09_join_tokens_at_once_do_not_exceed_their_limit(app) {
        let ada = app.signed_in("ada@example.org");
        let (org, person) = person_of(&ada);
        let now = app.app().now();
        let rows = (0..JOIN_TOKENS_MAX - 3).map(|_| {
            let id = Uuid::now_v7();
            join_token::ActiveModel::from(join_token::Model {
                id,
                organisation_id: org,
                label: String::new(),
                token_mac: id.to_string(),
                key_fingerprint: None,
                uses_left: 1,
                created_by: person,
                created_at: now,
                expires_at: now.plus(Duration::from_secs(3600)),
                machine_id: None,
            })
        });
        insert(app, rows.collect());
        let made = at_once(20, |_| ada.clone().post("/api/join-tokens", &json!({})).status);
        assert_eq!(made, 3);
    }

    fn bu_09_machines_at_once_do_not_exceed_their_limit(app) {
        let mut ada = app.signed_in("ada@example.org");
        let (org, person) = person_of(&ada);
        let now = app.app().now();
        let rows = (0..MACHINES_MAX - 3).map(|i| {
            machine::ActiveModel::from(machine::Model {
                id: Uuid::new_v4(),
                organisation_id: org,
                name: format!("m{i}"),
                kind: MachineKind::Host,
                os: String::new(),
                arch: String::new(),
                hostname: String::new(),
                agent_version: String::new(),
                tags: json!([]),
                public_key: String::new(),
                enrolled_by: person,
                created_at: now,
                last_seen_at: None,
                removed_at: None,
                tunnel: None,
                online_since: None,
                address: None,
                transport: None,
                transport_reason: None,
                broker_id: None,
            })
        });
        insert(app, rows.collect());
        let token = ada.post("/api/join-tokens", &json!({ "uses": 50 })).expect(201).json()["token"].clone();
        let app = &*app;
        let made = at_once(12, |i| TestAgent::enrol(app, &token, &format!("new-{i}")).map_or_else(|answer| answer.status, |_| 201));
        assert_eq!(made, 3);
    }

    fn bu_09_devices_at_once_do_not_exceed_their_limit(app) {
        let app = &*app;
        let body = with_facts(json!({ "name": "x", "key_fingerprint": "SHA256:x" }));
        let made = at_once(32, |_| app.browser().from("198.51.100.9").post("/api/device", &body).status);
        assert_eq!(u64::try_from(made).expect("a number"), DEVICE_WAITING_PER_NET);
    }

    fn bu_09_logins_at_once_do_not_exceed_their_limit(app) {
        let ada = app.signed_in("ada@example.org");
        let (org, person) = person_of(&ada);
        let now = app.app().now();
        insert(app, (1..LOGINS_PER_PERSON - 2).map(|_| login_row(org, person, now, None)).collect());
        let app = &*app;
        let credentials = json!({ "email": "ada@example.org", "password": PASSWORD });
        let made = at_once(8, |i| app.browser().from(&format!("198.51.100.{i}")).post("/api/logins", &credentials).status);
        assert_eq!(made, 8);
        let live = Scope::of(org).rows::<login::Entity>().filter(login::Column::RevokedAt.is_null());
        assert_eq!(app.block_on(live.count(app.app().db())).expect("counted"), LOGINS_PER_PERSON);
    }

    fn bu_03_a_login_that_makes_room_for_another_ends_like_any_other(app) {
        let ada = app.signed_in("ada@example.org");
        let (org, person) = person_of(&ada);
        let id = ada.get("/api/me").json()["login"]["id"].as_str().expect("an id").to_owned();
        let later = app.app().now().plus(Duration::from_secs(60));
        insert(app, (1..LOGINS_PER_PERSON).map(|_| login_row(org, person, later, None)).collect());
        let mut events = ada.events();
        events.expect("hello");
        app.sign_in("ada@example.org", PASSWORD);
        events.expect("signed_out");
        assert!(events.next().is_none(), "its stream has ended");
        ada.get("/api/me").problem(401, "not_signed_in");
        let told = app.block_on(revocation::in_force(app.app().db(), Scope::of(org), app.app().now())).expect("read");
        assert!(told.iter().any(|entry| entry.principal == format!("login:{id}")), "{told:?}");
        assert!(crate::audit::actions(app, org).contains(&"login.end".to_owned()));
    }

    fn a_machine_is_changed_and_removed_at_once_without_a_deadlock(app) {
        let mut ada = app.signed_in("ada@example.org");
        for round in 0..4 {
            let path = format!("/api/machines/{}", ada.enrol(&format!("box-{round}")).machine);
            let statuses = std::thread::scope(|scope| {
                let changes: Vec<_> = (0..8)
                    .map(|i| {
                        let (ada, path) = (ada.clone(), &path);
                        scope.spawn(move || {
                            if i == 3 { ada.delete(path).status } else { ada.patch(path, &json!({ "tags": [format!("t{i}")] })).status }
                        })
                    })
                    .collect();
                changes.into_iter().map(|change| change.join().expect("answered")).collect::<Vec<_>>()
            });
            assert!(statuses.iter().all(|status| [200, 204, 404].contains(status)), "{statuses:?}");
        }
    }

    fn rows_of_logins_are_forgotten_thirty_days_after_their_end(app) {
        let ada = app.signed_in("ada@example.org");
        let (org, person) = person_of(&ada);
        let now = app.app().now();
        let day = Duration::from_secs(24 * 3600);
        let ended = [29, 31].map(|days| now.minus(day * days));
        insert(app, ended.iter().map(|at| login_row(org, person, *at, Some(*at))).collect());
        app.block_on(rexec_control::housekeeping::keep(app.app())).expect("kept");
        let rows = app.block_on(Scope::of(org).rows::<login::Entity>().all(app.app().db())).expect("read");
        assert_eq!(rows.len(), 2, "the live one and the one that ended a day too late: {rows:?}");
    }
}
