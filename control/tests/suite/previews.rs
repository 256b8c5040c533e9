//! Previews by the API: who opens, shares and closes ports, and what is remembered of it. What goes through them is told in `e2e/browser/previews.test.mjs`.

use rexec_control::entity::{Role, membership};
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, Set};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Browser, PASSWORD, TestApp};

fn open(browser: &mut Browser<'_>, machine: Uuid, port: u16) -> Value {
    browser.post("/api/previews", &json!({ "machine": machine, "port": port })).expect(201).json()
}

fn path(preview: &Value, more: &str) -> String {
    format!("/api/previews/{}{more}", preview["id"].as_str().expect("an id"))
}

/// Makes everybody of the organisation a viewer.
fn look_only(app: &TestApp) {
    app.block_on(async {
        for row in membership::Entity::find().all(app.app().db()).await.expect("read") {
            let mut row = row.into_active_model();
            row.role = Set(Role::Viewer);
            row.update(app.app().db()).await.expect("changed");
        }
    });
}

on_both_databases! {
    fn a_port_is_opened_once_listed_shared_and_closed_and_each_is_in_the_audit(app) {
        let mut ada = app.signed_in("ada@example.org");
        let machine = ada.enrol("box").machine;
        let preview = open(&mut ada, machine, 3000);
        let label = format!("3000-{}.localhost", machine.simple());
        assert!(preview["url"].as_str().expect("an address").starts_with(&format!("http://{label}:")), "{preview}");
        assert_eq!(preview["shared_until"], json!(null));
        assert_eq!(open(&mut ada, machine, 3000)["id"], preview["id"], "it is open already");
        for (port, code) in [(json!(0), "invalid"), (json!(65_536), "invalid"), (json!("x"), "invalid")] {
            ada.post("/api/previews", &json!({ "machine": machine, "port": port })).problem(422, code);
        }
        for minutes in [0, 4, 10_081] {
            ada.post(&path(&preview, "/share"), &json!({ "minutes": minutes })).problem(422, "invalid");
        }
        let link = ada.post(&path(&preview, "/share"), &json!({ "minutes": 60 })).expect(201).json();
        let url = link["url"].as_str().expect("a link");
        // What is secret is behind the `#`.
        let (sent, secret) = url.split_once('#').expect("a fragment");
        assert!(sent.ends_with("/.rexec/open") && secret.starts_with("share.") && secret.len() > 40, "{url}");
        assert!(ada.get("/api/previews").expect(200).json()[0]["shared_until"].is_string());
        assert!(!ada.get("/api/previews").text().contains(secret));
        ada.delete(&path(&preview, "/share")).expect(204);
        assert_eq!(ada.get("/api/previews").expect(200).json()[0]["shared_until"], json!(null));
        let pass = ada.post(&path(&preview, "/pass"), &json!({})).expect(201).json();
        assert!(pass["url"].as_str().expect("an address").contains("/.rexec/open#pass."), "{pass}");
        ada.delete(&path(&preview, "")).expect(204);
        assert_eq!(ada.get("/api/previews").expect(200).json(), json!([]));
        ada.delete(&path(&preview, "")).problem(404, "not_found");
        let told = ada.get("/api/activity").expect(200).json();
        let told: Vec<&str> = told.as_array().expect("a list").iter().filter_map(|entry| entry["action"].as_str()).collect();
        for deed in ["preview.open", "preview.share", "preview.unshare", "preview.close"] {
            assert!(told.contains(&deed), "{deed} is not among {told:?}");
        }
    }

    fn who_only_looks_neither_opens_nor_enters_a_port(app) {
        let mut ada = app.signed_in("ada@example.org");
        let machine = ada.enrol("box").machine;
        let preview = open(&mut ada, machine, 3000);
        look_only(app);
        let mut ada = app.sign_in("ada@example.org", PASSWORD);
        ada.post("/api/previews", &json!({ "machine": machine, "port": 4000 })).problem(403, "forbidden");
        ada.post(&path(&preview, "/pass"), &json!({})).problem(403, "forbidden");
        ada.post(&path(&preview, "/share"), &json!({ "minutes": 60 })).problem(403, "forbidden");
        ada.delete(&path(&preview, "")).problem(403, "forbidden");
        assert_eq!(ada.get("/api/previews").expect(200).json()[0]["id"], preview["id"]);
    }

    fn a_machine_that_is_removed_leaves_no_open_port(app) {
        let mut ada = app.signed_in("ada@example.org");
        let machine = ada.enrol("box").machine;
        open(&mut ada, machine, 3000);
        ada.delete(&format!("/api/machines/{machine}")).expect(204);
        assert_eq!(ada.get("/api/previews").expect(200).json(), json!([]));
    }
}
