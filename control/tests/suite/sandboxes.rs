//! Sandboxes without Docker: what is written down, what an engine is asked for, and what becomes of either after a crash of one.

use std::time::{Duration, Instant};

use rexec_control::entity::audit_entry;
use rexec_control::sandboxes::life;
use rexec_control::sandboxes::next::Container;
use rexec_control::scope::Scope;
use rexec_shared::broker_link::FromBroker;
use rexec_shared::pki;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Browser, TestAgent, TestApp};

/// A sandbox that may be made.
pub(crate) fn wish() -> Value {
    json!({ "image": "alpine:3.22", "cpus_milli": 1_000, "memory_mb": 256, "network": "open" })
}

fn wish_with(more: Value) -> Value {
    let mut wish = wish();
    for (field, value) in more.as_object().expect("an object") {
        wish[field] = value.clone();
    }
    wish
}

fn id_of(sandbox: &Value) -> Uuid {
    sandbox["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}

fn make(ada: &mut Browser<'_>) -> Uuid {
    id_of(&ada.post("/api/sandboxes", &wish()).expect(202).json())
}

fn shown(ada: &Browser<'_>, id: Uuid) -> Value {
    ada.get(&format!("/api/sandboxes/{id}")).json()
}

/// Waits until `is_so`.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
pub(crate) fn until_state(ada: &Browser<'_>, id: Uuid, state: &str) {
    until(&format!("{id} is {state}"), || shown(ada, id)["state"] == state);
}

/// The token the sandbox's agent was given last, once it was given `nth` of them.
#[track_caller]
fn token(app: &TestApp, id: Uuid, nth: usize) -> Value {
    let given = || app.engine.found(id).map(|found| found.admissions).unwrap_or_default();
    until("its agent is let in", || given().len() >= nth);
    json!(given()[nth - 1].token)
}

fn up(agent: &TestAgent, tunnel: u64) -> FromBroker {
    FromBroker::TunnelUp {
        machine: agent.machine,
        org: agent.org,
        tunnel,
        address: "192.0.2.7:4433".to_owned(),
        transport: "quic".to_owned(),
        transport_reason: None,
        agent_version: "0.1.0".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        hostname: "box".to_owned(),
        sessions: Vec::new(),
    }
}

/// What the agent inside does with its admission.
fn come_up(app: &TestApp, ada: &Browser<'_>, id: Uuid, nth: usize, tunnel: u64) -> TestAgent {
    let agent = TestAgent::enrol(app, &token(app, id, nth), "whatever").expect("let in");
    app.broker_says(up(&agent, tunnel));
    until_state(ada, id, "ready");
    agent
}

/// How many of so many at once are made.
fn made_at_once(browsers: Vec<Browser<'_>>, body: &Value) -> usize {
    std::thread::scope(|scope| {
        let tries: Vec<_> = browsers
            .into_iter()
            .map(|mut browser| scope.spawn(move || browser.post("/api/sandboxes", body).status))
            .collect();
        tries.into_iter().map(|one| one.join().expect("answered")).filter(|status| *status == 202).count()
    })
}

on_both_databases! {
    fn a_sandbox_is_a_machine_that_comes_up_by_itself(app) {
        let mut ada = app.signed_in("ada@example.org");
        let mut events = ada.events();
        events.expect("hello");
        let made = ada.post("/api/sandboxes", &wish_with(json!({ "name": "box" }))).expect(202).json();
        let id = id_of(&made);
        assert_eq!((&made["name"], &made["desired"], made["steps"].as_array().map(Vec::len)), (&json!("box"), &json!("running"), Some(5)));
        let agent = come_up(app, &ada, id, 1, 1);
        assert_eq!((agent.machine, &agent.answer["name"]), (id, &json!("box")), "it is the machine that was made");
        assert_eq!(agent.answer["tunnel"]["addr"], "192.0.2.1:7443", "the broker as it is seen from inside");
        let machine = ada.get(&format!("/api/machines/{id}")).expect(200).json();
        assert_eq!((&machine["kind"], &machine["online"]), (&json!("sandbox"), &json!(true)));
        assert_eq!(machine["sandbox"], json!({ "state": "ready", "image": "alpine:3.22" }));
        let found = app.engine.found(id).expect("a container");
        assert_eq!(found.admissions[0].server, "http://192.0.2.1:8080");
        let egress = found.guarded.expect("closed");
        let ports: Vec<u16> = egress.reach.iter().map(|reach| reach.port).collect();
        assert_eq!(ports, [8_080, 7_443, 7_443, 53, 53]);
        let mut states = Vec::new();
        while states.last() != Some(&json!("ready")) {
            let (name, data) = events.next().expect("an event");
            if name == "sandbox" && states.last() != Some(&data["state"]) {
                states.push(data["state"].clone());
            }
        }
        assert_eq!(states, ["waiting", "creating", "starting", "enrolling", "ready"]);
    }

    fn it_stops_starts_and_restarts_with_a_fresh_identity_each_time(app) {
        let mut ada = app.signed_in("ada@example.org");
        let id = make(&mut ada);
        let first = come_up(app, &ada, id, 1, 1);
        ada.post(&format!("/api/sandboxes/{id}/stop"), &json!({})).expect(202);
        until_state(&ada, id, "stopped");
        app.broker_says(FromBroker::TunnelDown { machine: id, tunnel: 1, reason: String::new() });
        assert_eq!(shown(&ada, id)["steps"], json!([]));
        ada.post(&format!("/api/sandboxes/{id}/start"), &json!({})).expect(202);
        let second = come_up(app, &ada, id, 2, 2);
        first.renew(app, &first.key).problem(404, "machine_unknown");
        second.renew(app, &second.key).expect(200);
        ada.post(&format!("/api/sandboxes/{id}/restart"), &json!({})).expect(202);
        let third = TestAgent::enrol(app, &token(app, id, 3), "x").expect("let in");
        // The former agent's tunnel stands yet and makes nothing ready.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(shown(&ada, id)["state"], "enrolling");
        app.broker_says(up(&third, 3));
        until_state(&ada, id, "ready");
        second.renew(app, &second.key).problem(404, "machine_unknown");
        let calls: Vec<&str> = app.engine.state().calls.iter().filter(|(_, of)| *of == id).map(|(name, _)| *name).collect();
        assert_eq!(calls.iter().filter(|name| **name == "create").count(), 1, "{calls:?}");
        assert_eq!(calls.iter().filter(|name| **name == "start").count(), 3, "{calls:?}");
    }

    fn ct_09_the_token_of_a_sandbox_is_good_once_for_it_alone_and_not_for_long(app) {
        let mut ada = app.signed_in("ada@example.org");
        let id = make(&mut ada);
        let given = token(app, id, 1);
        assert_eq!(ada.get("/api/join-tokens").json(), json!([]), "nobody else sees it");
        let agent = TestAgent::enrol(app, &given, "x").expect("let in");
        let thief = TestAgent::enrol(app, &given, "x").expect_err("once");
        assert_eq!(thief.problem(403, "join_token_invalid")["detail"], "the join token is used up");
        agent.renew(app, &pki::generate_key().expect("a key")).problem(404, "machine_unknown");
        assert_eq!(ada.get("/api/machines").json().as_array().map(Vec::len), Some(1), "no second machine");
        let other = make(&mut ada);
        let late = token(app, other, 1);
        app.advance(Duration::from_secs(121));
        TestAgent::enrol(app, &late, "x").expect_err("too late").problem(403, "join_token_invalid");
        app.app().parts().sandboxes.wake();
        come_up(app, &ada, other, 2, 1);
    }

    fn ct_08_a_sandbox_cannot_leave_by_itself(app) {
        let mut ada = app.signed_in("ada@example.org");
        let id = make(&mut ada);
        let agent = come_up(app, &ada, id, 1, 1);
        let time = app.app().now().unix_ms();
        let signature = pki::sign_text(&agent.key, &rexec_shared::enrol::unregister_text(id, time)).expect("signed");
        let body = json!({ "machine": id, "time": time, "signature": signature });
        app.browser().post("/api/agent/unregister", &body).problem(403, "sandbox");
    }

    fn a_repeated_request_makes_no_second_sandbox(app) {
        let mut ada = app.signed_in("ada@example.org");
        let mut eve = app.signed_in("eve@example.org");
        let id = Uuid::new_v4();
        let wish = wish_with(json!({ "id": id }));
        ada.post("/api/sandboxes", &wish).expect(202);
        assert_eq!(id_of(&ada.post("/api/sandboxes", &wish).expect(200).json()), id);
        assert_eq!(ada.get("/api/sandboxes").json().as_array().map(Vec::len), Some(1));
        eve.post("/api/sandboxes", &wish).problem(409, "id_taken");
        ada.delete(&format!("/api/sandboxes/{id}")).expect(202);
        until("it is gone", || ada.get(&format!("/api/sandboxes/{id}")).status == 404);
        ada.post("/api/sandboxes", &wish).problem(409, "id_taken");
    }

    fn bu_09_of_50_creates_at_once_with_a_quota_of_3_exactly_3_are_made(app) {
        app.change_settings(|settings| settings.sandboxes.count_max = 3);
        let ada = app.signed_in("ada@example.org");
        let app = &*app;
        assert_eq!(made_at_once(vec![ada.clone(); 50], &wish()), 3);
        let sandboxes = ada.get("/api/sandboxes").json();
        assert_eq!(sandboxes.as_array().map(Vec::len), Some(3), "{sandboxes}");
        assert_eq!(ada.get("/api/sandbox-options").json()["limits"]["in_use"], 3);
        let first = id_of(&sandboxes[0]);
        ada.delete(&format!("/api/sandboxes/{first}")).expect(202);
        assert_eq!(made_at_once(vec![ada.clone(); 5], &wish()), 1, "one that is deleted makes room for one");
        let mut names: Vec<String> = ada.get("/api/machines").json().as_array().expect("a list").iter().map(|machine| machine["name"].to_string()).collect();
        names.dedup();
        assert_eq!(names.len(), 3, "{names:?} are {} different ones in {}", names.len(), app.origin());
    }

    fn what_is_asked_for_out_of_bounds_names_its_field(app) {
        let mut ada = app.signed_in("ada@example.org");
        until("the engine has said how large it is", || app.app().parts().sandboxes.health().is_some());
        for (field, value) in [
            ("image", json!("evil:1")), ("image", json!("--privileged")), ("name", json!("a b")), ("cpus_milli", json!(50)),
            ("cpus_milli", json!(2_001)), ("memory_mb", json!(32)), ("memory_mb", json!(4_097)), ("pids", json!(8)), ("pids", json!(100_000)),
            ("network", json!("host")), ("allow", json!([{ "host": "x.example", "port": 443 }])),
            ("preset", json!("python")), ("lifetime_s", json!(5)), ("idle_stop_s", json!(5)),
        ] {
            let problem = ada.post("/api/sandboxes", &wish_with(json!({ field: value }))).problem(422, "invalid");
            assert_eq!(problem["field"], field, "{value}");
        }
        ada.post("/api/sandboxes", &wish_with(json!({ "volume": Uuid::new_v4() }))).problem(404, "not_found");
        assert_eq!(ada.get("/api/sandboxes").json(), json!([]));
        assert_eq!(ada.get("/api/machines").json(), json!([]));
    }

    fn a_preset_is_run_once_before_the_agent_is_let_in_and_one_that_fails_keeps_nobody_out(app) {
        let mut ada = app.signed_in("ada@example.org");
        let offered = ada.get("/api/sandbox-options").json();
        assert_eq!(offered["presets"], json!([{ "id": "bare", "name": "Bare" }, { "id": "good", "name": "good" }, { "id": "bad", "name": "bad" }]));
        let runs = |id: Uuid| app.engine.state().calls.iter().filter(|call| **call == ("run", id)).count();
        let good = id_of(&ada.post("/api/sandboxes", &wish_with(json!({ "preset": "good" }))).expect(202).json());
        come_up(app, &ada, good, 1, 1);
        let steps = shown(&ada, good)["steps"].clone();
        assert_eq!((&steps[3]["step"], &steps[3]["state"]), (&json!("setting_up"), &json!("done")), "{steps}");
        let bad = id_of(&ada.post("/api/sandboxes", &wish_with(json!({ "preset": "bad" }))).expect(202).json());
        come_up(app, &ada, bad, 1, 1);
        let ready = shown(&ada, bad);
        assert_eq!((&ready["state"], &ready["problem"]["code"]), (&json!("ready"), &json!("not_set_up")), "{ready}");
        assert_eq!(ready["problem"]["detail"], "bad was not set up (exit code 3): half way");
        assert_eq!(ready["steps"][3]["state"], "failed");
        ada.post(&format!("/api/sandboxes/{good}/restart"), &json!({})).expect(202);
        come_up(app, &ada, good, 2, 2);
        assert_eq!((runs(good), runs(bad)), (1, 1), "once, whatever comes after");
    }

    fn a_snapshot_is_made_once_and_sandboxes_are_made_of_it(app) {
        let mut ada = app.signed_in("ada@example.org");
        let first = make(&mut ada);
        come_up(app, &ada, first, 1, 1);
        let path = format!("/api/sandboxes/{first}/snapshots");
        let wish = json!({ "id": Uuid::new_v4(), "name": "before" });
        let asked = ada.post(&path, &wish).expect(202).json();
        assert_eq!(ada.post(&path, &wish).expect(202).json()["id"], asked["id"], "asking again makes no second one");
        ada.post(&path, &json!({ "name": "a b" })).problem(422, "invalid");
        let look = || ada.get("/api/snapshots").json()[0].clone();
        until("the snapshot is ready", || look()["state"] == "ready");
        assert_eq!((&look()["home_bytes"], &look()["root_bytes"], &look()["sandbox"]), (&json!(10), &json!(1_000), &json!(first)));
        let id = asked["id"].as_str().expect("an id").to_owned();
        let of = json!({ "snapshot": id, "cpus_milli": 1_000, "memory_mb": 256, "network": "open" });
        let mut both = of.clone();
        both["image"] = json!("alpine:3.22");
        ada.clone().post("/api/sandboxes", &both).problem(422, "invalid");
        let mut ada = ada.clone();
        ada.post("/api/sandboxes", &wish_with(json!({ "image": format!("rexec-snapshot:{id}") }))).problem(422, "invalid");
        let second = id_of(&ada.post("/api/sandboxes", &of).expect(202).json());
        come_up(app, &ada, second, 1, 1);
        assert_eq!(shown(&ada, second)["image"], "alpine:3.22");
        let fills = || app.engine.state().calls.iter().filter(|(name, _)| *name == "fill_home").count();
        assert_eq!(fills(), 1);
        // A container that was lost is made again, and its home is left alone.
        app.engine.state().boxes.remove(&second);
        app.app().parts().sandboxes.wake();
        until("it is made again", || app.engine.found(second).is_some());
        assert_eq!(fills(), 1, "what is in its home by now stays");
        ada.delete(&format!("/api/snapshots/{id}")).problem(409, "snapshot_in_use");
        let changed = ada.patch(&format!("/api/snapshots/{id}"), &json!({ "name": "golden", "template": true })).expect(200).json();
        assert_eq!((&changed["name"], &changed["template"]), (&json!("golden"), &json!(true)));
        ada.delete(&format!("/api/sandboxes/{second}")).expect(202);
        until("the sandbox is gone", || ada.get(&format!("/api/sandboxes/{second}")).status == 404);
        ada.delete(&format!("/api/snapshots/{id}")).expect(202);
        until("the snapshot is gone", || ada.get("/api/snapshots").json() == json!([]));
        assert!(app.engine.state().snapshots.is_empty());
    }

    fn a_restricted_one_has_a_list_that_makes_sense(app) {
        let mut ada = app.signed_in("ada@example.org");
        until("the proxy listens", || app.app().parts().sandboxes.has_proxy());
        assert_eq!(ada.get("/api/sandbox-options").json()["networks"], json!(["open", "none", "restricted"]));
        let restricted = |allow: Value| wish_with(json!({ "network": "restricted", "allow": allow }));
        let many: Vec<_> = (0..65).map(|n| json!({ "host": format!("x{n}.example"), "port": 443 })).collect();
        for allow in [json!([]), json!(many), json!([{ "host": "10.0.0.1", "port": 80 }]), json!([{ "host": "x.example", "port": 25 }])] {
            let problem = ada.post("/api/sandboxes", &restricted(allow.clone())).problem(422, "invalid");
            assert_eq!(problem["field"], "allow", "{allow}");
        }
        let wish = restricted(json!([{ "host": "PyPI.org", "port": 443 }]));
        let made = ada.post("/api/sandboxes", &wish).expect(202).json();
        assert_eq!(made["allow"], json!([{ "host": "pypi.org", "port": 443 }]));
    }

    fn a_deleted_sandbox_leaves_its_home_or_takes_it_along(app) {
        let mut ada = app.signed_in("ada@example.org");
        let id = make(&mut ada);
        let agent = come_up(app, &ada, id, 1, 1);
        let home = shown(&ada, id)["volume"].as_str().expect("an id").to_owned();
        ada.delete(&format!("/api/volumes/{home}")).problem(409, "volume_in_use");
        let mut events = ada.events();
        events.expect("hello");
        ada.delete(&format!("/api/sandboxes/{id}")).expect(202);
        // What came before may be told yet.
        let removed = std::iter::from_fn(|| events.next()).find(|(name, _)| name == "machine_removed");
        assert_eq!(removed.map(|(_, data)| data["id"].clone()), Some(json!(id)), "it is cut off at once");
        agent.renew(app, &agent.key).problem(403, "machine_revoked");
        loop {
            let (name, data) = events.next().expect("an event");
            if name == "sandbox_removed" {
                break assert_eq!(data["id"], json!(id));
            }
            assert_eq!((name.as_str(), &data["state"]), ("sandbox", &json!("deleting")));
        }
        assert!(app.engine.found(id).is_none());
        let volumes = ada.get("/api/volumes").json();
        assert_eq!((&volumes[0]["id"], &volumes[0]["sandbox"]), (&json!(home), &Value::Null));
        // Another takes it over, and takes it along.
        let next = id_of(&ada.post("/api/sandboxes", &wish_with(json!({ "volume": home }))).expect(202).json());
        ada.post("/api/sandboxes", &wish_with(json!({ "volume": home }))).problem(409, "volume_in_use");
        token(app, next, 1);
        ada.delete(&format!("/api/sandboxes/{next}?volume=drop")).expect(202);
        until("it is gone", || ada.get("/api/sandboxes").json() == json!([]));
        assert_eq!(ada.get("/api/volumes").json(), json!([]));
        assert!(app.engine.state().volumes.is_empty());
    }

    fn a_home_that_was_kept_is_deleted_by_itself(app) {
        let mut ada = app.signed_in("ada@example.org");
        let id = make(&mut ada);
        token(app, id, 1);
        let home = shown(&ada, id)["volume"].as_str().expect("an id").to_owned();
        ada.delete(&format!("/api/sandboxes/{id}?volume=keep")).expect(202);
        until("it is gone", || ada.get("/api/sandboxes").json() == json!([]));
        ada.delete(&format!("/api/volumes/{home}")).expect(202);
        ada.delete(&format!("/api/volumes/{home}")).problem(404, "not_found");
        until("its files are gone", || app.engine.state().volumes.is_empty());
        ada.delete(&format!("/api/sandboxes/{id}?volume=neither")).problem(422, "invalid");
    }

    fn a_machine_of_kind_sandbox_is_removed_with_its_container(app) {
        let mut ada = app.signed_in("ada@example.org");
        let id = make(&mut ada);
        come_up(app, &ada, id, 1, 1);
        ada.delete(&format!("/api/machines/{id}")).expect(204);
        until("its container is gone", || app.engine.found(id).is_none());
        until("its row is gone", || ada.get("/api/sandboxes").json() == json!([]));
    }

    fn it_is_renamed_and_resized_while_it_runs(app) {
        let mut ada = app.signed_in("ada@example.org");
        let id = make(&mut ada);
        come_up(app, &ada, id, 1, 1);
        let other = ada.enrol("other");
        let path = format!("/api/sandboxes/{id}");
        let changed = ada.patch(&path, &json!({ "name": "db", "cpus_milli": 1_500, "memory_mb": 512, "pids": 100, "idle_stop_s": 600 })).expect(200).json();
        assert_eq!((&changed["name"], &changed["cpus_milli"], &changed["idle_stop_s"]), (&json!("db"), &json!(1_500), &json!(600)));
        assert_eq!(ada.get(&format!("/api/machines/{id}")).json()["name"], "db");
        let limits = app.engine.found(id).expect("a container").limits;
        assert_eq!((limits.cpus_milli, limits.memory_mb, limits.pids), (1_500, 512, 100));
        for (field, value) in [("name", json!(other.answer["name"])), ("name", json!("a b")), ("cpus_milli", json!(1)), ("pids", json!(1))] {
            assert_eq!(ada.patch(&path, &json!({ field: value })).problem(422, "invalid")["field"], field);
        }
        assert_eq!(shown(&ada, id), changed, "a refused change changes nothing");
        assert!(changed["docker_run"].as_str().is_some_and(|run| run.contains("--cpus 1.5 --memory 512m")), "{changed}");
    }

    fn control_that_is_started_again_leads_on_from_wherever_it_was(app) {
        let ada_cookie = app.signed_in("ada@example.org").cookie;
        for refused in ["create", "start", "guard", "admit", "stop", "remove"] {
            app.engine.state().refused.insert(refused);
            let mut ada = app.browser();
            ada.cookie.clone_from(&ada_cookie);
            let id = make(&mut ada);
            if ["stop", "remove"].contains(&refused) {
                come_up(app, &ada, id, 1, 1);
                let verb = if refused == "stop" { ada.post(&format!("/api/sandboxes/{id}/stop"), &json!({})) } else { ada.delete(&format!("/api/sandboxes/{id}")) };
                verb.expect(202);
            }
            until("it was tried", || shown(&ada, id)["problem"]["code"] == "refused");
            drop(ada);
            app.stop();
            app.engine.state().refused.clear();
            app.restart();
            let mut ada = app.browser();
            ada.cookie.clone_from(&ada_cookie);
            match refused {
                "stop" => until_state(&ada, id, "stopped"),
                "remove" => {}
                _ => drop(come_up(app, &ada, id, 1, 1)),
            }
            if refused != "remove" {
                ada.delete(&format!("/api/sandboxes/{id}")).expect(202);
            }
            until("it is gone", || ada.get("/api/sandboxes").json() == json!([]) && app.engine.found(id).is_none());
        }
    }

    fn a_container_that_dies_is_started_again_and_given_up_when_it_always_does(app) {
        let mut ada = app.signed_in("ada@example.org");
        let id = make(&mut ada);
        come_up(app, &ada, id, 1, 1);
        app.engine.state().boxes.get_mut(&id).expect("a container").container = Container::Ended;
        app.app().parts().sandboxes.wake();
        come_up(app, &ada, id, 2, 2);
        app.engine.state().boxes.remove(&id);
        app.app().parts().sandboxes.wake();
        until("it is made again", || app.engine.found(id).is_some_and(|found| !found.admissions.is_empty()));
        app.engine.state().refused.insert("start");
        app.engine.state().boxes.get_mut(&id).expect("a container").container = Container::Ended;
        app.app().parts().sandboxes.wake();
        until_state(&ada, id, "failed");
        let failed = shown(&ada, id);
        assert_eq!((&failed["problem"]["code"], &failed["steps"][2]["state"]), (&json!("refused"), &json!("failed")), "{failed}");
        app.engine.state().refused.clear();
        ada.post(&format!("/api/sandboxes/{id}/start"), &json!({})).expect(202);
        come_up(app, &ada, id, 2, 3);
    }

    fn an_image_that_is_nowhere_fails_at_once_and_says_so(app) {
        let mut ada = app.signed_in("ada@example.org");
        app.engine.state().missing.insert("alpine:3.22".to_owned());
        let id = make(&mut ada);
        until_state(&ada, id, "failed");
        let failed = shown(&ada, id);
        assert_eq!((&failed["problem"]["code"], &failed["steps"][0]["state"]), (&json!("image_missing"), &json!("failed")), "{failed}");
        let images = ada.get("/api/sandbox-options").json()["images"].clone();
        let present = |reference: &str| images.as_array().and_then(|all| all.iter().find(|image| image["reference"] == reference)).map(|image| image["present"].clone());
        assert_eq!((present("alpine:3.22"), present("debian:13")), (Some(json!(false)), Some(json!(true))));
    }

    fn an_engine_that_is_away_makes_them_wait_and_nothing_else(app) {
        let mut ada = app.signed_in("ada@example.org");
        let host = ada.enrol("host");
        until("the engine was asked", || app.app().parts().sandboxes.health().is_some());
        app.engine.state().away = true;
        let id = make(&mut ada);
        until("it says so", || shown(&ada, id)["problem"]["code"] == "engine_away");
        let options = ada.get("/api/sandbox-options").json();
        assert_eq!((&options["enabled"], &options["pools"][0]["healthy"]), (&json!(false), &json!(false)));
        assert!(options["reason"].as_str().is_some_and(|reason| reason.contains("nobody answers")), "{options}");
        host.renew(app, &host.key).expect(200);
        app.engine.state().away = false;
        come_up(app, &ada, id, 1, 1);
        assert_eq!(shown(&ada, id)["problem"], Value::Null);
    }

    fn an_idle_one_is_stopped_and_one_whose_life_is_over_is_deleted(app) {
        let mut ada = app.signed_in("ada@example.org");
        let id = id_of(&ada.post("/api/sandboxes", &wish_with(json!({ "idle_stop_s": 600, "lifetime_s": 7_200 }))).expect(202).json());
        let agent = come_up(app, &ada, id, 1, 1);
        let session = |viewers: u32| json!({ "session": Uuid::new_v4(), "kind": "terminal", "title": "", "cols": 80, "rows": 24, "viewers": viewers, "user": Uuid::new_v4(), "created": 1, "exited": null });
        let presence = |viewers: u32| FromBroker::Presence { machine: agent.machine, tunnel: 1, sessions: vec![serde_json::from_value(session(viewers)).expect("a session")], rtt_ms: None };
        let keep = || app.block_on(life::keep(app.app())).expect("kept");
        app.broker_says(presence(1));
        app.advance(Duration::from_secs(700));
        keep();
        assert_eq!(shown(&ada, id)["desired"], "running", "somebody looks at it");
        app.broker_says(presence(0));
        app.advance(Duration::from_secs(599));
        keep();
        assert_eq!(shown(&ada, id)["desired"], "running");
        app.advance(Duration::from_secs(2));
        keep();
        until_state(&ada, id, "stopped");
        app.advance(Duration::from_secs(7_200));
        keep();
        until("it is gone", || ada.get("/api/sandboxes").json() == json!([]));
        let entries = app.block_on(async {
            use sea_orm::QueryOrder as _;
            let rows = Scope::of(agent.org).rows::<audit_entry::Entity>().order_by_asc(audit_entry::Column::Seq);
            rows.all(app.app().db()).await.expect("read")
        });
        let deeds: Vec<(&str, &str)> = entries.iter().filter(|entry| entry.target == id.to_string() && entry.action.starts_with("sandbox")).map(|entry| (entry.actor_kind.as_str(), entry.action.as_str())).collect();
        assert_eq!(deeds, [("person", "sandbox.create"), ("control", "sandbox.stop"), ("control", "sandbox.delete")]);
    }
}

#[test]
fn where_sandboxes_cannot_be_made_it_is_said_why_and_what_to_do() {
    let app = TestApp::with(|settings| settings.sandboxes.control_url = None);
    let mut ada = app.signed_in("ada@example.org");
    let options = ada.get("/api/sandbox-options").expect(200).json();
    assert_eq!(options["enabled"], false);
    assert!(options["reason"].as_str().is_some_and(|reason| reason.contains("REXEC_BIND")), "{options}");
    let problem = ada.post("/api/sandboxes", &wish()).problem(503, "sandboxes_off");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("REXEC_BIND")), "{problem}");
}
