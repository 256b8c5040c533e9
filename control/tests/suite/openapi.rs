//! The OpenAPI document: made from the handlers, kept in step with the web app's copy.

use serde_json::Value;

use crate::harness::TestApp;

fn document() -> Value {
    serde_json::from_str(&rexec_control::api::document().expect("a document")).expect("JSON")
}

#[test]
fn the_document_is_the_one_reviewed() {
    insta::assert_snapshot!(rexec_control::api::document().expect("a document"));
}

#[test]
fn the_web_app_is_generated_from_this_very_document() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/openapi.json");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let made = rexec_control::api::document().expect("a document");
    assert!(
        kept == made,
        "web/openapi.json has drifted: rexec-control openapi > web/openapi.json, then npm run api in web/"
    );
}

#[test]
fn the_document_is_served() {
    let app = TestApp::on_sqlite();
    assert_eq!(app.browser().get("/api/openapi.json").expect(200).json(), document());
}
