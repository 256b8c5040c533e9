//! Join tokens, certificates, and machines that leave.

use std::time::Duration;

use rexec_shared::enrol::unregister_text;
use rexec_shared::pki;
use serde_json::{Value, json};

use crate::harness::{Browser, TestAgent, TestApp};

fn token(ada: &mut Browser<'_>, wish: &Value) -> Value {
    ada.post("/api/join-tokens", wish).expect(201).json()["token"].clone()
}

on_both_databases! {
    fn st_01_of_64_enrolments_at_once_with_one_token_exactly_one_gets_in(app) {
        let mut ada = app.signed_in("ada@example.org");
        let token = token(&mut ada, &json!({}));
        let app = &*app;
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..64)
                .map(|i| {
                    let token = &token;
                    scope.spawn(move || match TestAgent::enrol(app, token, &format!("box{i}")) {
                        Ok(_) => 201,
                        Err(answer) => answer.status,
                    })
                })
                .collect();
            tries.into_iter().map(|one| one.join().expect("answered")).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| [201, 403].contains(status)), "{statuses:?}");
        assert_eq!(ada.get("/api/machines").json().as_array().map(Vec::len), Some(1));
    }

    fn a_token_with_a_count_enrols_that_many_and_names_never_clash(app) {
        let mut ada = app.signed_in("ada@example.org");
        let token = token(&mut ada, &json!({ "uses": 3, "label": "fleet" }));
        let names: Vec<Value> = (0..3).map(|_| TestAgent::enrol(app, &token, "web").expect("enrolled").answer["name"].clone()).collect();
        assert_eq!(names, ["web", "web-2", "web-3"]);
        let refused = TestAgent::enrol(app, &token, "web").expect_err("used up");
        assert_eq!(refused.problem(403, "join_token_invalid")["detail"], "the join token is used up");
        assert_eq!(ada.get("/api/join-tokens").json(), json!([]));
    }

    fn st_01_a_token_that_is_expired_deleted_or_made_up_enrols_nothing(app) {
        let mut ada = app.signed_in("ada@example.org");
        let expired = token(&mut ada, &json!({ "ttl_s": 60 }));
        app.advance(Duration::from_secs(61));
        let problem = TestAgent::enrol(app, &expired, "box").expect_err("expired").problem(403, "join_token_invalid");
        assert_eq!(problem["detail"], "the join token has expired");
        assert!(problem["hint"].is_string());
        let made = ada.post("/api/join-tokens", &json!({})).expect(201).json();
        ada.delete(&format!("/api/join-tokens/{}", made["id"].as_str().expect("an id"))).expect(204);
        TestAgent::enrol(app, &made["token"], "box").expect_err("deleted").problem(403, "join_token_invalid");
        TestAgent::enrol(app, &json!("rexec_join_x"), "box").expect_err("made up").problem(403, "join_token_invalid");
    }

    fn a_wish_for_a_token_out_of_bounds_names_its_field(app) {
        let mut ada = app.signed_in("ada@example.org");
        for (field, value) in [("ttl_s", 59), ("ttl_s", 604_801), ("uses", 0), ("uses", 1_001)] {
            assert_eq!(ada.post("/api/join-tokens", &json!({ field: value })).problem(422, "invalid")["field"], field);
        }
        let fresh = ada.post("/api/join-tokens", &json!({ "label": "a\u{1b}[2J\u{202e}b" })).expect(201).json();
        assert_eq!((&fresh["label"], &fresh["uses_left"]), (&json!("a[2Jb"), &json!(1)));
        assert!(fresh["token"].as_str().is_some_and(|token| token.starts_with("rexec_join_") && token.len() == 54));
        assert!(!ada.get("/api/join-tokens").text().contains(fresh["token"].as_str().expect("text")), "shown once");
    }

    fn a_certificate_names_the_machine_and_is_renewed_by_its_own_key_alone(app) {
        use rustls_pki_types::pem::PemObject as _;
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let named = |pem: &Value| {
            let pem = pem.as_str().expect("PEM");
            let der = rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
            pki::MachineName::from_certificate(&der).expect("a name")
        };
        let name = pki::MachineName { org: agent.org, machine: agent.machine };
        assert_eq!(named(&agent.answer["certificate"]), name);
        app.advance(Duration::from_secs(200 * 24 * 3600));
        let renewed = agent.renew(app, &agent.key).expect(200).json();
        assert_eq!(named(&renewed["certificate"]), name);
        let thief = pki::generate_key().expect("a key");
        agent.renew(app, &thief).problem(404, "machine_unknown");
        let nobody = TestAgent { machine: uuid::Uuid::new_v4(), ..agent.clone() };
        nobody.renew(app, &agent.key).problem(404, "machine_unknown");
    }

    fn a_removed_machine_is_gone_revoked_and_never_renewed(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let mut events = ada.events();
        events.expect("hello");
        let path = format!("/api/machines/{}", agent.machine);
        ada.delete(&path).expect(204);
        assert_eq!(events.expect("machine_removed")["id"], json!(agent.machine));
        agent.renew(app, &agent.key).problem(403, "machine_revoked");
        ada.get(&path).problem(404, "not_found");
        ada.delete(&path).problem(404, "not_found");
        ada.patch(&path, &json!({ "name": "back" })).problem(404, "not_found");
        let scope = rexec_control::scope::Scope::of(agent.org);
        let feed = app.block_on(rexec_control::revocation::in_force(app.app().db(), scope, app.app().now())).expect("read");
        assert!(feed.iter().any(|entry| entry.principal == format!("machine:{}", agent.machine)));
        assert_eq!(ada.enrol("box").answer["name"], "box", "its name is free again");
    }

    fn a_machine_leaves_by_its_own_signature(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let time = app.app().now().unix_ms();
        let leave = |time: u64, key: &str| {
            let signature = pki::sign_text(key, &unregister_text(agent.machine, time)).expect("signed");
            app.browser().post("/api/agent/unregister", &json!({ "machine": agent.machine, "time": time, "signature": signature }))
        };
        let thief = pki::generate_key().expect("a key");
        leave(time, &thief).problem(404, "machine_unknown");
        assert_eq!(leave(time - 120_000, &agent.key).problem(422, "invalid")["field"], "time");
        leave(time, &agent.key).expect(204);
        leave(time, &agent.key).expect(204);
        assert_eq!(ada.get("/api/machines").json(), json!([]));
    }

    fn ma_08_what_an_agent_tells_is_inert(app) {
        let mut ada = app.signed_in("ada@example.org");
        let token = token(&mut ada, &json!({ "uses": 9 }));
        let csr = pki::signing_request(&pki::generate_key().expect("a key")).expect("a request");
        let mut body = json!({ "token": token, "csr": csr, "name": "box", "os": "<script>", "arch": "=cmd()", "agent_version": "1\u{1b}[2J",
            "hostname": format!("a\nProxyCommand x{}", "y".repeat(500)) });
        app.browser().post("/api/agent/enrol", &body).expect(201);
        let machine = ada.get("/api/machines").json()[0].clone();
        for field in ["os", "arch", "hostname", "agent_version"] {
            let shown = machine[field].as_str().expect("text");
            assert!(shown.len() <= 63 && shown.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{shown}");
        }
        for name in ["-oProxyCommand=x", "a b", "", "<b>", "a\u{0}", &"x".repeat(64)] {
            body["name"] = json!(name);
            assert_eq!(app.browser().post("/api/agent/enrol", &body).problem(422, "invalid")["field"], "name");
        }
    }

    fn a_machine_is_renamed_and_tagged_within_the_grammar(app) {
        let mut ada = app.signed_in("ada@example.org");
        let (one, two) = (ada.enrol("one"), ada.enrol("two"));
        let path = format!("/api/machines/{}", one.machine);
        let changed = ada.patch(&path, &json!({ "name": "db-1", "tags": ["prod", "eu", "prod"] })).expect(200).json();
        assert_eq!((&changed["name"], &changed["tags"]), (&json!("db-1"), &json!(["eu", "prod"])));
        assert_eq!(ada.get(&path).json(), changed);
        for (field, value) in [("name", json!("two")), ("name", json!("a b")), ("tags", json!(["<x>"])), ("tags", json!(vec!["t"; 40].iter().enumerate().map(|(i, t)| format!("{t}{i}")).collect::<Vec<_>>()))] {
            assert_eq!(ada.patch(&path, &json!({ field: value })).problem(422, "invalid")["field"], field);
        }
        assert_eq!(ada.get(&path).json(), changed, "a refused change changes nothing");
        assert_eq!(ada.patch(&path, &json!({})).expect(200).json(), changed);
        assert_eq!(ada.get(&format!("/api/machines/{}", two.machine)).json()["name"], "two");
    }
}

#[test]
fn a_signing_request_without_proof_of_its_key_is_refused_and_spends_nothing() {
    let app = TestApp::on_sqlite();
    let mut ada = app.signed_in("ada@example.org");
    let token = token(&mut ada, &json!({}));
    let honest = pki::signing_request(&pki::generate_key().expect("a key")).expect("a request");
    let middle = honest.len() / 2;
    let swapped: String = honest
        .chars()
        .enumerate()
        .map(|(i, c)| if i == middle { if c == 'A' { 'B' } else { 'A' } } else { c })
        .collect();
    for csr in
        [swapped.as_str(), "", "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"]
    {
        let body = crate::harness::with_facts(json!({ "token": token, "name": "box", "csr": csr }));
        assert_eq!(app.browser().post("/api/agent/enrol", &body).problem(422, "invalid")["field"], "csr");
    }
    TestAgent::enrol(&app, &token, "box").expect("the token is still good");
}

#[test]
fn ct_08_a_machines_identity_opens_nothing_of_control() {
    let app = TestApp::on_sqlite();
    let mut ada = app.signed_in("ada@example.org");
    let agent = ada.enrol("box");
    let mut machine = app.browser();
    machine.cookie = Some(format!("rexec_login={}", agent.machine));
    for route in crate::policies::routes().into_iter().filter(|route| route.signed_in) {
        let headers = [("x-rexec-csrf", "1"), ("content-type", "application/json")];
        let path = route.with(&agent.machine.to_string());
        machine.send(&route.method, &path, &headers, b"{}").problem(401, "not_signed_in");
    }
}
