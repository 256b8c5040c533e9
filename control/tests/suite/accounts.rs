//! Set-up: once, by whoever has the link.

use serde_json::json;

use crate::harness::{PASSWORD, TestApp};

fn wish(token: &str) -> serde_json::Value {
    json!({ "token": token, "email": "ada@example.org", "name": "Ada", "password": PASSWORD })
}

on_both_databases! {
    fn the_link_makes_the_owner_and_signs_in(app) {
        let mut browser = app.browser();
        assert_eq!(browser.get("/api/installation").json()["setup_needed"], true);
        let token = app.setup_token().expect("nobody owns it");
        let me = browser.post("/api/setup", &wish(&token)).expect(201).json();
        assert_eq!((&me["user"]["email"], &me["org"]["role"]), (&json!("ada@example.org"), &json!("owner")));
        assert_eq!(browser.get("/api/me").expect(200).json(), me);
        let installation = browser.get("/api/installation").json();
        assert_eq!((&installation["setup_needed"], &installation["signed_in"]), (&json!(false), &json!(true)));
    }

    fn in_02_there_is_no_second_owner_by_any_path(app) {
        let token = app.setup_token().expect("nobody owns it");
        app.browser().post("/api/setup", &wish(&token)).expect(201);
        assert_eq!(app.setup_token(), None, "no link is made any more");
        let body = wish(&token).to_string();
        let paths = [
            "/api/setup", "/api/setup/", "/api/setup/x", "//api/setup", "/api//setup", "/api/%73etup", "/api/./setup",
            "/api/x/../setup", "/API/SETUP", "/api/setup;x", "/api/setup%00", "/setup", "/setup/", "//setup", "/%73etup",
        ];
        for path in paths {
            for method in ["POST", "PUT", "PATCH", "DELETE"] {
                let answer = app.browser().send(method, path, &[("content-type", "application/json")], body.as_bytes());
                answer.problem(404, "not_found");
                assert_eq!(answer.header("allow"), None, "{method} {path} says what it was");
            }
        }
        let absent = app.browser().post("/api/never-was", &json!({})).json();
        let setup = app.browser().post("/api/setup", &json!({})).json();
        assert_eq!((&absent["detail"], &absent["title"]), (&setup["detail"], &setup["title"]), "it looks absent");
        app.browser().get("/api/setup").problem(404, "not_found");
    }

    fn in_02_two_at_once_with_one_link_make_one_owner(app) {
        let token = app.setup_token().expect("nobody owns it");
        let app = &*app;
        let made = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8)
                .map(|i| {
                    let mut body = wish(&token);
                    body["email"] = json!(format!("{i}@example.org"));
                    scope.spawn(move || app.browser().post("/api/setup", &body).status)
                })
                .collect();
            tries.into_iter().map(|one| one.join().expect("answered")).filter(|status| *status == 201).count()
        });
        assert_eq!(made, 1);
    }

    fn in_02_a_wrong_old_or_replaced_link_opens_nothing(app) {
        app.browser().post("/api/setup", &wish("guess")).problem(403, "setup_token_invalid");
        let replaced = app.setup_token().expect("nobody owns it");
        let old = app.setup_token().expect("nobody owns it");
        app.browser().post("/api/setup", &wish(&replaced)).problem(403, "setup_token_invalid");
        app.advance(std::time::Duration::from_secs(25 * 3600));
        app.browser().post("/api/setup", &wish(&old)).problem(403, "setup_token_invalid");
    }

    fn a_wish_that_will_not_do_names_its_field_and_spends_nothing(app) {
        let token = app.setup_token().expect("nobody owns it");
        for (field, value) in [("email", "nobody"), ("name", " \u{200b} "), ("password", "short"), ("password", "password1234")] {
            let mut body = wish(&token);
            body[field] = json!(value);
            assert_eq!(app.browser().post("/api/setup", &body).problem(422, "invalid")["field"], field);
        }
        app.browser().post("/api/setup", &wish(&token)).expect(201);
    }
}

#[test]
fn a_restart_finds_everything_as_it_was() {
    let mut app = TestApp::on_sqlite();
    let mut ada = app.signed_in("ada@example.org");
    let agent = ada.enrol("box");
    let (cookie, before) = (ada.cookie.clone(), ada.get("/api/machines").json());
    let (ca, ticket_key) =
        (agent.answer["tunnel"]["ca"].clone(), agent.answer["tunnel"]["ticket_key"].clone());
    app.restart();
    let mut ada = app.browser();
    ada.cookie = cookie;
    assert_eq!(ada.get("/api/machines").expect(200).json(), before);
    let again = ada.enrol("box2");
    assert_eq!((&again.answer["tunnel"]["ca"], &again.answer["tunnel"]["ticket_key"]), (&ca, &ticket_key));
    assert_eq!(agent.renew(&app, &agent.key).status, 200);
}
