//! Tickets: checked here with the verifier that brokers and session hosts use.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rexec_control::web_identity::WebIdentities;
use rexec_shared::ticket::{Capability, Now, PublicKey, Signer, TicketError, Verifier};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Browser, TestAgent, TestApp};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn wish(agent: &TestAgent, session: Uuid) -> Value {
    json!({ "machine": agent.machine, "session": session, "caps": ["terminal", "view"], "key": KEY })
}

fn issue(ada: &mut Browser<'_>, agent: &TestAgent, session: Uuid) -> Value {
    ada.post("/api/tickets", &wish(agent, session)).expect(201).json()
}

/// A session host that pinned its key at enrolment.
fn verifier(agent: &TestAgent) -> Verifier {
    let key = agent.answer["tunnel"]["ticket_key"].as_str().expect("a key");
    Verifier::new(PublicKey::parse(key).expect("a key"), agent.org, Instant::now())
}

fn now(app: &TestApp) -> Now {
    Now { unix_ms: app.app().now().unix_ms(), instant: Instant::now() }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

on_both_databases! {
    fn a_ticket_opens_once_and_only_what_it_names(app) {
        let mut ada = app.signed_in("ada@example.org");
        let (agent, other, session) = (ada.enrol("box"), ada.enrol("other"), Uuid::new_v4());
        let issued = issue(&mut ada, &agent, session);
        assert_eq!((&issued["broker_url"], &issued["session"]), (&json!("/viewer"), &json!(session)));
        let (ticket, now) = (text(&issued["ticket"]), now(app));
        let mut host = verifier(&agent);
        assert_eq!(host.check(ticket, other.machine, session, true, now), Err(TicketError::Audience));
        assert_eq!(host.check(ticket, agent.machine, Uuid::new_v4(), true, now), Err(TicketError::Session));
        let claims = host.check(ticket, agent.machine, session, true, now).expect("good");
        assert_eq!((claims.caps.as_slice(), claims.cnf.as_str()), ([Capability::Terminal, Capability::View].as_slice(), KEY));
        assert_eq!(claims.act.name, "Ada");
        assert_eq!(host.check(ticket, agent.machine, session, true, now), Err(TicketError::Used));
        let late = Now { unix_ms: now.unix_ms + 61_000, ..now };
        assert_eq!(verifier(&agent).check(ticket, agent.machine, session, true, late), Err(TicketError::Expired));
    }

    fn a_ticket_tells_browsers_the_door_over_udp_and_the_page_may_go_there(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let issued = issue(&mut ada, &agent, Uuid::new_v4());
        let broker = app.app().parts().broker.as_ref().expect("the embedded one");
        let door = format!("https://127.0.0.1:{}", broker.tunnel_addr().port());
        assert_eq!(issued["web_transport"]["url"], json!(format!("{door}/viewer")));
        let kept = std::fs::read_to_string(app.data_dir().join("keys/web-transport.pem")).expect("kept");
        let kept = WebIdentities::from_pem(&kept).expect("two certificates");
        assert_eq!(issued["web_transport"]["hashes"], json!(kept.hashes().expect("hashes")));
        let policy = ada.get("/").header("content-security-policy").expect("a policy").to_owned();
        let connect = policy.split("; ").find(|part| part.starts_with("connect-src ")).expect("a directive");
        let own = app.app().public_origin().replacen("http", "ws", 1);
        assert_eq!(connect, format!("connect-src 'self' {own} {door}"));
    }

    fn a_resume_capability_attaches_until_the_login_ends_and_opens_nothing(app) {
        let mut ada = app.signed_in("ada@example.org");
        let (agent, session) = (ada.enrol("box"), Uuid::new_v4());
        let issued = issue(&mut ada, &agent, session);
        let (resume, now, mut host) = (text(&issued["resume"]), now(app), verifier(&agent));
        assert_eq!(host.check(resume, agent.machine, session, true, now), Err(TicketError::ResumeOnly));
        for _ in 0..3 {
            host.check(resume, agent.machine, session, false, now).expect("again and again");
        }
        let week = Now { unix_ms: now.unix_ms + 7 * 24 * 3_600_000, ..now };
        assert_eq!(host.check(resume, agent.machine, session, false, week), Err(TicketError::Expired));
    }

    fn signing_out_or_removing_the_machine_voids_what_was_issued(app) {
        let mut ada = app.signed_in("ada@example.org");
        let (agent, session) = (ada.enrol("box"), Uuid::new_v4());
        let by_login = issue(&mut ada, &agent, session);
        ada.delete("/api/logins/current").expect(204);
        let mut ada = app.sign_in("ada@example.org", crate::harness::PASSWORD);
        // Issued in a later millisecond than the sign-out.
        app.advance(Duration::from_millis(5));
        let by_machine = issue(&mut ada, &agent, session);
        let (now, mut host) = (now(app), verifier(&agent));
        let feed = feed(app, &agent, 1);
        host.handle_feed(&feed, Instant::now()).expect("a newer feed");
        assert_eq!(host.check(text(&by_login["resume"]), agent.machine, session, false, now), Err(TicketError::Revoked));
        host.check(text(&by_machine["resume"]), agent.machine, session, false, now).expect("another login");
        ada.delete(&format!("/api/machines/{}", agent.machine)).expect(204);
        host.handle_feed(&self::feed(app, &agent, 2), Instant::now()).expect("a newer feed");
        assert_eq!(host.check(text(&by_machine["resume"]), agent.machine, session, false, now), Err(TicketError::Revoked));
        ada.post("/api/tickets", &wish(&agent, session)).problem(404, "not_found");
    }

    fn bu_03_a_login_that_ends_while_its_request_arrives_gets_no_ticket(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let body = wish(&agent, Uuid::new_v4()).to_string();
        let cookie = ada.cookie.clone().expect("signed in");
        let mut slow = TcpStream::connect(app.addr()).expect("connected");
        slow.set_read_timeout(Some(Duration::from_secs(20))).expect("a deadline");
        let head = format!(
            "POST /api/tickets HTTP/1.0\r\ncookie: {cookie}\r\nx-rexec-csrf: 1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        slow.write_all(head.as_bytes()).expect("sent");
        slow.write_all(&body.as_bytes()[..10]).expect("sent");
        // Time to find the login live; were it too short, the answer would be the same.
        std::thread::sleep(Duration::from_millis(300));
        ada.delete("/api/logins/current").expect(204);
        slow.write_all(&body.as_bytes()[10..]).expect("sent");
        let mut answer = String::new();
        slow.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.0 401"), "{answer}");
    }

    fn bu_03_more_revocations_than_a_feed_holds_bring_nothing_back_to_life(app) {
        let mut ada = app.signed_in("ada@example.org");
        let (agent, session) = (ada.enrol("box"), Uuid::new_v4());
        let first = issue(&mut ada, &agent, session);
        let person: Uuid = ada.get("/api/me").json()["user"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        ada.delete("/api/logins/current").expect(204);
        app.advance(Duration::from_millis(5));
        crate::crowds::end_logins(app, agent.org, person, 600);
        let scope = rexec_control::scope::Scope::of(agent.org);
        let told = app.block_on(rexec_control::revocation::in_force(app.app().db(), scope, app.app().now())).expect("read");
        assert!(told.len() <= rexec_shared::limits::FEED_ENTRIES_MAX, "{}", told.len());
        assert!(told.iter().any(|entry| entry.principal == format!("user:{person}")));
        let mut host = verifier(&agent);
        host.handle_feed(&feed(app, &agent, 1), Instant::now()).expect("a newer feed");
        let void = host.check(text(&first["resume"]), agent.machine, session, false, now(app));
        assert_eq!(void, Err(TicketError::Revoked));
        let mut ada = app.sign_in("ada@example.org", crate::harness::PASSWORD);
        app.advance(Duration::from_millis(5));
        let fresh = issue(&mut ada, &agent, session);
        host.check(text(&fresh["resume"]), agent.machine, session, false, now(app)).expect("a later login");
    }

    fn one_person_cannot_fill_the_audit_with_tickets(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let person: Uuid = ada.get("/api/me").json()["user"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        while app.app().parts().ticket_budgets.spend(person).is_ok() {}
        ada.post("/api/tickets", &wish(&agent, Uuid::new_v4())).problem(429, "rate_limited");
    }

    fn st_05_a_broker_that_makes_a_ticket_up_itself_opens_nothing(app) {
        let mut ada = app.signed_in("ada@example.org");
        let (agent, session) = (ada.enrol("box"), Uuid::new_v4());
        let issued = issue(&mut ada, &agent, session);
        let (ticket, now, mut host) = (text(&issued["ticket"]), now(app), verifier(&agent));
        let mut claims = verifier(&agent).check(ticket, agent.machine, session, true, now).expect("good");
        claims.jti = Uuid::new_v4();
        let forger = Signer::from_pkcs8(&Signer::generate().expect("a key")).expect("a signer");
        assert_eq!(host.check(&forger.ticket(&claims), agent.machine, session, true, now), Err(TicketError::Signature));
    }

    fn bu_14_a_member_who_may_only_look_gets_no_more(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        make_viewer(app, &agent);
        let (session, now) = (Uuid::new_v4(), now(app));
        let issued = issue(&mut ada, &agent, session);
        let claims = verifier(&agent).check(text(&issued["ticket"]), agent.machine, session, true, now).expect("good");
        assert_eq!(claims.caps, [Capability::View]);
        let mut only_terminal = wish(&agent, session);
        only_terminal["caps"] = json!(["terminal", "exec", "files.write"]);
        ada.post("/api/tickets", &only_terminal).problem(403, "forbidden");
        ada.post("/api/join-tokens", &json!({})).problem(403, "forbidden");
        ada.patch(&format!("/api/machines/{}", agent.machine), &json!({ "name": "x" })).problem(403, "forbidden");
        ada.delete(&format!("/api/machines/{}", agent.machine)).problem(403, "forbidden");
        ada.get("/api/machines").expect(200);
    }

    fn a_wish_that_makes_no_sense_names_its_field(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        for (field, value) in [("key", json!("short")), ("caps", json!([])), ("caps", json!(["root"])), ("session", json!("x"))] {
            let mut wish = wish(&agent, Uuid::new_v4());
            wish[field] = value;
            let problem = ada.post("/api/tickets", &wish).problem(422, "invalid");
            assert!(problem["field"].as_str().is_some_and(|at| at.starts_with(field)), "{problem}");
        }
    }
}

/// The organisation's feed as it would be signed now.
fn feed(app: &TestApp, agent: &TestAgent, seq: u64) -> String {
    let scope = rexec_control::scope::Scope::of(agent.org);
    let now = app.app().now();
    let entries =
        app.block_on(rexec_control::revocation::in_force(app.app().db(), scope, now)).expect("read");
    let feed = rexec_shared::ticket::Feed { org: agent.org, seq, issued: now.unix_ms(), entries };
    app.app().parts().keys.signer.feed(&feed)
}

fn make_viewer(app: &TestApp, agent: &TestAgent) {
    use rexec_control::entity::{Role, membership};
    use sea_orm::sea_query::Expr;
    use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
    let change = membership::Entity::update_many()
        .col_expr(membership::Column::Role, Expr::value(Role::Viewer))
        .filter(membership::Column::OrganisationId.eq(agent.org));
    app.block_on(change.exec(app.app().db())).expect("changed");
}

#[test]
fn bu_05_the_audit_names_the_viewer_and_not_the_proxy_before_us() {
    let app = TestApp::on_sqlite();
    let mut ada = app.signed_in("ada@example.org");
    let agent = ada.enrol("box");
    let issued = issue(&mut ada, &agent, Uuid::new_v4());
    // A ticket for one session and a frame that asks for another: refused at once, and written down.
    let frame = open_frame(text(&issued["ticket"]), Uuid::new_v4());
    let mut socket = TcpStream::connect(app.addr()).expect("connected");
    let head = format!(
        "GET /viewer HTTP/1.1\r\nhost: localhost\r\norigin: {}\r\nx-forwarded-for: 203.0.113.77\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        app.origin()
    );
    socket.write_all(head.as_bytes()).expect("sent");
    socket.write_all(&masked(&frame)).expect("sent");
    let until = Instant::now() + Duration::from_secs(10);
    let attached = loop {
        let found = attach_address(&app, &agent);
        if found.is_some() || Instant::now() > until {
            break found;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(attached.as_deref(), Some("203.0.113.77"));
}

/// `Open`, as a viewer sends it first.
fn open_frame(ticket: &str, session: Uuid) -> Vec<u8> {
    let body = json!({ "ticket": ticket, "session": session }).to_string();
    let length = body.len();
    let low = u8::try_from(length & 0x7f).expect("seven bits") | 0x80;
    let high = u8::try_from(length >> 7).expect("short");
    [&[rexec_shared::message::OPEN, low, high][..], body.as_bytes()].concat()
}

/// One binary WebSocket message, masked with zeroes (RFC 6455 §5.2).
fn masked(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
    [&[0x82, 0xfe][..], &length, &[0; 4], payload].concat()
}

fn attach_address(app: &TestApp, agent: &TestAgent) -> Option<String> {
    use rexec_control::entity::audit_entry;
    use sea_orm::{ColumnTrait as _, QueryFilter as _};
    let entry = rexec_control::scope::Scope::of(agent.org)
        .rows::<audit_entry::Entity>()
        .filter(audit_entry::Column::Action.eq("session.attach"));
    app.block_on(entry.one(app.app().db())).expect("read").map(|entry| entry.ip)
}
