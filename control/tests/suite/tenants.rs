//! Nobody sees, touches or learns of what belongs to another organisation (THREATS BU-01).

use rexec_shared::broker_link::FromBroker;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Browser, TestApp, with_facts};
use crate::policies::{Route, routes};

/// What one organisation has; ids for each kind of path.
struct Belongings {
    machine: Uuid,
    join_token: String,
    login: String,
    user_code: String,
    sandbox: String,
    volume: String,
    snapshot: String,
    snippet: String,
    preview: String,
}

impl Belongings {
    fn of(app: &TestApp, owner: &mut Browser<'_>) -> Self {
        let machine = owner.enrol("box").machine;
        let token = owner.post("/api/join-tokens", &json!({ "label": "canary" })).expect(201).json();
        let login = owner.get("/api/logins").json()[0]["id"].as_str().expect("an id").to_owned();
        let asked = with_facts(json!({ "name": "waiting", "key_fingerprint": "SHA256:x" }));
        let device = app.browser().post("/api/device", &asked).expect(201).json();
        let user_code = device["user_code"].as_str().expect("a code").to_owned();
        owner.post(&format!("/api/device/{user_code}/approve"), &json!({})).expect(204);
        let sandbox = owner.post("/api/sandboxes", &crate::sandboxes::wish()).expect(202).json();
        let sandbox = |field: &str| sandbox[field].as_str().expect("an id").to_owned();
        let (sandbox, volume) = (sandbox("id"), sandbox("volume"));
        // It comes to rest, so that nothing of hers changes by itself from here on.
        crate::sandboxes::until_state(owner, sandbox.parse().expect("an id"), "enrolling");
        let snapshot =
            owner.post(&format!("/api/sandboxes/{sandbox}/snapshots"), &json!({})).expect(202).json();
        let snapshot = snapshot["id"].as_str().expect("an id").to_owned();
        let snippet = json!({ "name": "logs", "body": "ls", "shared": true });
        let snippet = owner.post("/api/snippets", &snippet).expect(201).json();
        let snippet = snippet["id"].as_str().expect("an id").to_owned();
        let preview =
            owner.post("/api/previews", &json!({ "machine": machine, "port": 3000 })).expect(201).json();
        let preview = preview["id"].as_str().expect("an id").to_owned();
        Self {
            preview,
            snippet,
            snapshot,
            sandbox,
            volume,
            machine,
            join_token: token["id"].as_str().expect("an id").to_owned(),
            login,
            user_code,
        }
    }

    /// The id that fits the route's parameter. A new kind of object needs a line here.
    fn id_for(&self, route: &Route) -> String {
        match route.path.split('/').nth(2) {
            Some("machines") => self.machine.to_string(),
            Some("join-tokens") => self.join_token.clone(),
            Some("logins") => self.login.clone(),
            Some("sandboxes") => self.sandbox.clone(),
            Some("volumes") => self.volume.clone(),
            Some("snippets") => self.snippet.clone(),
            Some("previews") => self.preview.clone(),
            Some("snapshots") => self.snapshot.clone(),
            Some("device") => self.user_code.clone(),
            other => panic!("{} {}: no foreign object of kind {other:?} is tried", route.method, route.path),
        }
    }

    fn all(&self) -> Vec<String> {
        let Self { machine, join_token, login, user_code, sandbox, volume, snapshot, snippet, preview } =
            self;
        let others =
            [join_token, login, user_code, sandbox, volume, snapshot, snippet, preview].map(String::clone);
        std::iter::once(machine.to_string()).chain(others).collect()
    }
}

/// A body that would do if the object were the caller's.
fn body_for(route: &Route, theirs: &Belongings) -> Value {
    match (route.method.as_str(), route.path.as_str()) {
        ("PATCH", "/api/machines/{id}") => json!({ "name": "taken-over", "tags": ["x"] }),
        ("PATCH", "/api/sandboxes/{id}") => json!({ "name": "taken-over", "cpus_milli": 100 }),
        ("PUT", "/api/snippets/{id}") => json!({ "name": "taken-over", "body": "x" }),
        ("POST", "/api/previews") => json!({ "machine": theirs.machine, "port": 3000 }),
        ("POST", "/api/previews/{id}/share") => json!({ "minutes": 60 }),
        ("POST", "/api/tickets") => {
            json!({ "machine": theirs.machine, "session": Uuid::new_v4(), "caps": ["terminal"], "key": "A".repeat(43) })
        }
        _ => json!({}),
    }
}

on_both_databases! {
    fn bu_01_tenant_matrix(app) {
        let mut ada = app.signed_in("ada@example.org");
        let eve = app.signed_in("eve@example.org");
        let theirs = Belongings::of(app, &mut ada);
        let before = (ada.get("/api/machines").json(), ada.get("/api/join-tokens").json(), ada.get("/api/logins").json());
        let page = [("x-rexec-csrf", "1"), ("content-type", "application/json")];
        for route in routes().into_iter().filter(|route| route.signed_in) {
            let body = body_for(&route, &theirs).to_string();
            if route.path == "/api/me/preferences/{key}" {
                // A key is a word and nobody's object; whose preference it becomes is tried in `preferences`.
                continue;
            }
            if route.has_parameter() || route.path == "/api/tickets" || (route.method == "POST" && route.path == "/api/previews") {
                let path = if route.has_parameter() { route.with(&theirs.id_for(&route)) } else { route.path.clone() };
                eve.send(&route.method, &path, &page, body.as_bytes()).problem(404, "not_found");
            } else if route.path == "/api/samples" {
                let asked = format!("{}?machines={}", route.path, theirs.machine);
                assert_eq!(eve.get(&asked).expect(200).json(), json!([]));
            } else if route.method == "GET" && route.path != "/api/events" {
                let seen = eve.get(&route.path).expect(200).text();
                for id in theirs.all() {
                    assert!(!seen.contains(&id), "{} shows {id}", route.path);
                }
            } else {
                // Routes that name no object: the caller's own organisation is all they reach.
                let own = ["POST /api/join-tokens", "POST /api/sandboxes", "DELETE /api/logins/current", "GET /api/events", "POST /api/snippets", "POST /api/snippets/import"];
                assert!(own.contains(&format!("{} {}", route.method, route.path).as_str()), "{route:?} has no row in the matrix");
            }
        }
        let after = (ada.get("/api/machines").json(), ada.get("/api/join-tokens").json(), ada.get("/api/logins").json());
        assert_eq!(before, after, "nothing of hers has changed");
    }

    fn bu_01_a_foreign_object_is_answered_like_one_that_never_was(app) {
        let mut ada = app.signed_in("ada@example.org");
        let eve = app.signed_in("eve@example.org");
        let theirs = ada.enrol("box").machine;
        let mut answers = [theirs, Uuid::new_v4()].map(|id| eve.get(&format!("/api/machines/{id}")).json());
        for answer in &mut answers {
            answer["request_id"] = json!(null);
        }
        assert_eq!(answers[0], answers[1]);
    }

    fn bu_01_events_stay_in_their_organisation(app) {
        let mut ada = app.signed_in("ada@example.org");
        let eve = app.signed_in("eve@example.org");
        let mut hers = eve.events();
        assert_eq!(hers.expect("hello"), json!({ "machines": [], "sandboxes": [] }));
        let agent = ada.enrol("box");
        app.broker_says(FromBroker::TunnelDown { machine: agent.machine, tunnel: 1, reason: String::new() });
        ada.patch(&format!("/api/machines/{}", agent.machine), &json!({ "name": "renamed" })).expect(200);
        ada.delete(&format!("/api/machines/{}", agent.machine)).expect(204);
        // Her own sign-out is the next thing she hears.
        eve.delete("/api/logins/current").expect(204);
        hers.expect("signed_out");
        assert!(hers.next().is_none());
    }
}
