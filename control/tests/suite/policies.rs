//! Policies of every route, taken from the route table itself: a new route is tested without anybody remembering it.

use serde_json::{Value, json};

use crate::harness::TestApp;
use crate::wire::Answer;

/// A route of the document.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) method: String,
    /// As in the document, parameters in braces.
    pub(crate) path: String,
    /// Whether a login is demanded.
    pub(crate) signed_in: bool,
}

impl Route {
    /// The path with `id` in place of its parameter.
    pub(crate) fn with(&self, id: &str) -> String {
        self.path.replace("{id}", id).replace("{user_code}", id).replace("{key}", id)
    }

    pub(crate) fn has_parameter(&self) -> bool {
        self.path.contains('{')
    }

    fn is_changing(&self) -> bool {
        self.method != "GET"
    }

    fn some_path(&self) -> String {
        self.with(if self.path.contains("user_code") {
            "BCDF-GHJK"
        } else {
            "4b0f3a1e-7c8d-4c1e-9a52-0d8a7f3c2b11"
        })
    }
}

/// Every route of the document; each must say who may use it.
pub(crate) fn routes() -> Vec<Route> {
    let document: Value =
        serde_json::from_str(&rexec_control::api::document().expect("a document")).expect("JSON");
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let security =
                operation["security"].as_array().unwrap_or_else(|| panic!("{method} {path} names no policy"));
            let signed_in = security.iter().any(|way| way.get("login").is_some());
            routes.push(Route { method: method.to_uppercase(), path: path.clone(), signed_in });
        }
    }
    routes
}

fn changing() -> Vec<Route> {
    routes().into_iter().filter(Route::is_changing).collect()
}

#[test]
fn in_03_every_route_that_demands_a_login_refuses_without_one() {
    let app = TestApp::on_sqlite();
    let page = [("x-rexec-csrf", "1"), ("content-type", "application/json")];
    let mut seen = 0;
    for route in routes().into_iter().filter(|route| route.signed_in) {
        app.browser().send(&route.method, &route.some_path(), &page, b"{}").problem(401, "not_signed_in");
        seen += 1;
    }
    assert!(seen >= 15, "{seen} routes demand a login");
    let open: Vec<String> = routes()
        .into_iter()
        .filter(|route| !route.signed_in)
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert_eq!(
        open,
        [
            "POST /api/agent/enrol",
            "POST /api/agent/renew",
            "POST /api/agent/unregister",
            "POST /api/device",
            "POST /api/device/poll",
            "GET /api/installation",
            "POST /api/logins",
            "POST /api/setup",
        ],
        "an open route is a decision: write it down here"
    );
}

/// What another site can make a browser send; each alone must be enough to refuse.
const TRICKS: [(&str, &str); 11] = [
    ("origin", "https://evil.test"),
    ("origin", "null"),
    ("origin", "http://localhost.evil.test"),
    ("origin", "http://localhost:1"),
    ("sec-fetch-site", "cross-site"),
    ("sec-fetch-site", "same-site"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain; application/json"),
    ("content-type", "multipart/form-data; boundary=x"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("x-rexec-csrf", ""),
];

on_both_databases! {
    fn ws_02_no_changing_route_obeys_another_site(app) {
        let ada = app.signed_in("ada@example.org");
        let (origin, machines) = (app.origin(), ada.get("/api/machines").json());
        for route in changing() {
            let path = route.some_path();
            for trick in TRICKS {
                let mut headers = vec![("origin", origin.as_str()), ("content-type", "application/json"), ("x-rexec-csrf", "1")];
                headers.retain(|(name, _)| *name != trick.0);
                headers.push(trick);
                let answer = ada.send(&route.method, &path, &headers, b"{}");
                assert_refused(&route, trick, &answer);
            }
            let bare = ada.send(&route.method, &path, &[("content-type", "application/json")], b"{}");
            assert_refused(&route, ("no", "header of scripts"), &bare);
        }
        ada.get("/api/me").expect(200);
        assert_eq!(ada.get("/api/machines").json(), machines);
    }

    fn ws_02_a_reading_method_changes_nothing_whatever_it_claims(app) {
        let ada = app.signed_in("ada@example.org");
        for (name, value) in [("x-http-method-override", "DELETE"), ("x-method-override", "POST"), ("x-http-method", "DELETE")] {
            ada.send("GET", "/api/logins/current", &[(name, value)], b"").problem(405, "method_not_allowed");
            ada.send("GET", "/api/logins?_method=DELETE", &[(name, value)], b"").expect(200);
        }
        ada.get("/api/me").expect(200);
    }
}

fn assert_refused(route: &Route, trick: (&str, &str), answer: &Answer) {
    assert_eq!(answer.status, 403, "{} {} with {trick:?}: {}", route.method, route.path, answer.text());
    answer.problem(403, "csrf");
}

#[test]
fn ws_02_a_sign_in_cannot_be_forged_either() {
    let app = TestApp::on_sqlite();
    app.person("mallory@example.org");
    let body = json!({ "email": "mallory@example.org", "password": crate::harness::PASSWORD }).to_string();
    for trick in [("origin", "https://evil.test"), ("sec-fetch-site", "cross-site")] {
        let headers = [("content-type", "application/json"), trick];
        app.browser().send("POST", "/api/logins", &headers, body.as_bytes()).problem(403, "csrf");
    }
    let plain = [("content-type", "text/plain")];
    app.browser().send("POST", "/api/logins", &plain, body.as_bytes()).problem(415, "unsupported_media_type");
}

#[test]
fn ws_01_no_other_site_can_listen_to_events() {
    let app = TestApp::on_sqlite();
    let ada = app.signed_in("ada@example.org");
    for site in ["cross-site", "same-site"] {
        ada.send("GET", "/api/events", &[("sec-fetch-site", site)], b"").problem(403, "csrf");
    }
}

#[test]
fn ws_01_the_viewers_socket_answers_to_our_own_pages_alone() {
    let app = TestApp::on_sqlite();
    let ada = app.signed_in("ada@example.org");
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for origin in ["https://evil.test", "null", "http://localhost", "http://localhost.evil.test", ""] {
        let mut headers = upgrade.to_vec();
        headers.push(("origin", origin));
        ada.send("GET", "/viewer", &headers, b"").problem(403, "origin");
    }
    ada.send("GET", "/viewer", &upgrade, b"").problem(403, "origin");
}

#[test]
fn ws_04_no_answer_can_be_framed_sniffed_or_kept() {
    let app = TestApp::on_sqlite();
    let ada = app.signed_in("ada@example.org");
    for path in ["/", "/m/x", "/api/me", "/api/nothing", "/healthz", "/install-agent.sh"] {
        let answer = ada.get(path);
        let header = |name| answer.header(name).unwrap_or_else(|| panic!("{path} lacks {name}"));
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        let kept = header("cache-control");
        assert_eq!(
            kept,
            if ["/", "/m/x"].contains(&path) && answer.status == 200 { "no-cache" } else { "no-store" },
            "{path}"
        );
    }
    let policy = ada.get("/").header("content-security-policy").expect("a policy").to_owned();
    let scripts =
        policy.split(';').find(|part| part.trim().starts_with("script-src")).unwrap_or("script-src 'none'");
    assert!(!scripts.contains("unsafe"), "{policy}");
}
