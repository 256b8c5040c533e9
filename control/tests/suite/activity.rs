//! What is told of the audit, and to whom.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Browser, PASSWORD};

fn activity(browser: &Browser<'_>, page: &str) -> Vec<Value> {
    let all = browser.get(&format!("/api/activity{page}")).expect(200).json();
    all.as_array().expect("a list").clone()
}

fn deeds(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|each| each["action"].as_str().expect("an action")).collect()
}

on_both_databases! {
    fn what_happened_is_told_with_names_newest_first(app) {
        let mut ada = app.signed_in("ada@example.org");
        let machine = ada.enrol("box").machine;
        ada.patch(&format!("/api/machines/{machine}"), &json!({ "name": "crate", "tags": [] })).expect(200);
        ada.post("/api/snippets", &json!({ "name": "mine", "body": "ls" })).expect(201);
        ada.delete(&format!("/api/machines/{machine}")).expect(204);
        let all = activity(&ada, "");
        assert_eq!(deeds(&all)[..4], ["machine.remove", "snippet.create", "machine.change", "machine.enrol"]);
        let removed = &all[0];
        assert_eq!((&removed["target_name"], &removed["own"], &removed["actor"]), (&json!("crate"), &json!(true), &json!("person")));
        assert!(removed["ip"].is_string() && removed["actor_name"].is_string(), "{removed}");
        // What is a person's own is not named even in the audit.
        assert_eq!(all[1]["target_name"], json!(null));
        assert_eq!((&all[3]["actor"], &all[3]["actor_name"]), (&json!("agent"), &json!("crate")));
        let older = activity(&ada, &format!("?before={}", all[1]["seq"]));
        assert_eq!(older, all[2..]);
        ada.get("/api/activity?before=x").problem(422, "invalid");
    }

    fn a_member_sees_what_others_did_to_machines_and_nothing_else_of_theirs(app) {
        let organisation = app.person("ada@example.org");
        let mut ada = app.sign_in("ada@example.org", PASSWORD);
        ada.enrol("box");
        ada.post("/api/snippets", &json!({ "name": "secret-name", "body": "ls" })).expect(201);
        let mut bob = app.member("bob@example.org", organisation);
        bob.post("/api/snippets", &json!({ "name": "his", "body": "ls" })).expect(201);
        let seen = activity(&bob, "");
        assert!(seen.iter().all(|each| each["own"] == json!(true) || each["ip"].is_null()), "{seen:?}");
        let others: Vec<_> = seen.iter().filter(|each| each["own"] == json!(false)).cloned().collect();
        assert!(deeds(&others).iter().all(|deed| deed.starts_with("machine.")), "{others:?}");
        assert!(deeds(&seen).contains(&"snippet.create") && deeds(&seen).contains(&"machine.enrol"));
        assert!(!json!(seen).to_string().contains("secret-name"));
        // Who may read the audit sees that he wrote one, and from where.
        let his = activity(&ada, "").into_iter().find(|each| each["own"] == json!(false) && each["action"] == "snippet.create");
        assert!(his.expect("his").get("ip").is_some_and(Value::is_string));
    }

    fn a_ticket_is_nobodys_news(app) {
        let mut ada = app.signed_in("ada@example.org");
        let machine = ada.enrol("box").machine;
        let ticket = json!({ "machine": machine, "session": Uuid::new_v4(), "caps": ["terminal"], "key": "A".repeat(43) });
        ada.post("/api/tickets", &ticket);
        assert!(!deeds(&activity(&ada, "")).contains(&"ticket.issue"));
    }
}
