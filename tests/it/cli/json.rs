//! The shapes of JSON that programs rely on.

use serde_json::{Value, json};

use super::codes::{FAIL, PASS};
use super::harness::Test;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_run_is_one_object() {
    let done = Test::new().workflow("w", FAIL).args("exec --id r -o json").code(1).run();
    let run = done.json();
    assert_eq!(run["v"], 1);
    for key in ["run_id", "workflow", "status", "compensation", "output", "error", "steps"] {
        assert!(keys(&run).contains(&key), "{key}");
    }
    assert_eq!(run["steps"]["only"]["attempts"], 1);
    assert_eq!(run["steps"]["only"]["via"], Value::Null);
    assert_eq!(run["error"]["code"], "my.code");
    assert_eq!(run["undone"], json!([]));
    let shown = Test::after(done).args("show @last -o jsonl").run();
    assert_eq!(shown.stdout.lines().count(), 1);
    assert_eq!(shown.json(), run);
}

#[test]
fn lists_are_objects_or_lines() {
    let done = Test::new().workflow("w", PASS).args("exec --id a").run();
    let done = Test::after(done).args("exec --id b").run();
    let listed = Test::after(done).args("list -o json").run();
    let list = listed.json();
    assert_eq!(list["v"], 1);
    assert_eq!(list["runs"][0]["run_id"], "b", "newest first");
    let wanted = ["run_id", "workflow", "status", "compensation", "started_at", "finished_at"];
    assert_eq!(keys(&list["runs"][0]), wanted);
    let listed = Test::after(listed).args("list -o jsonl --limit 1").run();
    assert_eq!(listed.lines().len(), 1);
}

#[test]
fn every_line_says_its_version() {
    let mut done = Test::new().workflow("w", PASS).args("exec --id a -o jsonl").run();
    assert_eq!(done.json()["v"], 1);
    for line in ["list", "show", "history", "validate", "handlers", "graph", "db check"] {
        done = Test::after(done).args(&format!("{line} -o jsonl")).run();
        let lines = done.lines();
        assert!(!lines.is_empty() && lines.iter().all(|l| l["v"] == 1), "{line}: {}", done.stdout);
    }
}

#[test]
fn findings_have_places() {
    let bad = "steps:\n  only: { uses: core.passs }\n";
    let done = Test::new().workflow("w", bad).args("validate -o json").code(3).run();
    let file = &done.json()["files"][0];
    assert_eq!(file["path"], "workflows/w.yaml");
    assert_eq!(file["valid"], false);
    let finding = &file["findings"][0];
    assert_eq!(keys(finding), ["code", "severity", "message", "help", "line", "column", "length"]);
    assert_eq!((&finding["line"], &finding["column"], &finding["length"]), (&json!(4), &json!(17), &json!(10)));
    assert_eq!(done.stderr, "");
}

#[test]
fn history_is_a_line_for_each_event() {
    let done = Test::new().workflow("w", PASS).args("exec --id r").run();
    let done = Test::after(done).args("history r -o jsonl").run();
    let events = done.lines();
    let types: Vec<&str> = events.iter().filter_map(|e| e["type"].as_str()).collect();
    assert_eq!(types.first(), Some(&"run_started"));
    assert_eq!(types.last(), Some(&"run_finished"));
    assert!(types.contains(&"step_started") && types.contains(&"step_succeeded"), "{types:?}");
    assert!(events.iter().enumerate().all(|(n, e)| e["seq"] == n && e["at"].is_string()));
}

#[test]
fn problems_are_json_too() {
    let done = Test::new().args("show nope -o json").code(8).run();
    assert_eq!(done.stdout, "");
    let problem: Value = serde_json::from_str(&done.stderr).expect("JSON");
    assert_eq!(problem["error"]["exit"], 8);
    let done = Test::new().args("list --needs-atention -o json").code(2).run();
    let problem: Value = serde_json::from_str(&done.stderr).expect("JSON");
    assert_eq!(problem["error"]["message"], "unexpected argument '--needs-atention' found");
    assert_eq!(problem["error"]["help"], "a similar argument exists: '--needs-attention'");
}

#[test]
fn many_runs_are_one_document() {
    let done = Test::new().workflow("w", PASS).args("exec --input - -o json").stdin("{}\n{}\n{}\n").run();
    assert_eq!(done.json()["runs"].as_array().map(Vec::len), Some(3));
    let done = Test::new().workflow("w", PASS).args("exec --input none.jsonl -o json").file("none.jsonl", "").run();
    assert_eq!(done.json(), json!({ "v": 1, "runs": [] }));
}

#[test]
fn handlers_and_schemas_are_json() {
    let done = Test::new().args("handlers -o json").run();
    let all = done.json();
    let names: Vec<&str> =
        all["handlers"].as_array().expect("a list").iter().filter_map(|h| h["name"].as_str()).collect();
    assert!(names.contains(&"core.pass") && names.contains(&"payment.charge"), "{names:?}");
    for kind in ["workflow", "faults", "test"] {
        assert!(Test::new().args(&format!("schema {kind}")).run().json()["$schema"].is_string());
    }
}
