//! The server around the API: health, files, limits, an orderly end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::TestApp;

fn with_web(files: &[(&str, &str)]) -> (TestApp, tempfile::TempDir) {
    let web = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(web.path().join("assets")).expect("made");
    for (name, text) in files {
        std::fs::write(web.path().join(name), text).expect("written");
    }
    let dir = web.path().to_owned();
    (TestApp::with(|settings| settings.web_dir = Some(dir)), web)
}

#[test]
fn pages_assets_and_their_caching() {
    let files = [
        ("index.html", "<!doctype html>page"),
        ("assets/a-1.js", "code"),
        ("assets/a-1.js.gz", "packed"),
        ("icon.svg", "<svg/>"),
    ];
    let (app, _web) = with_web(&files);
    let browser = app.browser();
    for path in [
        "/",
        "/setup",
        "/sign-in",
        "/device?code=BCDF-GHJK",
        "/m/4b0f3a1e-7c8d-4c1e-9a52-0d8a7f3c2b11",
        "/index.html",
    ] {
        let page = browser.get(path).expect(200);
        assert_eq!(
            (page.text().as_str(), page.header("content-type")),
            ("<!doctype html>page", Some("text/html; charset=utf-8"))
        );
        assert_eq!(page.header("cache-control"), Some("no-cache"));
    }
    let etag = browser.get("/").header("etag").expect("a tag").to_owned();
    browser.send("GET", "/", &[("if-none-match", &etag)], b"").expect(304);
    let asset = browser.get("/assets/a-1.js").expect(200);
    assert_eq!((asset.text().as_str(), asset.header("content-encoding")), ("code", None));
    assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let packed = browser.send("GET", "/assets/a-1.js", &[("accept-encoding", "gzip, br")], b"").expect(200);
    assert_eq!((packed.text().as_str(), packed.header("content-encoding")), ("packed", Some("gzip")));
    assert_eq!(packed.header("content-type"), Some("text/javascript; charset=utf-8"));
    browser.get("/assets/gone.js").problem(404, "not_found");
    assert_eq!(browser.get("/..%2f..%2fetc/passwd").text(), "<!doctype html>page");
    let head = browser.send("HEAD", "/", &[], b"").expect(200);
    assert!(head.body.is_empty());
}

#[test]
fn without_a_web_app_the_page_says_so_and_readiness_fails() {
    let (app, _web) = with_web(&[]);
    let page = app.browser().get("/").expect(503);
    assert!(page.text().contains("WEB_DIR"), "{}", page.text());
    let ready = app.browser().get("/readyz").expect(503).json();
    assert_eq!(ready["checks"], json!({ "database": "ok", "broker": "ok", "web": "failed" }));
    assert_eq!(app.browser().get("/healthz").expect(200).json(), json!({ "status": "ok" }));
}

#[test]
fn readiness_and_metrics_tell_the_truth() {
    let (app, _web) = with_web(&[("index.html", "page")]);
    assert_eq!(app.browser().get("/readyz").expect(200).json()["status"], "ok");
    app.signed_in("ada@example.org");
    let metrics = app.browser().get("/metrics").expect(200).text();
    assert!(metrics.contains("rexec_control_sign_ins_total{outcome=\"ok\"} 1"), "{metrics}");
    assert!(
        metrics.contains("route=\"/readyz\",status=\"200\"") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
}

#[test]
fn readiness_notices_a_broker_that_has_ended() {
    let (app, _web) = with_web(&[("index.html", "page")]);
    app.browser().get("/readyz").expect(200);
    let broker = app.app().parts().broker.as_ref().expect("embedded");
    app.block_on(broker.drain(rexec_broker::Drain::Alone));
    let ready = app.browser().get("/readyz").expect(503).json();
    assert_eq!(ready["checks"], json!({ "database": "ok", "broker": "failed", "web": "ok" }));
}

#[test]
fn bu_05_nothing_but_health_is_answered_under_another_name() {
    let app = TestApp::with(|settings| settings.public_url = "https://rexec.example".parse().ok());
    let ask = |path: &str, host: &str| crate::wire::send(app.addr(), "GET", path, &[("host", host)], b"");
    for path in ["/", "/api/installation", "/viewer", "/install-agent.sh", "/api/nothing"] {
        let problem = ask(path, "evil.test").problem(421, "wrong_host");
        assert!(
            problem["hint"].as_str().is_some_and(|hint| hint.contains("https://rexec.example")),
            "{problem}"
        );
    }
    for host in ["rexec.example", "Rexec.Example:443", "localhost:1234", "127.0.0.1"] {
        ask("/api/installation", host).expect(200);
    }
    ask("/healthz", "evil.test").expect(200);
    assert_ne!(ask("/readyz", "10.0.0.9:8080").status, 421);
}

#[test]
fn the_installer_carries_this_installations_address() {
    let app = TestApp::with(|settings| settings.public_url = "https://rexec.example".parse().ok());
    let script = app.browser().get("/install-agent.sh").expect(200);
    assert!(
        script.text().starts_with("#!") && script.text().contains("https://rexec.example"),
        "{}",
        script.text()
    );
    assert!(!script.text().contains("__REXEC_SERVER__"));
}

#[test]
fn agents_are_served_with_their_hash_and_nothing_else_is() {
    let app = TestApp::on_sqlite();
    let agents = app.data_dir().join("agents");
    std::fs::create_dir(&agents).expect("made");
    std::fs::write(agents.join("rexec-agent-linux-arm64"), b"abc").expect("written");
    std::fs::write(app.data_dir().join("secret"), b"canary").expect("written");
    let browser = app.browser();
    let agent = browser.get("/download/agent/linux-arm64").expect(200);
    assert_eq!((agent.body.as_slice(), agent.header("content-length")), (b"abc".as_slice(), Some("3")));
    let hash = browser.get("/download/agent/linux-arm64.sha256").expect(200).text();
    assert_eq!(
        hash,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  rexec-agent-linux-arm64\n"
    );
    for path in
        ["linux-amd64", "plan9-amd64", "linux-arm64.sha256.sha256", "..%2fsecret", "linux-..", "secret"]
    {
        browser.get(&format!("/download/agent/{path}")).problem(404, "not_found");
    }
}

#[test]
fn what_is_kept_is_for_its_owner_alone() {
    let app = TestApp::on_sqlite();
    app.signed_in("ada@example.org");
    let mode = |name: &str| {
        std::fs::metadata(app.data_dir().join(name)).expect("there").permissions().mode() & 0o777
    };
    assert_eq!(mode("keys"), 0o700);
    for file in [
        "keys/ca.pem",
        "keys/ticket.pk8",
        "keys/jwt-secret",
        "keys/broker-reset.key",
        "test.sqlite",
        "test.sqlite-wal",
    ] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn bu_13_a_peer_that_never_finishes_its_head_is_let_go() {
    let app = TestApp::on_sqlite();
    let mut slow = TcpStream::connect(app.addr()).expect("connected");
    slow.set_read_timeout(Some(Duration::from_secs(20))).expect("a deadline");
    slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").expect("sent");
    let began = Instant::now();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).expect("closed in time");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn an_orderly_end_ends_event_streams_and_takes_no_new_requests() {
    let mut app = TestApp::on_sqlite();
    let mut events = app.signed_in("ada@example.org").events();
    events.expect("hello");
    let (addr, began) = (app.addr(), Instant::now());
    app.stop();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(events.next().is_none());
    assert!(TcpStream::connect(addr).is_err());
}
