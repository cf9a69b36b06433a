//! The schema that editors read is generated; the file in `schemas/` must be what the code says now.

use std::path::Path;

use flowrun::dsl::schema::workflow_schema;

#[test]
fn the_schema_file_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/workflow.schema.json");
    let mut current = serde_json::to_string_pretty(&workflow_schema()).expect("a schema is JSON");
    current.push('\n');
    if std::env::var_os("FLOWRUN_BLESS").is_some() {
        std::fs::write(&path, &current).expect("the schema can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == current, "schemas/workflow.schema.json is stale: FLOWRUN_BLESS=1 cargo test --test it");
}

#[test]
fn the_schema_is_one() {
    let schema = workflow_schema();
    assert!(jsonschema::meta::is_valid(&schema));
    // A key that may be left out may not be null: `retry:` with nothing after it is a mistake.
    assert!(!schema.to_string().contains("\"null\""));
}

/// What the code says better, editors must still be told.
#[test]
fn editors_learn_what_goes_together() {
    let validator = jsonschema::validator_for(&workflow_schema()).expect("the schema compiles");
    let valid = |step: serde_json::Value| {
        validator.is_valid(&serde_json::json!({ "flowrun": 1, "name": "a", "steps": { "a": step } }))
    };
    for good in [
        serde_json::json!({ "uses": "a", "retry": { "attempts": 2 } }),
        serde_json::json!({ "wait": { "for": "5m" } }),
        serde_json::json!({ "wait": { "until": "input.at" } }),
        serde_json::json!({ "wait": { "signal": "s", "timeout": "5m" } }),
        serde_json::json!({ "wait": { "signal": "s", "until": "input.at", "schema": {} } }),
        serde_json::json!({ "uses": "a", "compensate": { "none": "harmless" } }),
    ] {
        assert!(valid(good.clone()), "{good}");
    }
    for bad in [
        serde_json::json!({}),
        serde_json::json!({ "uses": "a", "wait": { "for": "5m" } }),
        serde_json::json!({ "wait": { "for": "5m" }, "retry": { "attempts": 2 } }),
        serde_json::json!({ "wait": { "for": "5m", "signal": "s" } }),
        serde_json::json!({ "wait": { "signal": "s", "until": "x", "timeout": "5m" } }),
        serde_json::json!({ "wait": { "timeout": "5m" } }),
        serde_json::json!({ "uses": "a", "as": "x" }),
        serde_json::json!({ "uses": "a", "compensate": { "none": "harmless", "uses": "b" } }),
        serde_json::json!({ "uses": "a", "compensate": {} }),
        serde_json::json!({ "uses": "a", "retry": null }),
    ] {
        assert!(!valid(bad.clone()), "{bad}");
    }
}
