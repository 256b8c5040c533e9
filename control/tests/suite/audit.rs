//! The audit: everything that matters is there, and nothing can be taken out or changed unnoticed.

use rexec_control::audit::{self, Actor, Broken, Deed, Head};
use rexec_control::entity::audit_entry;
use rexec_control::scope::Scope;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, Set,
};
use serde_json::json;
use uuid::Uuid;

use crate::harness::TestApp;

/// What was done in an organisation, in order.
pub(crate) fn actions(app: &TestApp, organisation: Uuid) -> Vec<String> {
    let rows = Scope::of(organisation).rows::<audit_entry::Entity>().order_by_asc(audit_entry::Column::Seq);
    let rows = app.block_on(rows.all(app.app().db())).expect("read");
    rows.into_iter().map(|row| row.action).collect()
}

fn verify(app: &TestApp, organisation: Uuid, seen: Option<&Head>) -> Result<Head, Broken> {
    app.block_on(audit::verify(app.app().db(), Scope::of(organisation), seen))
}

/// The length of a chain that holds.
fn length(app: &TestApp, organisation: Uuid) -> i64 {
    verify(app, organisation, None).expect("unbroken").seq
}

fn entry(app: &TestApp, organisation: Uuid, seq: i64) -> audit_entry::Model {
    let entry =
        Scope::of(organisation).rows::<audit_entry::Entity>().filter(audit_entry::Column::Seq.eq(seq));
    app.block_on(entry.one(app.app().db())).expect("read").expect("there")
}

/// Gives an entry another place, behind the program's back.
fn renumber(app: &TestApp, entry: &audit_entry::Model, seq: i64) {
    let mut entry = entry.clone().into_active_model();
    entry.seq = Set(seq);
    app.block_on(entry.update(app.app().db())).expect("moved");
}

/// Cuts everything after `seq` off, behind the program's back.
fn truncate(app: &TestApp, organisation: Uuid, seq: i64) {
    let cut =
        Scope::of(organisation).delete::<audit_entry::Entity>().filter(audit_entry::Column::Seq.gt(seq));
    app.block_on(cut.exec(app.app().db())).expect("cut");
}

fn append(app: &TestApp, organisation: Uuid, target: &str) {
    app.block_on(async {
        let tx = rexec_control::db::write(app.app().db()).await.expect("a transaction");
        let deed = Deed::new("test.deed", target);
        audit::append(&tx, Scope::of(organisation), app.app().now(), &Actor::operator(), deed)
            .await
            .expect("appended");
        tx.commit().await.expect("committed");
    });
}

on_both_databases! {
    fn what_people_and_agents_do_is_written_down_in_one_unbroken_chain(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let path = format!("/api/machines/{}", agent.machine);
        ada.patch(&path, &json!({ "name": "db" })).expect(200);
        let wish = json!({ "machine": agent.machine, "session": Uuid::new_v4(), "caps": ["terminal"], "key": "A".repeat(43) });
        ada.post("/api/tickets", &wish).expect(201);
        ada.delete(&path).expect(204);
        ada.delete("/api/logins/current").expect(204);
        let expected = [
            "person.create", "login.create", "join_token.create", "machine.enrol", "machine.change", "ticket.issue",
            "machine.remove", "login.end",
        ];
        assert_eq!(actions(app, agent.org), expected);
        assert_eq!(length(app, agent.org), 8);
    }

    fn in_01_a_change_or_a_gap_breaks_the_chain(app) {
        let mut ada = app.signed_in("ada@example.org");
        let org = ada.enrol("box").org;
        let (db, scope) = (app.app().db(), Scope::of(org));
        let change = |seq: i64, to: &str| {
            let change = audit_entry::Entity::update_many()
                .col_expr(audit_entry::Column::Target, Expr::value(to))
                .filter(audit_entry::Column::Seq.eq(seq));
            app.block_on(change.exec(db)).expect("changed");
        };
        let second = scope.rows::<audit_entry::Entity>().filter(audit_entry::Column::Seq.eq(2));
        let target = app.block_on(second.one(db)).expect("read").expect("there").target;
        change(2, "somebody else");
        assert!(matches!(verify(app, org, None), Err(Broken::At(2))));
        change(2, &target);
        assert_eq!(length(app, org), 4, "whole again");
        let gap = audit_entry::Entity::delete_many().filter(audit_entry::Column::Seq.eq(2));
        app.block_on(gap.exec(db)).expect("deleted");
        assert!(matches!(verify(app, org, None), Err(Broken::At(2))));
    }

    fn in_01_an_entry_slipped_in_breaks_the_chain(app) {
        let org = app.signed_in("ada@example.org").enrol("box").org;
        let mut slipped = entry(app, org, 2);
        slipped.id = Uuid::new_v4();
        for seq in [4, 3] {
            renumber(app, &entry(app, org, seq), seq + 1);
        }
        slipped.seq = 3;
        let slipped = audit_entry::Entity::insert(audit_entry::ActiveModel::from(slipped).reset_all());
        app.block_on(slipped.exec_without_returning(app.app().db())).expect("inserted");
        assert!(matches!(verify(app, org, None), Err(Broken::At(3))));
    }

    fn in_01_two_entries_that_change_places_break_the_chain(app) {
        let org = app.signed_in("ada@example.org").enrol("box").org;
        let (second, third) = (entry(app, org, 2), entry(app, org, 3));
        renumber(app, &second, 99);
        renumber(app, &third, 2);
        renumber(app, &second, 3);
        assert!(matches!(verify(app, org, None), Err(Broken::At(2))));
    }

    fn in_01_an_end_cut_off_shows_against_an_end_kept_elsewhere_and_against_nothing_else(app) {
        let org = app.signed_in("ada@example.org").enrol("box").org;
        let kept = verify(app, org, None).expect("unbroken");
        append(app, org, "more");
        assert_eq!(verify(app, org, Some(&kept)).expect("still part of it").seq, kept.seq + 1);
        truncate(app, org, kept.seq - 1);
        assert_eq!(length(app, org), kept.seq - 1, "a shorter chain holds by itself");
        assert!(matches!(verify(app, org, Some(&kept)), Err(Broken::Lost(lost)) if lost == kept));
    }

    fn in_01_a_history_written_anew_shows_against_an_end_kept_elsewhere(app) {
        let org = app.signed_in("ada@example.org").enrol("box").org;
        let kept = verify(app, org, None).expect("unbroken");
        truncate(app, org, kept.seq - 1);
        append(app, org, "another story");
        assert_eq!(length(app, org), kept.seq, "a fork holds by itself");
        assert!(matches!(verify(app, org, Some(&kept)), Err(Broken::Lost(_))));
    }

    fn deeds_at_the_same_time_are_chained_one_after_the_other(app) {
        let ada = app.signed_in("ada@example.org");
        let org = app.block_on(rexec_control::entity::organisation::Entity::find().one(app.app().db())).expect("read").expect("one").id;
        std::thread::scope(|scope| {
            for _ in 0..16 {
                let mut ada = ada.clone();
                scope.spawn(move || ada.post("/api/join-tokens", &json!({})).expect(201));
            }
        });
        assert_eq!(length(app, org), 18);
    }

    fn st_07_no_secret_is_in_the_database(app) {
        let mut ada = app.signed_in("ada@example.org");
        let fresh = ada.post("/api/join-tokens", &json!({})).expect(201).json();
        let asked = crate::harness::with_facts(json!({ "name": "x", "key_fingerprint": "SHA256:x" }));
        let device = app.browser().post("/api/device", &asked).expect(201).json();
        let setup = app.setup_token();
        assert_eq!(setup, None);
        let cookie = ada.cookie.clone().expect("signed in");
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        let code = text(&device["user_code"]);
        let secrets = [
            crate::harness::PASSWORD.to_owned(),
            cookie.trim_start_matches("rexec_login=").to_owned(),
            text(&fresh["token"]),
            text(&device["device_code"]),
            code.replace('-', ""),
            code,
        ];
        let everything = app.block_on(dump(app.app().db()));
        assert!(everything.contains("ada@example.org"), "the dump shows what there is");
        for secret in secrets {
            assert!(!everything.contains(&secret), "{secret} is in the database");
        }
    }
}

/// Every row of every table, as text.
async fn dump(db: &sea_orm::DatabaseConnection) -> String {
    use rexec_control::entity::{
        device_request, join_token, login, machine, person, revocation, setup_token,
    };
    let mut text = String::new();
    macro_rules! tables {
        ($($table:ident),*) => {
            $(for row in $table::Entity::find().into_json().all(db).await.expect("read") {
                text.push_str(&row.to_string());
            })*
        };
    }
    tables!(device_request, join_token, login, machine, person, revocation, setup_token, audit_entry);
    text
}
