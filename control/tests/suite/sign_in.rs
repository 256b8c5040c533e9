//! Signing in, staying signed in, being signed out.

use std::time::Duration;

use serde_json::json;

use crate::harness::{PASSWORD, TestApp};

on_both_databases! {
    fn st_04_the_cookie_is_out_of_reach_of_scripts(app) {
        app.person("ada@example.org");
        let answer = app.browser().post("/api/logins", &json!({ "email": "ada@example.org", "password": PASSWORD }));
        let cookie = answer.header("set-cookie").expect("a cookie");
        let (pair, attributes) = cookie.split_once("; ").expect("attributes");
        assert_eq!(attributes, "Path=/; Max-Age=604800; HttpOnly; SameSite=Lax");
        assert!(pair.starts_with("rexec_login=") && pair.len() == "rexec_login=".len() + 43, "256 bits");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let token = pair.trim_start_matches("rexec_login=");
        assert!(!answer.text().contains(token), "the body does not repeat it");
    }

    fn bu_11_every_sign_in_has_a_new_cookie_and_ends_the_old_one(app) {
        let mut ada = app.signed_in("ada@example.org");
        let before = ada.clone();
        ada.post("/api/logins", &json!({ "email": "ada@example.org", "password": PASSWORD })).expect(201);
        assert_ne!(before.cookie, ada.cookie);
        before.get("/api/me").problem(401, "not_signed_in");
        ada.get("/api/me").expect(200);
        let mut planted = app.browser();
        planted.cookie = Some("rexec_login=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned());
        planted.get("/api/me").problem(401, "not_signed_in");
    }

    fn a_person_sees_their_logins_and_ends_any_of_them_at_once(app) {
        let ada = app.signed_in("ada@example.org");
        let other = app.sign_in("ADA@example.org", PASSWORD);
        let logins = ada.get("/api/logins").expect(200).json();
        let logins = logins.as_array().expect("a list");
        assert_eq!(logins.len(), 2);
        let theirs = logins.iter().find(|login| login["current"] == false).expect("the other one");
        let id = theirs["id"].as_str().expect("an id");
        let mut events = other.events();
        events.expect("hello");
        ada.delete(&format!("/api/logins/{id}")).expect(204);
        events.expect("signed_out");
        assert!(events.next().is_none(), "its stream has ended");
        other.get("/api/me").problem(401, "not_signed_in");
        ada.delete(&format!("/api/logins/{id}")).problem(404, "not_found");
        assert_eq!(ada.get("/api/logins").json().as_array().map(Vec::len), Some(1));
    }

    fn bu_03_a_stream_that_missed_the_end_of_its_login_ends_all_the_same(app) {
        let ada = app.signed_in("ada@example.org");
        let mut events = ada.events();
        events.expect("hello");
        let organisation = app_organisation(app);
        end_unheard(app);
        // Far more than socket and queues hold, while nobody reads: the stream falls behind.
        let hub = &app.app().parts().hub;
        for _ in 0..1_000 {
            hub.tell(organisation, rexec_control::events::Event::Machine(big_machine().into()));
        }
        loop {
            match events.next().expect("an end that is told").0.as_str() {
                "machine" => {}
                "signed_out" => break,
                other => panic!("{other} to a login that has ended"),
            }
        }
        assert!(events.next().is_none(), "its stream has ended");
    }

    fn signing_out_ends_the_login_and_clears_the_cookie(app) {
        let ada = app.signed_in("ada@example.org");
        let answer = ada.delete("/api/logins/current").expect(204);
        assert_eq!(answer.header("set-cookie"), Some("rexec_login=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"));
        ada.get("/api/me").problem(401, "not_signed_in");
    }

    fn st_04_a_login_ends_after_twelve_idle_hours_and_after_seven_busy_days(app) {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let ada = app.signed_in("ada@example.org");
        for _ in 0..16 {
            app.advance(hours(10));
            ada.get("/api/me").expect(200);
        }
        app.advance(hours(9));
        ada.get("/api/me").problem(401, "not_signed_in");
        let idle = app.sign_in("ada@example.org", PASSWORD);
        app.advance(hours(12));
        idle.get("/api/me").problem(401, "not_signed_in");
        let feed = || app.block_on(rexec_control::revocation::in_force(
            app.app().db(),
            rexec_control::scope::Scope::of(app_organisation(app)),
            app.app().now(),
        )).expect("read");
        assert!(feed().is_empty(), "nobody has noticed yet");
        app.block_on(rexec_control::housekeeping::keep(app.app())).expect("kept");
        assert!(feed().iter().any(|entry| entry.principal.starts_with("login:")), "what it was issued is void");
    }

    fn bu_06_guessing_is_slow_for_everybody_but_the_person(app) {
        app.person("bob@example.org");
        let mut home = app.browser().from("198.51.100.7");
        home.post("/api/logins", &json!({ "email": "bob@example.org", "password": PASSWORD })).expect(201);
        let spellings = ["bob@example.org", " Bob@example.org", "ｂｏｂ@example.org"];
        let statuses: Vec<u16> = (0..60)
            .map(|i: usize| {
                let mut anywhere = app.browser().from(&format!("203.0.113.{i}"));
                let email = spellings[i % spellings.len()];
                anywhere.post("/api/logins", &json!({ "email": email, "password": format!("guess number {i}") })).status
            })
            .collect();
        let evaluated = statuses.iter().filter(|status| **status == 401).count();
        assert!((1..=20).contains(&evaluated), "{evaluated} of 60 guesses were looked at");
        assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
        let refused = app.browser().from("203.0.113.200").post("/api/logins", &json!({ "email": "bob@example.org", "password": PASSWORD }));
        refused.problem(429, "rate_limited");
        assert!(refused.header("retry-after").and_then(|wait| wait.parse::<u64>().ok()).is_some_and(|wait| wait > 0));
        home.cookie = None;
        home.post("/api/logins", &json!({ "email": "bob@example.org", "password": PASSWORD })).expect(201);
    }

    fn bu_06_a_wrong_password_and_a_wrong_address_look_the_same(app) {
        app.person("ada@example.org");
        let mut answers = ["ada@example.org", "nobody@example.org"].map(|email| {
            let answer = app.browser().post("/api/logins", &json!({ "email": email, "password": "wrong password here" }));
            let mut problem = answer.problem(401, "bad_credentials");
            problem["request_id"] = json!(null);
            (problem, answer.header("set-cookie").map(str::to_owned))
        });
        answers.reverse();
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0].1, None);
    }
}

fn app_organisation(app: &TestApp) -> uuid::Uuid {
    use sea_orm::EntityTrait as _;
    let found = app.block_on(rexec_control::entity::organisation::Entity::find().one(app.app().db()));
    found.expect("read").expect("one").id
}

#[test]
fn bu_11_behind_https_the_cookie_is_bound_to_this_very_host() {
    let app = TestApp::with(|settings| settings.public_url = "https://rexec.example".parse().ok());
    app.person("ada@example.org");
    let mut browser = app.browser();
    let answer =
        browser.post("/api/logins", &json!({ "email": "ada@example.org", "password": PASSWORD })).expect(201);
    let cookie = answer.header("set-cookie").expect("a cookie");
    assert!(cookie.starts_with("__Host-rexec_login=") && cookie.ends_with("; Secure"), "{cookie}");
    browser.get("/api/me").expect(200);
    browser.cookie = browser.cookie.map(|cookie| cookie.replace("__Host-", ""));
    browser.get("/api/me").problem(401, "not_signed_in");
}

/// Ends every login without telling anybody, as another control beside this one would.
fn end_unheard(app: &TestApp) {
    use rexec_control::entity::login;
    use sea_orm::EntityTrait as _;
    use sea_orm::sea_query::Expr;
    let ended = login::Entity::update_many().col_expr(login::Column::RevokedAt, Expr::value(app.app().now()));
    app.block_on(ended.exec(app.app().db())).expect("ended");
}

fn big_machine() -> rexec_control::api::machines::Machine {
    rexec_control::api::machines::Machine {
        id: uuid::Uuid::new_v4(),
        name: "x".repeat(50_000),
        kind: rexec_control::entity::MachineKind::Host,
        os: String::new(),
        arch: String::new(),
        hostname: String::new(),
        agent_version: String::new(),
        tags: Vec::new(),
        online: false,
        created_at: rexec_control::time::Timestamp(0),
        last_seen_at: None,
        online_since: None,
        address: None,
        transport: None,
        transport_reason: None,
        rtt_ms: None,
        sessions: Vec::new(),
        sandbox: None,
    }
}
