//! What people prefer.

use serde_json::{Value, json};

use crate::harness::PASSWORD;

on_both_databases! {
    fn a_preference_is_the_persons_in_every_browser_and_nobody_elses(app) {
        let ada = app.signed_in("ada@example.org");
        let other_browser = app.sign_in("ada@example.org", PASSWORD);
        let eve = app.signed_in("eve@example.org");
        assert_eq!(ada.get("/api/me/preferences").expect(200).json(), json!({}));
        let mut events = other_browser.events();
        events.expect("hello");
        for value in [json!({ "a": [1, null] }), json!(null), json!("dark"), json!(3)] {
            ada.put("/api/me/preferences/ui.theme-2", &value).expect(204);
            assert_eq!(events.expect("preference"), json!({ "key": "ui.theme-2" }));
            assert_eq!(other_browser.get("/api/me/preferences").json(), json!({ "ui.theme-2": value }));
        }
        assert_eq!(eve.get("/api/me/preferences").json(), json!({}));
        eve.put("/api/me/preferences/ui.theme-2", &json!("light")).expect(204);
        assert_eq!(ada.get("/api/me/preferences").json()["ui.theme-2"], 3);
    }

    fn preferences_are_few_small_and_plainly_named(app) {
        let ada = app.signed_in("ada@example.org");
        let long = "a".repeat(65);
        for key in ["A", "a_b", "a%20b", "%C3%A9", long.as_str()] {
            let problem = ada.put(&format!("/api/me/preferences/{key}"), &json!(1)).problem(422, "invalid");
            assert_eq!(problem["field"], "key", "{key}");
        }
        ada.put("/api/me/preferences/large", &Value::from("x".repeat(64 * 1024))).problem(413, "body_too_large");
        for i in 0..64 {
            ada.put(&format!("/api/me/preferences/k{i}"), &json!(i)).expect(204);
        }
        ada.put("/api/me/preferences/one-more", &json!(1)).problem(409, "limit_reached");
        ada.put("/api/me/preferences/k0", &json!("again")).expect(204);
        assert_eq!(ada.get("/api/me/preferences").json().as_object().map(serde_json::Map::len), Some(64));
    }
}
