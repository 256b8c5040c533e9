//! Every error is a problem document.

use serde_json::json;

use crate::harness::TestApp;

#[test]
fn unknown_addresses_and_wrong_methods_are_problems() {
    let app = TestApp::on_sqlite();
    let browser = app.browser();
    for path in [
        "/api",
        "/api/",
        "/api/nothing",
        "/api/machines/",
        "/api/machines/not-a-uuid/x",
        "/assets/missing.js",
    ] {
        browser.get(path).problem(404, "not_found");
    }
    let answer = browser.send("PUT", "/api/machines", &[], b"");
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    browser.send("POST", "/healthz", &[], b"").problem(405, "method_not_allowed");
    browser.send("POST", "/anything", &[], b"").problem(404, "not_found");
}

#[test]
fn an_id_that_is_none_names_nothing() {
    let app = TestApp::on_sqlite();
    let ada = app.signed_in("ada@example.org");
    for id in ["x", "%2e%2e", "00000000-0000-0000-0000-000000000000", "1' or '1'='1"] {
        let path = format!("/api/machines/{}", id.replace(' ', "%20"));
        ada.get(&path).problem(404, "not_found");
    }
}

#[test]
fn a_malformed_body_is_told_where() {
    let app = TestApp::on_sqlite();
    let json = [("content-type", "application/json")];
    let send =
        |body: &[u8], headers: &[(&str, &str)]| app.browser().send("POST", "/api/logins", headers, body);
    let problem = send(b"{\"email\": \"a\",\n  oops}", &json).problem(400, "malformed_json");
    let detail = problem["detail"].as_str().expect("text");
    assert!(detail.starts_with("malformed JSON at line 2, column 3"), "{detail}");
    send(b"", &json).problem(400, "malformed_json");
    assert_eq!(send(br#"{"email":1,"password":"x"}"#, &json).problem(422, "invalid")["field"], "email");
    send(br#"{"email":"x"}"#, &json).problem(422, "invalid");
    send(b"\xff\xfe", &json).problem(400, "malformed_json");
    let deep = [b"{\"x\":".as_slice(), &vec![b'['; 20_000]].concat();
    send(&deep, &json).problem(400, "malformed_json");
    send(b"{}", &[("content-type", "text/plain")]).problem(415, "unsupported_media_type");
    send(b"{}", &[]).problem(415, "unsupported_media_type");
}

#[test]
fn bu_13_an_oversized_body_is_refused_before_it_is_read() {
    let app = TestApp::on_sqlite();
    let big = json!({ "email": "x".repeat(70_000), "password": "" }).to_string();
    let json = [("content-type", "application/json")];
    app.browser().send("POST", "/api/logins", &json, big.as_bytes()).problem(413, "body_too_large");
    let headers = [("content-type", "application/json"), ("content-length", "2147483648")];
    app.browser().send("POST", "/api/logins", &headers, b"").problem(413, "body_too_large");
}

#[test]
fn a_panic_is_answered_like_any_fault_and_keeps_its_words_to_itself() {
    let app = TestApp::on_sqlite();
    let answer = app.browser().get("/api/panic");
    answer.problem(500, "internal");
    assert!(!answer.text().contains("canary"), "{}", answer.text());
    app.browser().get("/healthz").expect(200);
}

#[test]
fn an_id_sent_along_is_not_believed() {
    let app = TestApp::on_sqlite();
    let answer = app.browser().send("GET", "/api/nothing", &[("x-request-id", "mine")], b"");
    assert_ne!(answer.header("x-request-id"), Some("mine"));
}
