//! Presence: right in every order of events.

use rexec_shared::broker_link::{FromBroker, MachineSample};
use rexec_shared::close::CloseCode;
use rexec_shared::tunnel::{Sample, SessionInfo, TransportCause, TransportReason};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Browser, TestAgent};

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

fn session() -> SessionInfo {
    serde_json::from_value(json!({
        "session": Uuid::new_v4(), "kind": "terminal", "title": "vim", "cols": 80, "rows": 24, "viewers": 1,
        "user": Uuid::new_v4(), "created": 1, "exited": null,
    }))
    .expect("a session")
}

fn told(agent: &TestAgent, tunnel: u64, sessions: Vec<SessionInfo>) -> FromBroker {
    FromBroker::Presence { machine: agent.machine, tunnel, sessions, rtt_ms: Some(12.5) }
}

fn uses(agent: &TestAgent, tunnel: u64, cpu_milli: u32) -> FromBroker {
    let sample = Sample {
        cpu_milli,
        cpu_max_milli: 2_000,
        memory_kib: 64,
        memory_max_kib: 128,
        received_kib_s: 1,
        sent_kib_s: 2,
        ..Sample::default()
    };
    FromBroker::Samples { samples: vec![MachineSample { machine: agent.machine, tunnel, sample }] }
}

/// A tunnel over TCP, and why.
fn up_over_tcp(agent: &TestAgent, tunnel: u64, detail: &str) -> FromBroker {
    let mut message = up(agent, tunnel);
    if let FromBroker::TunnelUp { transport, transport_reason, .. } = &mut message {
        *transport = "tcp".to_owned();
        let (cause, detail) = (TransportCause::UdpSilent, detail.to_owned());
        *transport_reason = Some(TransportReason { cause, detail });
    }
    message
}

fn shown(ada: &Browser<'_>, agent: &TestAgent) -> Value {
    ada.get(&format!("/api/machines/{}", agent.machine)).expect(200).json()
}

on_both_databases! {
    fn an_old_tunnels_end_touches_nothing_of_a_newer_one(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let mut events = ada.events();
        assert_eq!(events.expect("hello")["machines"][0]["online"], false);
        app.broker_says(up(&agent, 1));
        assert_eq!(events.expect("machine")["online"], true);
        app.broker_says(up(&agent, 2));
        assert_eq!(events.expect("machine")["address"], "192.0.2.2:4433");
        app.broker_says(told(&agent, 2, vec![session()]));
        assert_eq!(events.expect("machine")["sessions"].as_array().map(Vec::len), Some(1));
        app.broker_says(told(&agent, 1, Vec::new()));
        app.broker_says(down(&agent, 1));
        app.broker_says(up(&agent, 1));
        let machine = shown(&ada, &agent);
        assert_eq!((&machine["online"], &machine["address"]), (&json!(true), &json!("192.0.2.2:4433")));
        assert_eq!((machine["sessions"].as_array().map(Vec::len), &machine["rtt_ms"]), (Some(1), &json!(12.5)));
        app.broker_says(down(&agent, 2));
        let last = events.expect("machine");
        assert_eq!((&last["online"], &last["sessions"]), (&json!(false), &json!([])));
        assert!(last.get("address").is_none() && last["last_seen_at"].is_string());
    }

    fn what_a_machine_uses_is_told_to_its_own_organisation_alone(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let bob = app.signed_in("bob@example.org");
        let mut events = ada.events();
        events.expect("hello");
        app.broker_says(up(&agent, 2));
        events.expect("machine");
        let path = format!("/api/samples?machines={}", agent.machine);
        assert_eq!(ada.get(&path).expect(200).json(), json!([]));
        // An older tunnel's word counts for nothing.
        app.broker_says(uses(&agent, 1, 999));
        app.broker_says(uses(&agent, 2, 500));
        let told = events.expect("samples");
        assert_eq!(told["points"], json!({ agent.machine.to_string(): [500, 64, 1, 2, 0] }));
        let shown = ada.get(&path).expect(200).json();
        assert_eq!((&shown[0]["machine"], &shown[0]["interval_s"]), (&json!(agent.machine), &json!(5)));
        assert_eq!((&shown[0]["cpu_max_milli"], &shown[0]["points"]), (&json!(2_000), &json!([[500, 64, 1, 2, 0]])));
        assert_eq!(bob.get(&path).expect(200).json(), json!([]), "what one may not know of is not there");
        let many: Vec<String> = (0..65).map(|_| Uuid::new_v4().to_string()).collect();
        for bad in ["", "x", &many.join(",")] {
            ada.get(&format!("/api/samples?machines={bad}")).problem(422, "invalid");
        }
        let metrics = app.browser().get("/metrics").expect(200).text();
        assert!(metrics.contains("machines_cpu_milli 500"), "{metrics}");
        ada.delete(&format!("/api/machines/{}", agent.machine));
        assert_eq!(ada.get(&path).expect(200).json(), json!([]));
    }

    fn after_a_restart_nobody_is_online_until_the_broker_says_so(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        app.broker_says(up(&agent, 7));
        let cookie = ada.cookie.clone();
        app.restart();
        let mut ada = app.browser();
        ada.cookie = cookie;
        assert_eq!(shown(&ada, &agent)["online"], false);
        app.broker_says(up(&agent, 1));
        assert_eq!(shown(&ada, &agent)["online"], true);
    }

    fn ma_08_what_the_broker_passes_on_is_made_inert(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let mut message = up(&agent, 1);
        if let FromBroker::TunnelUp { os, hostname, address, .. } = &mut message {
            *os = "<img src=x>".to_owned();
            *hostname = "\u{1b}]0;x\u{7}".repeat(100);
            *address = "1.2.3.4\r\nx".to_owned();
        }
        app.broker_says(message);
        let machine = shown(&ada, &agent);
        for field in ["os", "hostname", "address"] {
            let shown = machine[field].as_str().expect("text");
            assert!(shown.len() <= 64 && !shown.contains(|c: char| c.is_control() || c == '<'), "{shown:?}");
        }
    }

    fn why_a_tunnel_is_over_tcp_is_shown_as_long_as_it_is(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let why = json!({ "cause": "udp_silent", "detail": "UDP to 192.0.2.9:7443 got no answer" });
        app.broker_says(up_over_tcp(&agent, 1, "UDP to 192.0.2.9:7443 got no answer"));
        assert_eq!(shown(&ada, &agent)["transport_reason"], why);
        app.broker_says(told(&agent, 1, vec![session()]));
        assert_eq!(shown(&ada, &agent)["transport_reason"], why, "sessions come and go");
        app.broker_says(up(&agent, 2));
        assert!(shown(&ada, &agent).get("transport_reason").is_none(), "the tunnel has moved to QUIC");
        app.broker_says(up_over_tcp(&agent, 3, ""));
        app.broker_says(down(&agent, 3));
        assert!(shown(&ada, &agent).get("transport_reason").is_none(), "nothing to explain while it is offline");
    }

    fn ma_08_out_06_why_a_tunnel_is_over_tcp_is_made_inert(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        app.broker_says(up_over_tcp(&agent, 1, &("\u{1b}[2J\u{202e}\u{e0041}no answer\r\n".to_owned() + &"x".repeat(5_000))));
        let machine = shown(&ada, &agent);
        let detail = machine["transport_reason"]["detail"].as_str().expect("text");
        assert!(detail.starts_with("[2Jno answerxx") && detail.len() == 256, "{detail:?}");
    }

    fn ma_08_titles_of_sessions_are_made_inert(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let titled = |title: &str| SessionInfo { title: title.to_owned(), ..session() };
        let hostile = [titled("\u{1b}]0;x\u{7}\u{202e}vim\r\n"), titled(&"t".repeat(5_000))];
        let mut message = up(&agent, 1);
        if let FromBroker::TunnelUp { sessions, .. } = &mut message {
            *sessions = hostile.to_vec();
        }
        app.broker_says(message);
        let title = |i: usize| shown(&ada, &agent)["sessions"][i]["title"].as_str().expect("text").to_owned();
        assert_eq!((title(0).as_str(), title(1).len()), ("]0;xvim", 128));
        app.broker_says(told(&agent, 1, hostile.iter().rev().cloned().collect()));
        assert_eq!((title(1).as_str(), title(0).len()), ("]0;xvim", 128));
    }

    fn presence_is_not_lost_while_the_database_does_not_answer(app) {
        let mut ada = app.signed_in("ada@example.org");
        let (agent, other) = (ada.enrol("box"), ada.enrol("other"));
        let mut listener = rexec_control::presence::Listener::new(app.app().clone());
        app.block_on(listener.hear(up(&other, 3)));
        rename(app, "machine", "machine_gone");
        for message in [up(&agent, 4), down(&other, 3), up(&agent, 5), down(&agent, 4)] {
            app.block_on(listener.hear(message));
        }
        app.block_on(async { listener.until_due().await; listener.try_again().await });
        rename(app, "machine_gone", "machine");
        assert_eq!(shown(&ada, &other)["online"], true, "nothing could be written yet");
        app.block_on(async { listener.until_due().await; listener.try_again().await });
        let machine = shown(&ada, &agent);
        assert_eq!((&machine["online"], &machine["address"]), (&json!(true), &json!("192.0.2.5:4433")));
        assert_eq!(shown(&ada, &other)["online"], false);
        let moment = std::time::Duration::from_millis(50);
        let settled = app.block_on(async { tokio::time::timeout(moment, listener.until_due()).await });
        assert!(settled.is_err(), "nothing is owed any more");
    }

    fn ma_01_a_machine_of_another_organisation_is_not_moved_by_a_tunnel(app) {
        let mut ada = app.signed_in("ada@example.org");
        let agent = ada.enrol("box");
        let eve = TestAgent { org: app.person("eve@example.org"), ..agent.clone() };
        app.broker_says(up(&eve, 9));
        assert_eq!(shown(&ada, &agent)["online"], false);
        let refused = FromBroker::DialRefused {
            machine: agent.machine, org: agent.org, claimed: Some(Uuid::new_v4()), address: "192.0.2.1".to_owned(), code: CloseCode::Forbidden,
        };
        app.broker_says(refused);
        assert!(crate::audit::actions(app, agent.org).contains(&"tunnel.refuse".to_owned()));
    }
}

/// Takes a table away from the program, or gives it back.
fn rename(app: &crate::harness::TestApp, from: &str, to: &str) {
    use sea_orm::ConnectionTrait as _;
    let statement = format!("ALTER TABLE {from} RENAME TO {to}");
    app.block_on(app.app().db().execute_unprepared(&statement)).expect("renamed");
}
