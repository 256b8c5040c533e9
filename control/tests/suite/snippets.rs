//! Snippets: whose they are, what they may hold, and how many come at once.

use serde_json::{Value, json};

use crate::harness::{Browser, PASSWORD};

fn id_of(snippet: &Value) -> String {
    snippet["id"].as_str().expect("an id").to_owned()
}

fn names(browser: &Browser<'_>) -> Vec<String> {
    let all = browser.get("/api/snippets").expect(200).json();
    let all = all.as_array().expect("a list");
    all.iter().map(|each| each["name"].as_str().expect("a name").to_owned()).collect()
}

on_both_databases! {
    fn a_persons_own_snippets_are_theirs_and_shared_ones_are_everybodys_to_use(app) {
        let organisation = app.person("ada@example.org");
        let mut ada = app.sign_in("ada@example.org", PASSWORD);
        let mut bob = app.member("bob@example.org", organisation);
        let own = ada.post("/api/snippets", &json!({ "name": "mine", "body": "ls" })).expect(201).json();
        let shared = json!({ "name": "ours", "body": "uptime", "shared": true });
        let shared = ada.post("/api/snippets", &shared).expect(201).json();
        assert_eq!((names(&ada), names(&bob)), (vec!["mine".to_owned(), "ours".to_owned()], vec!["ours".to_owned()]));

        let words = json!({ "name": "mine", "body": "rm -rf ." });
        bob.put(&format!("/api/snippets/{}", id_of(&own)), &words).problem(404, "not_found");
        bob.delete(&format!("/api/snippets/{}", id_of(&own))).problem(404, "not_found");
        // What others run is not for a member to write.
        bob.put(&format!("/api/snippets/{}", id_of(&shared)), &words).problem(403, "forbidden");
        bob.delete(&format!("/api/snippets/{}", id_of(&shared))).problem(403, "forbidden");
        bob.post("/api/snippets", &json!({ "name": "x", "body": "x", "shared": true })).problem(403, "forbidden");
        let many = json!({ "shared": true, "snippets": [words] });
        bob.post("/api/snippets/import", &many).problem(403, "forbidden");
        // The same name is nobody's but the own kind's.
        bob.post("/api/snippets", &json!({ "name": "mine", "body": "w" })).expect(201);
        let again = bob.post("/api/snippets", &json!({ "name": "mine", "body": "w" })).problem(422, "invalid");
        assert_eq!(again["field"], "name");
        ada.delete(&format!("/api/snippets/{}", id_of(&own))).expect(204);
        assert_eq!(names(&ada), ["ours"]);
    }

    fn news_of_snippets_reach_those_who_see_them(app) {
        let organisation = app.person("ada@example.org");
        let mut ada = app.sign_in("ada@example.org", PASSWORD);
        let bob = app.member("bob@example.org", organisation);
        let (mut hers, mut his) = (ada.events(), bob.events());
        hers.expect("hello");
        his.expect("hello");
        let own = ada.post("/api/snippets", &json!({ "name": "mine", "body": "ls" })).expect(201).json();
        hers.expect("snippets");
        ada.put(&format!("/api/snippets/{}", id_of(&own)), &json!({ "name": "mine", "body": "ls -l" })).expect(200);
        hers.expect("snippets");
        // The next thing he hears is his own sign-out: of hers he heard nothing.
        bob.delete("/api/logins/current").expect(204);
        his.expect("signed_out");
    }

    fn an_import_is_whole_or_not_at_all_and_names_the_field_at_fault(app) {
        let mut ada = app.signed_in("ada@example.org");
        ada.post("/api/snippets", &json!({ "name": "b", "body": "old" })).expect(201);
        let bad = json!({ "snippets": [{ "name": "a", "body": "1" }, { "name": "c", "body": "x\u{1b}[2J" }] });
        let problem = ada.post("/api/snippets/import", &bad).problem(422, "invalid");
        assert_eq!(problem["field"], "snippets[1].body");
        let missing = json!({ "snippets": [{ "name": "a" }] });
        let problem = ada.post("/api/snippets/import", &missing).problem(422, "invalid");
        assert!(problem["field"].as_str().is_some_and(|field| field.starts_with("snippets[0]")), "{problem}");
        assert_eq!(names(&ada), ["b"]);
        let good = json!({ "snippets": [{ "name": "a", "body": "1" }, { "name": "b", "body": "new", "description": "d" }] });
        let kept = ada.post("/api/snippets/import", &good).expect(200).json();
        assert_eq!(kept, json!({ "made": 1, "changed": 1 }));
        let all = ada.get("/api/snippets").json();
        assert_eq!((all[1]["body"].as_str(), all[1]["description"].as_str()), (Some("new"), Some("d")));
    }

    fn bu_09_snippets_have_a_limit(app) {
        let mut ada = app.signed_in("ada@example.org");
        let many = |from: usize, to: usize| {
            let all: Vec<Value> = (from..to).map(|i| json!({ "name": format!("n{i}"), "body": "x" })).collect();
            json!({ "snippets": all })
        };
        ada.post("/api/snippets/import", &many(0, 500)).expect(200);
        ada.post("/api/snippets/import", &many(499, 502)).problem(409, "limit_reached");
        ada.post("/api/snippets", &json!({ "name": "one-more", "body": "x" })).problem(409, "limit_reached");
        assert_eq!(names(&ada).len(), 500);
        // The shared are counted by themselves.
        ada.post("/api/snippets", &json!({ "name": "one-more", "body": "x", "shared": true })).expect(201);
    }
}
