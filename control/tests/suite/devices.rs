//! Device approval: a code on one screen, a person at another.

use std::time::Duration;

use rexec_shared::pki;
use serde_json::{Value, json};

use crate::harness::{Browser, TestAgent, TestApp, with_facts};

fn ask(app: &TestApp, key: &str) -> Value {
    let fingerprint = pki::key_fingerprint(key).expect("a fingerprint");
    let body = with_facts(json!({ "name": "my-laptop", "key_fingerprint": fingerprint }));
    app.browser().post("/api/device", &body).expect(201).json()
}

fn poll(app: &TestApp, asked: &Value) -> Value {
    app.browser().post("/api/device/poll", &json!({ "device_code": asked["device_code"] })).expect(200).json()
}

fn decide(person: &mut Browser<'_>, asked: &Value, how: &str) -> crate::wire::Answer {
    person.post(&format!("/api/device/{}/{how}", asked["user_code"].as_str().expect("a code")), &json!({}))
}

on_both_databases! {
    fn an_approved_agent_goes_on_by_itself_once(app) {
        let mut ada = app.signed_in("ada@example.org");
        let key = pki::generate_key().expect("a key");
        let asked = ask(app, &key);
        let code = asked["user_code"].as_str().expect("a code");
        assert_eq!(asked["verification_uri_complete"], format!("{}/device?code={code}", app.origin()));
        assert_eq!(poll(app, &asked), json!({ "status": "pending" }));
        let typed = code.replace('-', "").to_lowercase();
        let shown = ada.get(&format!("/api/device/{typed}")).expect(200).json();
        assert_eq!((&shown["user_code"], &shown["name"]), (&json!(code), &json!("my-laptop")));
        assert_eq!(shown["key_fingerprint"], pki::key_fingerprint(&key).expect("a fingerprint"));
        decide(&mut ada, &asked, "approve").expect(204);
        decide(&mut ada, &asked, "deny").problem(404, "not_found");
        let approved = poll(app, &asked);
        assert_eq!(approved["status"], "approved");
        assert_eq!(poll(app, &asked), json!({ "status": "expired" }), "handed out once");
        let token = &approved["join_token"];
        let thief = TestAgent::enrol(app, token, "my-laptop").expect_err("another key");
        thief.problem(403, "join_token_invalid");
        let agent = TestAgent::enrol_with(app, token, "my-laptop", key).expect("enrolled");
        assert_eq!(ada.get("/api/machines").json()[0]["id"], json!(agent.machine));
        TestAgent::enrol(app, token, "again").expect_err("used up").problem(403, "join_token_invalid");
    }

    fn a_denied_or_late_agent_is_told_so(app) {
        let mut ada = app.signed_in("ada@example.org");
        let key = pki::generate_key().expect("a key");
        let denied = ask(app, &key);
        decide(&mut ada, &denied, "deny").expect(204);
        assert_eq!(poll(app, &denied), json!({ "status": "denied" }));
        let late = ask(app, &key);
        app.advance(Duration::from_secs(601));
        assert_eq!(poll(app, &late), json!({ "status": "expired" }));
        decide(&mut ada, &late, "approve").problem(404, "not_found");
        assert_eq!(poll(app, &json!({ "device_code": "made up" })), json!({ "status": "expired" }));
    }

    fn st_01_of_many_polls_at_once_one_gets_the_token(app) {
        let mut ada = app.signed_in("ada@example.org");
        let asked = ask(app, &pki::generate_key().expect("a key"));
        decide(&mut ada, &asked, "approve").expect(204);
        let app = &*app;
        let got = std::thread::scope(|scope| {
            let polls: Vec<_> = (0..16).map(|_| scope.spawn(|| poll(app, &asked))).collect();
            polls.into_iter().map(|one| one.join().expect("answered")).filter(|answer| answer.get("join_token").is_some()).count()
        });
        assert_eq!(got, 1);
    }

    fn codes_cannot_be_tried_out(app) {
        let ada = app.signed_in("ada@example.org");
        let statuses: Vec<u16> = (0..40).map(|_| ada.get("/api/device/BCDF-GHJK").status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 404).count(), 20, "{statuses:?}");
        assert!(statuses.iter().skip(20).all(|status| *status == 429));
    }

    fn one_network_cannot_fill_the_waiting_room(app) {
        let body = with_facts(json!({ "name": "x", "key_fingerprint": "SHA256:x" }));
        let ask_from = |ip: &str| app.browser().from(ip).post("/api/device", &body).status;
        let crowd: Vec<u16> = (0..25).map(|i| ask_from(&format!("2001:db8::{i:x}"))).collect();
        assert_eq!(crowd.iter().filter(|status| **status == 201).count(), 20, "one /64 is one network: {crowd:?}");
        assert_eq!(ask_from("2001:db8:0:1::1"), 201);
    }
}
