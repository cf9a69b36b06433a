use serde_json::json;

use super::*;

const HEAD: &str = "flowrun: 1\nname: a\nsteps: { a: { uses: core.pass } }\n";

/// Lays out a project with a workflow in `flows/a.yaml`.
fn project(workflow: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder can be made");
    for (name, text) in files.iter().copied().chain([("project/flows/a.yaml", workflow)]) {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("it can be made");
        std::fs::write(path, text).expect("it can be written");
    }
    let path = root.path().join("project/flows/a.yaml");
    (root, path)
}

fn load(workflow: &str, files: &[(&str, &str)], overrides: &Overrides) -> (Option<Loaded>, Vec<Finding>) {
    let (_root, path) = project(workflow, files);
    Definition::load(&path, overrides, &Limits::default())
}

fn sets(sets: &[(&str, &str)]) -> Overrides {
    Overrides { config: None, sets: sets.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect() }
}

const CONFIG: &str = "config: { payment: { timeout: 30s, attempts: 3, on: true }, tags: [a], open: {}, any: }\n";

#[test]
fn what_the_user_sets_has_the_kind_of_the_default() {
    let workflow = format!("{HEAD}{CONFIG}");
    let (loaded, findings) = load(
        &workflow,
        &[],
        &sets(&[
            ("payment.timeout", "10"),
            ("payment.attempts", "5"),
            ("payment.on", "false"),
            ("tags", "[x, y]"),
            ("open.new", "1"),
            ("any", "text"),
        ]),
    );
    assert_eq!(findings, []);
    assert_eq!(
        loaded.expect("it loads").definition.config,
        json!({ "payment": { "timeout": "10", "attempts": 5, "on": false }, "tags": ["x", "y"], "open": { "new": 1 }, "any": "text" })
    );
}

#[test]
fn what_does_not_fit_names_the_flag() {
    let workflow = format!("{HEAD}{CONFIG}");
    for (path, value, part, help) in [
        ("payment.attempts", "many", "--set payment.attempts=many`: the value must be a number", None),
        ("payment.on", "yes", "must be `true` or `false`", None),
        ("payment.timeuot", "1s", "no configuration `payment.timeuot`", Some("`payment.timeout`")),
        ("paymnet.timeout", "1s", "no configuration `paymnet`", Some("`payment`")),
        ("payment.timeout.x", "1s", "no configuration `payment.timeout.x`", None),
        ("payment", "1", "must be a map", None),
        ("", "1", "no configuration ``", None),
        ("tags", "[a", "must be a YAML value", None),
    ] {
        let (_, findings) = load(&workflow, &[], &sets(&[(path, value)]));
        let [finding] = findings.as_slice() else { panic!("{path}: {findings:?}") };
        assert!(finding.message.contains(part), "{path}: {}", finding.message);
        if let Some(help) = help {
            assert!(finding.help.as_deref().is_some_and(|h| h.contains(help)), "{path}: {:?}", finding.help);
        }
    }
}

#[test]
fn a_config_file_is_merged() {
    let workflow = format!("{HEAD}{CONFIG}");
    let overrides = Overrides { config: Some(json!({ "payment": { "attempts": 9 } })), sets: Vec::new() };
    let (loaded, findings) = load(&workflow, &[], &overrides);
    assert_eq!(findings, []);
    let config = loaded.expect("it loads").definition.config;
    assert_eq!(config["payment"], json!({ "timeout": "30s", "attempts": 9, "on": true }));
    let overrides = Overrides { config: Some(json!({ "payment": { "attemps": 9, "on": 1 } })), sets: Vec::new() };
    let (_, findings) = load(&workflow, &[], &overrides);
    assert_eq!(findings.len(), 2, "{findings:?}");
}

#[test]
fn a_schema_in_files_becomes_one() {
    let workflow = format!("{HEAD}input: {{ $ref: ../schemas/order.json }}\n");
    let order = r##"{ "$id": "https://example.org/order", "type": "object", "properties": {
        "to": { "$ref": "parts/address.json#/$defs/full" }, "self": { "$ref": "#/properties/n" }, "n": { "type": "integer" } } }"##;
    let address = r##"{ "$defs": { "full": { "type": "object", "required": ["zip"], "properties": {
        "zip": { "$ref": "#/$defs/zip" }, "order": { "$ref": "../order.json" } } }, "zip": { "type": "string" } } }"##;
    let files = [("project/schemas/order.json", order), ("project/schemas/parts/address.json", address)];
    let (loaded, findings) = load(&workflow, &files, &Overrides::default());
    assert_eq!(findings, []);
    let loaded = loaded.expect("it loads");
    let schema = loaded.input_schema.expect("it has one");
    let validator = schema::compile(&schema).expect("it is valid");
    assert!(validator.is_valid(&json!({ "to": { "zip": "1", "order": { "n": 1 } }, "self": 3 })));
    assert!(!validator.is_valid(&json!({ "to": {} })));
    assert!(!validator.is_valid(&json!({ "to": { "zip": 1 } })));
    assert!(!validator.is_valid(&json!({ "to": { "zip": "1", "order": { "n": "x" } } })));
    assert!(!validator.is_valid(&json!({ "self": "x" })));
    let names: Vec<_> = loaded.definition.files.keys().cloned().collect();
    assert_eq!(names, ["../schemas/order.json", "../schemas/parts/address.json"]);
    // What was stored is enough: the files are gone by now.
    let (again, findings) = loaded.definition.clone().reopen(&Limits::default());
    assert_eq!(findings, []);
    let again = again.expect("it opens again");
    assert_eq!(again.input_schema, Some(schema));
    assert_eq!(again.definition.fingerprint(), loaded.definition.fingerprint());
}

#[test]
fn f12_references_stay_inside_the_project() {
    let outside = [("secret.json", "{}"), ("project/ok.json", "{}")];
    for (to, part) in [
        ("https://example.org/a.json", "network"),
        ("../../secret.json", "outside the project"),
        ("/etc/passwd", "relative"),
        ("../missing.json", "cannot be used"),
        ("..", "folder"),
    ] {
        let (_, findings) = load(&format!("{HEAD}input: {{ $ref: {to} }}\n"), &outside, &Overrides::default());
        let [finding] = findings.as_slice() else { panic!("{to}: {findings:?}") };
        assert_eq!(finding.code, FindingCode::BadRef, "{to}");
        assert!(finding.message.contains(part), "{to}: {}", finding.message);
        assert_eq!(finding.span.len, to.len(), "{to}");
    }
    assert_eq!(load(&format!("{HEAD}input: {{ $ref: ../ok.json }}\n"), &outside, &Overrides::default()).1, []);
}

#[cfg(unix)]
#[test]
fn f12_a_link_does_not_lead_out() {
    let (root, path) = project(&format!("{HEAD}input: {{ $ref: link.json }}\n"), &[("secret.json", "{}")]);
    std::os::unix::fs::symlink(root.path().join("secret.json"), root.path().join("project/flows/link.json"))
        .expect("a link can be made");
    let (_, findings) = Definition::load(&path, &Overrides::default(), &Limits::default());
    assert!(findings[0].message.contains("outside the project"), "{findings:?}");
}

#[test]
fn f12_a_schema_that_is_none_is_shown_at_its_place() {
    let (_, findings) = load(&format!("{HEAD}input: {{ type: objekt }}\n"), &[], &Overrides::default());
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].code, FindingCode::BadSchema);
    let file = [("project/bad.json", "{ \"type\": 3 }")];
    let (_, findings) = load(&format!("{HEAD}input: {{ $ref: ../bad.json }}\n"), &file, &Overrides::default());
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("../bad.json"), "{findings:?}");
}

#[test]
fn a_fault_in_another_file_names_that_file_and_its_line() {
    let workflow = "flowrun: 1\nname: a\ninput: { $ref: ../schemas/outer.json }\nsteps: { a: { uses: core.pass } }\n";
    let outer = r#"{ "properties": { "a": { "$ref": "inner.json" } } }"#;
    for (inner, told) in [
        ("{\n  \"type\": \"strin\" }", "`../schemas/inner.json` is not a valid JSON Schema: line 2, column 11: "),
        ("{\n  \"type\": [ }", "`../schemas/inner.json` cannot be used: line 2, column 13: "),
    ] {
        let (_, findings) = load(
            workflow,
            &[("project/schemas/outer.json", outer), ("project/schemas/inner.json", inner)],
            &Overrides::default(),
        );
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].message.starts_with(told), "{}", findings[0].message);
        assert_eq!(findings[0].span.start, workflow.find("../schemas").expect("it stands there"));
    }
}

#[test]
fn the_fingerprint_is_of_the_content() {
    let base = Definition { path: "a".into(), text: "x".into(), files: Files::new(), config: json!({}) };
    let same = Definition { path: "elsewhere".into(), ..base.clone() };
    assert_eq!(base.fingerprint(), same.fingerprint());
    let text = Definition { text: "y".into(), ..base.clone() };
    let config = Definition { config: json!({ "a": 1 }), ..base.clone() };
    let files = Definition { files: [("f".to_owned(), String::new())].into_iter().collect(), ..base.clone() };
    for other in [text, config, files] {
        assert_ne!(base.fingerprint(), other.fingerprint());
    }
}

#[test]
fn f07_bytes_that_are_no_text_have_a_place() {
    let (_, finding) = source("a", b"\xEF\xBB\xBFa: \xFF\n".to_vec()).expect_err("it is not UTF-8");
    assert_eq!(finding.span, Span::new(3, 3));
    assert_eq!(&*source("a", b"\xEF\xBB\xBFa: 1\n".to_vec()).expect("it is").text, "a: 1\n");
}
