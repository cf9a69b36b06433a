//! Workflow files and the schemas they refer to, read without running anything.

use flowrun::check::check;
use flowrun::definition::Definition;
use flowrun::diag::{Finding, Severity, SourceFile};
use flowrun::dsl;
use flowrun::faults::Faults;
use flowrun::limits::Limits;
use flowrun::payload::Payload;
use serde_json::{Value, json};

use crate::contracts::contracts;

const SMALL: &str = "flowrun: 1\nname: a\nsteps: { a: { uses: core.pass } }\n";

/// Reads a workflow, and checks what could be read of it.
fn findings_of(text: &str, limits: &Limits) -> Vec<Finding> {
    let definition =
        Definition { path: "a.yaml".into(), text: text.into(), files: indexmap::IndexMap::new(), config: json!({}) };
    let (loaded, mut findings) = definition.reopen(limits);
    findings.extend(loaded.iter().flat_map(|loaded| check(loaded, &contracts())));
    findings
}

fn errors_of(text: &str, limits: &Limits) -> Vec<String> {
    findings_of(text, limits).into_iter().filter(|f| f.severity == Severity::Error).map(|f| f.message).collect()
}

/// What stands for the whole of a large file in a message.
fn start(text: &str) -> String {
    text.chars().take(60).collect()
}

#[test]
fn f01_aliases_cannot_blow_a_small_file_up() {
    let bomb: String = (1..10)
        .map(|level| format!("  l{level}: &l{level} [{}]\n", vec![format!("*l{}", level - 1); 9].join(", ")))
        .collect();
    let large = "x".repeat(20_000);
    let merge: String = (1..10).map(|l| format!("  m{l}: &m{l} {{ <<: *m{} }}\n", l - 1)).collect();
    for (text, said) in [
        (format!("{SMALL}config:\n  l0: &l0 [lol]\n{bomb}"), "aliases make the file larger than"),
        (
            format!("{SMALL}config: {{ a: &a {large}, b: [{}] }}\n", vec!["*a"; 5_000].join(", ")),
            "aliases make the file larger than",
        ),
        (format!("{SMALL}config: {{ a: &a {large}, b: [{}] }}\n", vec!["*a"; 101].join(", ")), "more than 100 aliases"),
        (format!("{SMALL}config: &c {{ a: *c }}\n"), "this alias stands inside what it refers to"),
        (format!("{SMALL}config:\n  m0: &m0 {{ a: 1 }}\n{merge}"), "the merge key `<<` is not supported"),
    ] {
        let aliases = if said.contains("100 aliases") { 100 } else { 100_000 };
        let errors = errors_of(&text, &Limits { aliases, ..Limits::default() });
        assert!(errors.iter().any(|e| e.contains(said)), "{said}: {errors:?}");
    }
}

#[test]
fn f02_deep_files_are_refused_before_anything_is_built_of_them() {
    let block: String = (2..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let endless = Limits { nesting: u64::MAX, ..Limits::default() };
    for text in ["[".repeat(10_000), "{a: ".repeat(10_000), "- ".repeat(10_000), "? ".repeat(10_000), block] {
        for (limits, levels) in [(&Limits::default(), 32), (&endless, 100)] {
            let said = format!("more than {levels} levels");
            for errors in [
                errors_of(&format!("{SMALL}config:\n  {}\n", text.trim_start()), limits),
                // Files of faults and of configuration have the same reader.
                Faults::parse(&text, limits).expect_err("it is too deep"),
            ] {
                let refused =
                    errors.iter().any(|e| e.contains(&said) || e.contains("flow") || e.contains("never closed"));
                assert!(refused, "{}: {errors:?}", start(&text));
            }
        }
    }
}

#[test]
fn f03_files_of_many_and_of_large_parts_end_with_a_finding() {
    let limits = Limits { definition_bytes: 20 << 20, ..Limits::default() };
    let keys: String = (0..200_000).map(|i| format!("k{i}: 1\n")).collect();
    for (text, limits, said) in [
        (format!("{SMALL}description: {}", "x".repeat(2 << 20)), &Limits::default(), "the limit is 1048576"),
        (keys.clone(), &Limits::default(), "the limit is 1048576"),
        (keys, &limits, "more than 1000 errors"),
        (format!("{SMALL}name: {}", "x".repeat(5 << 20)), &limits, "given again"),
    ] {
        let errors = errors_of(&text, limits);
        assert!(errors.iter().any(|e| e.contains(said)), "{said}: {:?}", errors.last());
        assert!(errors.len() <= 1_001);
    }
}

#[test]
fn f04_a_key_given_twice_is_an_error_at_every_level() {
    for (text, said) in [
        (format!("{SMALL}name: b\n"), "the key `name` of line 2 is given again in line 4"),
        ("flowrun: 1\nname: a\nsteps:\n  a: { uses: core.pass }\n  a: { uses: core.pass }\n".into(), "`a` of line 4"),
        ("flowrun: 1\nname: a\nsteps:\n  a: { uses: core.pass, uses: core.pass }\n".into(), "`uses` of line 4"),
        (
            "flowrun: 1\nname: a\nsteps: { a: { uses: core.pass, with: { x: [{ y: 1, y: 2 }] } } }\n".into(),
            "`y` of line 3",
        ),
    ] {
        let errors = errors_of(&text, &Limits::default());
        assert!(errors.iter().any(|e| e.contains(said)), "{said}: {errors:?}");
    }
    let errors = Faults::parse("faults: []\nfaults: []\n", &Limits::default()).expect_err("it is given twice");
    assert!(errors[0].contains("line 2, column 1: the key `faults` of line 1 is given again"), "{errors:?}");
}

#[test]
fn f06_numbers_of_a_file_are_kept_or_refused() {
    let value = |text: &str| {
        let file = SourceFile::new("a.yaml", text);
        let (tree, findings) = dsl::Tree::read(&file, &Limits::default());
        match findings.first() {
            None => Ok(tree.expect("no finding, so there is a tree").value().clone()),
            Some(finding) => Err(finding.message.clone()),
        }
    };
    for (text, kept) in [
        ("9007199254740993", json!(9_007_199_254_740_993_u64)),
        ("123456789012345678", json!(123_456_789_012_345_678_u64)),
        ("-0", json!(0)),
        ("007", json!("007")),
        ("0042.50", json!("0042.50")),
        ("29.99", json!(29.99)),
        ("1.10", json!(1.1)),
    ] {
        assert_eq!(value(text), Ok(kept), "{text}");
    }
    for (text, said) in [
        ("9007199254740993.5", "more digits than can be kept"),
        ("0.1000000000000000055511151231257827", "more digits than can be kept"),
        ("1e-999", "more digits than can be kept"),
        ("1e999", "too large"),
        ("18446744073709551616", "64 bits"),
        (".inf", "not a number"),
        (".nan", "not a number"),
    ] {
        assert!(value(text).is_err_and(|e| e.contains(said)), "{text}: {:?}", value(text));
    }
}

#[test]
fn f07_names_that_only_look_alike_are_refused() {
    // Composed, decomposed, Cyrillic, full-width, zero-width: none of them is a second `charge` or `pruefe`.
    for name in ["prüfe", "pru\u{308}fe", "сharge", "ｃharge", "cha\u{200b}rge", "charge\u{ad}", "Charge", "char ge"]
    {
        let text = format!(
            "flowrun: 1\nname: a\nsteps:\n  charge: {{ uses: core.pass }}\n  \"{name}\": {{ uses: core.pass }}\n"
        );
        let findings = findings_of(&text, &Limits::default());
        let at = text.rfind(&format!("\"{name}\"")).expect("it is there");
        assert!(findings.iter().any(|f| f.span.start == at), "{name:?}: {findings:?}");
    }
}

#[test]
fn f08_what_yaml_has_beyond_plain_data_is_refused() {
    for (text, said) in [
        (
            format!("{SMALL}config: {{ a: !!python/object:os.system {{ x: 1 }} }}\n"),
            "the tag `!!python/object:os.system`",
        ),
        (format!("{SMALL}config: {{ a: !include other.yaml }}\n"), "the tag `!include`"),
        (format!("{SMALL}config: {{ a: !!binary aGk= }}\n"), "the tag `!!binary`"),
        (format!("%YAML 1.2\n---\n{SMALL}"), "%"),
        (format!("{SMALL}---\n{SMALL}"), "a second document"),
        (format!("{SMALL}...\n---\n{SMALL}"), "a second document"),
    ] {
        let errors = errors_of(&text, &Limits::default());
        assert!(errors.iter().any(|e| e.contains(said)), "{said}: {errors:?}");
    }
}

/// A workflow of so many steps, each of which needs what `needs` says.
fn workflow_of(steps: usize, needs: impl Fn(usize) -> Vec<usize>) -> String {
    let mut text = "flowrun: 1\nname: a\nsteps:\n".to_owned();
    for step in 0..steps {
        let needs: Vec<String> = needs(step).into_iter().map(|n| format!("s{n}")).collect();
        text.push_str(&format!("  s{step}: {{ uses: core.pass, needs: [{}] }}\n", needs.join(", ")));
    }
    text
}

#[test]
fn f10_long_chains_and_dense_graphs_are_read_without_recursion() {
    let roomy = Limits { steps: 20_000, definition_bytes: 16 << 20, ..Limits::default() };
    let full = std::env::var_os("FLOWRUN_FULL").is_some();
    let (chain, dense) = if full { (10_000, 1_000) } else { (3_000, 200) };
    let sound = |text: String| assert_eq!(errors_of(&text, &roomy), [""; 0], "{}", start(&text));
    sound(workflow_of(chain, |step| step.checked_sub(1).into_iter().collect()));
    sound(workflow_of(dense, |step| (0..step).collect()));
    // The same chain, its end bent back to its beginning.
    let ring = workflow_of(chain, |step| vec![if step == 0 { chain - 1 } else { step - 1 }]);
    let errors = errors_of(&ring, &roomy);
    assert_eq!(errors.len(), 1, "{:?}", errors.iter().map(|e| start(e)).collect::<Vec<_>>());
}

#[test]
fn f10_every_circle_and_every_wrong_need_is_reported() {
    let text = "flowrun: 1\nname: a\nsteps:
  a: { uses: core.pass, needs: [b] }
  b: { uses: core.pass, needs: [a] }
  c: { uses: core.pass, needs: [d] }
  d: { uses: core.pass, needs: [c] }
  e: { uses: core.pass, needs: [e] }
  f: { uses: core.pass, needs: [nowhere] }
";
    let errors = errors_of(text, &Limits::default());
    for said in ["a -> b", "c -> d", "`e`", "unknown step `nowhere`"] {
        assert!(errors.iter().any(|e| e.contains(said)), "{said}: {errors:?}");
    }
}

#[test]
fn f10_f14_many_misspelt_names_cost_little_more_than_a_few() {
    // The work of suggestions is bounded for a file and not for a mistake: all are reported up to the limit on findings,
    // and only the first have a suggestion.
    let needs: String = (0..30_000).map(|i| format!("stpe{i}, ")).collect();
    let steps: String = (0..900).map(|i| format!("  step{i}: {{ uses: core.pass }}\n")).collect();
    let text = format!("flowrun: 1\nname: a\nsteps:\n{steps}  last: {{ uses: core.pass, needs: [{needs}] }}\n");
    let findings = findings_of(&text, &Limits::default());
    assert_eq!(findings.len(), 1_001);
    assert!(findings.last().is_some_and(|f| f.message.contains("more than 1000 errors")), "{:?}", findings.last());
    let suggested = |f: &&Finding| f.help.as_deref().is_some_and(|help| help.starts_with("Did you mean"));
    let suggested = findings.iter().filter(suggested).count();
    assert!((50..200).contains(&suggested), "{suggested} suggestions");
}

#[test]
fn f11_an_undo_that_reads_what_is_not_there_is_an_error() {
    let step = |with: &str, needs: &str| {
        let text = format!(
            "flowrun: 1\nname: a\nsteps:\n  a: {{ uses: core.pass, compensate: {{ uses: core.pass, with: {with} }} }}\n  b: {{ uses: core.pass, needs: [{needs}] }}\n"
        );
        findings_of(&text, &Limits::default())
    };
    let own = step("{ x: '{{ steps.a.output.x }}' }", "a");
    assert!(own.iter().any(|f| f.message.contains("step `a` refers to itself")), "{own:?}");
    let later = step("{ x: '{{ steps.b.output.x }}' }", "a");
    assert!(later.iter().any(|f| f.severity == Severity::Error), "{later:?}");
    let nothing = step("{ x: 1 }", "a");
    assert!(nothing.iter().any(|f| f.severity == Severity::Warning && f.message.contains("effect")), "{nothing:?}");
}

/// A schema of an input, and what is said of it, or of an input that does not fit it.
#[test]
fn f12_schemas_of_users_cannot_run_on() {
    let schema = |schema: Value| flowrun::dsl::schema::compile(&schema);
    let long = json!("a".repeat(50_000) + "!");
    for pattern in ["^(a+)+$", "^(a|aa)+$", "^(a*)*b$", "(.*)*x(.*)*y"] {
        let validator = schema(json!({ "pattern": pattern })).expect(pattern);
        assert!(!validator.is_valid(&long), "{pattern}");
    }
    for pattern in [r"(\w{1000}){1000}", r"((((a{100}){100}){100}){100}){100}", "(?<=a)b", r"(a)\1"] {
        assert!(schema(json!({ "pattern": pattern })).is_err(), "{pattern}");
    }
    let many = json!({ "enum": (0..100_000).collect::<Vec<_>>() });
    let validator = schema(many).expect("it is a schema");
    assert!(validator.is_valid(&json!(99_999)) && !validator.is_valid(&json!(-1)));
    for divisor in [json!(1e-300), json!(1e-15), json!(0.01)] {
        let validator = schema(json!({ "multipleOf": divisor })).expect("it is a schema");
        let _ = validator.is_valid(&json!(1e300));
        let _ = validator.is_valid(&json!(u64::MAX));
    }
    let list = schema(json!({ "$ref": "#/$defs/l", "$defs": { "l": { "items": { "$ref": "#/$defs/l" } } } }));
    assert!(list.expect("it is a schema").is_valid(&super::nested(100)));
}

#[test]
fn f12_schemas_that_refer_to_themselves_without_end_are_refused() {
    for schema in [
        json!({ "$ref": "#" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
        json!({ "anyOf": [{ "type": "string" }, { "not": { "$ref": "#" } }] }),
        json!({ "if": { "$ref": "#" }, "then": true }),
        json!({ "properties": { "x": { "oneOf": [{ "$ref": "#/properties/x" }] } } }),
    ] {
        let error = flowrun::dsl::schema::compile(&schema).err();
        assert!(error.is_some_and(|e| e.message.contains("refers to itself")), "{schema}");
    }
}

#[test]
fn f02_payloads_are_as_deep_as_they_can_be_read_back() {
    let deep = Payload::of(super::nested(100));
    assert!(deep.is_shallow());
    assert_eq!(Payload::from_text(deep.text()).expect("it is JSON"), deep);
    assert!(!Payload::of(super::nested(101)).is_shallow());
}
