//! Brokers that stand alone: who is one, what the credential is good for, whose machines are where.

use rexec_control::brokers::rows;
use rexec_control::db;
use rexec_control::presence::{standing, take_from};
use rexec_shared::broker_link::{FromBroker, LINK_PATH};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Browser, TestAgent, TestApp};
use crate::policies::routes;
use crate::wire::Answer;

const UPGRADE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Adds a broker; its id and its credential.
fn add(app: &TestApp, name: &str) -> (Uuid, String) {
    app.block_on(async {
        let tx = db::write(app.app().db()).await.expect("a transaction");
        let (row, credential) =
            rows::add(&tx, app.app().vault(), name, app.app().now()).await.expect("added");
        tx.commit().await.expect("committed");
        (row.id, credential.expose().clone())
    })
}

/// Asks for the link with this credential, without asking for a WebSocket: a good one is told to.
fn knock(app: &TestApp, credential: &str, ip: &str) -> Answer {
    let bearer = format!("Bearer {credential}");
    app.browser().from(ip).send("GET", LINK_PATH, &[("authorization", &bearer)], b"")
}

fn up(agent: &TestAgent, tunnel: u64) -> FromBroker {
    FromBroker::TunnelUp {
        machine: agent.machine,
        org: agent.org,
        tunnel,
        address: format!("192.0.2.{tunnel}:4433"),
        transport: "quic".to_owned(),
        transport_reason: None,
        agent_version: "0.1.0".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        hostname: "box".to_owned(),
        sessions: Vec::new(),
    }
}

fn down(agent: &TestAgent, tunnel: u64) -> FromBroker {
    FromBroker::TunnelDown { machine: agent.machine, tunnel, reason: "idle".to_owned() }
}

fn shown(ada: &Browser<'_>, agent: &TestAgent) -> Value {
    ada.get(&format!("/api/machines/{}", agent.machine)).expect(200).json()
}

on_both_databases! {
    fn br_06_only_a_brokers_own_credential_opens_the_link(app) {
        let (_, good) = add(app, "a");
        let (_, other) = add(app, "b");
        knock(app, &good, "192.0.2.1").problem(426, "websocket_required");
        knock(app, &other, "192.0.2.1").problem(426, "websocket_required");
        let longer = format!("{good}x");
        let wrong = ["", "rexec_broker_", &longer, &good[..good.len() - 1], &good.to_uppercase(), &good[13..]];
        for (n, wrong) in wrong.iter().enumerate() {
            knock(app, wrong, &format!("192.0.2.{}", n + 10)).problem(401, "broker_unknown");
        }
        let basic = format!("Basic {good}");
        let ada = app.browser();
        ada.send("GET", LINK_PATH, &[("authorization", &basic)], b"").problem(401, "broker_unknown");
        ada.send("GET", LINK_PATH, &UPGRADE, b"").problem(401, "broker_unknown");
        ada.send("GET", &format!("{LINK_PATH}?token={good}"), &UPGRADE, b"").problem(401, "broker_unknown");
        let removed = app.block_on(rows::remove(app.app().db(), "a", app.app().now())).expect("removed");
        assert!(removed.is_some());
        knock(app, &good, "192.0.2.1").problem(401, "broker_unknown");
        knock(app, &other, "192.0.2.1").problem(426, "websocket_required");
        let (_, again) = add(app, "a");
        assert_ne!(again, good, "a name may be used again, a credential not");
    }

    fn a_machine_is_where_its_newest_tunnel_is_and_an_old_brokers_word_changes_nothing(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let ((a, _), (b, _)) = (add(app, "a"), add(app, "b"));
        let says = |broker, message| app.block_on(take_from(app.app(), broker, message)).expect("taken");
        says(Some(a), up(&agent, 1));
        says(Some(b), up(&agent, 2));
        says(Some(a), down(&agent, 1));
        says(Some(a), down(&agent, 2));
        assert_eq!(shown(&ada, &agent)["address"], "192.0.2.2:4433", "it is not a's to take down");
        says(Some(a), up(&agent, 1));
        app.block_on(standing(app.app(), Some(a), &[])).expect("taken");
        assert_eq!(shown(&ada, &agent)["online"], true, "nor is what a has not");
        app.block_on(standing(app.app(), Some(b), &[agent.machine])).expect("taken");
        assert_eq!(shown(&ada, &agent)["online"], true);
        says(Some(b), FromBroker::Standing { machines: vec![Uuid::new_v4()] });
        assert_eq!(shown(&ada, &agent)["online"], false, "what b has no more is offline");
        says(None, up(&agent, 1));
        assert_eq!(shown(&ada, &agent)["online"], true, "whatever number comes after an end");
    }
}

#[test]
fn br_06_a_brokers_credential_is_worth_nothing_at_any_other_address() {
    let app = TestApp::on_sqlite();
    let (_, credential) = add(&app, "a");
    let bearer = format!("Bearer {credential}");
    let cookie = format!("rexec_login={credential}");
    let id = Uuid::new_v4().to_string();
    let mut seen = 0;
    let more =
        ["/api/openapi.json", "/viewer", "/api/nothing"].map(|path| ("GET".to_owned(), path.to_owned()));
    let all = routes().into_iter().map(|route| (route.method.clone(), route.with(&id)));
    for (method, path) in all.chain(more) {
        let plain = [("content-type", "application/json"), ("x-rexec-csrf", "1")];
        let without = app.browser().send(&method, &path, &plain, b"{}");
        for proof in [("authorization", bearer.as_str()), ("cookie", cookie.as_str())] {
            let with = app.browser().send(&method, &path, &[plain[0], plain[1], proof], b"{}");
            assert_eq!(with.status, without.status, "{method} {path} with {}", proof.0);
        }
        seen += 1;
    }
    assert!(seen > 20, "{seen} routes");
}

#[test]
fn br_06_credentials_are_not_tried_out() {
    let app = TestApp::on_sqlite();
    let (_, good) = add(&app, "a");
    let mut answers = (0..40).map(|n| knock(&app, &format!("rexec_broker_{n}"), "192.0.2.7").status);
    assert!(answers.any(|status| status == 429), "whoever guesses is slowed down");
    knock(&app, &good, "192.0.2.7").problem(429, "rate_limited");
    for _ in 0..40 {
        knock(&app, &good, "192.0.2.8").problem(426, "websocket_required");
    }
}

#[test]
fn ws_01_the_page_may_talk_to_the_brokers_there_are_and_to_no_other() {
    let app = TestApp::with(|settings| settings.web_dir = Some(settings.data_dir.join("web")));
    std::fs::create_dir(app.data_dir().join("web")).expect("made");
    std::fs::write(app.data_dir().join("web/index.html"), "<!doctype html>").expect("written");
    let policy = || {
        let page = app.browser().get("/");
        page.header("content-security-policy").expect("a policy").to_owned()
    };
    assert!(!policy().contains("wss://broker.example"));
    let (id, _) = add(&app, "a");
    app.block_on(async {
        let mut rows = rows::all(app.app().db()).await.expect("read");
        rows[0].viewer_url = Some("https://broker.example".to_owned());
        assert_eq!(rows[0].id, id);
        app.app().parts().brokers.learn(rows);
    });
    assert!(policy().contains(" wss://broker.example "), "{}", policy());
}

#[test]
fn without_any_broker_a_ticket_is_refused_with_a_reason() {
    let app = TestApp::with(|settings| settings.embedded_broker = false);
    let mut ada = app.signed_in("ada@example.org");
    let agent = ada.enrol("box");
    let wish = json!({
        "machine": agent.machine, "session": Uuid::new_v4(), "caps": ["terminal"], "key": "A".repeat(43),
    });
    ada.post("/api/tickets", &wish).problem(503, "no_broker");
    ada.get(&format!("/api/machines/{}/broker", agent.machine)).problem(503, "no_broker");
    ada.get("/readyz").expect(200);
}
