//! The reader of YAML, from outside: it agrees with another one, keeps its limits, and never panics.

use std::path::{Path, PathBuf};

use flowrun::diag::{SourceFile, Span};
use flowrun::dsl::{self, Part, Tree};
use flowrun::limits::Limits;
use serde_json::{Value, json};

fn tree(text: &str) -> Tree {
    let (tree, findings) = Tree::read(&SourceFile::new("a.yaml", text), &Limits::default());
    assert_eq!(findings, [], "{text}");
    tree.expect("no finding, so there is a tree")
}

fn yaml_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> =
        ["tests/cases", "workflows", "examples"].iter().map(|f| root.join(f)).filter(|f| f.is_dir()).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Both parsers must give the same value for every file that ours has nothing against.
#[test]
fn two_parsers_agree() {
    let mut compared = 0;
    for path in yaml_files() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let file = SourceFile::new("a.yaml", &text);
        let (Some(tree), findings) = Tree::read(&file, &Limits::default()) else { continue };
        if !findings.is_empty() {
            continue;
        }
        let other: Value = serde_yaml::from_str(&file.text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(*tree.value(), other, "{}", path.display());
        compared += 1;
    }
    assert!(compared > 20, "only {compared} files were compared");
}

#[test]
fn f05_two_parsers_agree_on_scalars() {
    for text in [
        "a: |\n  one\n   two\n\n  three\n",
        "a: >\n  one\n  two\n\n  three\n",
        "a: >-\n  one\n\n\n  two\n",
        "a: |+\n  one\n\n",
        "a: |2\n    one\n",
        "a: 'it''s'\n",
        "a: \"x\\ty\\u00e4\\\n   z\"\n",
        "a: one\n  two\n",
        "a: [1, -2, 3.5, 1e3, 0x1F, 0o17]\n",
        "a: [no, on, y, ~, null, true, False]\n",
        "a: [1_000, 12:30:45, 2001-12-14, 007, +1]\n",
        "a: 18446744073709551615\n",
        "a: -9223372036854775808\n",
        "? a\n: b\n",
        "a: {b: {c: [d, {e: f}]}}\n",
        "a: &x [1]\nb: *x\n",
        "a:\n- b\n- c\n",
        "'a': \"\"\n",
        "a: b # c\n",
        "a: b#c\n",
        "\"a\": 'b'\n",
        "a: |\n  last line without a break",
    ] {
        let other: Value = serde_yaml::from_str(text).expect(text);
        assert_eq!(*tree(text).value(), other, "{text}");
    }
}

#[test]
fn places_are_exact() {
    let text = "a:\n  - x: \"1\\n{{ name }}\"\n    'y z': |-\n      one {{ steps.b }}\n\n      two {{ steps.c }}\n  - [p, q]\nb: &t { long: 'it''s {{ n }}' }\nc: *t\n";
    let tree = tree(text);
    let shown = |span: Span| &text[span.range()];
    assert_eq!(shown(tree.span("/a", Part::Key)), "a");
    assert_eq!(shown(tree.span("/a/0/x", Part::Key)), "x");
    assert_eq!(shown(tree.span("/a/0/x", Part::Value)), "\"1\\n{{ name }}\"");
    assert_eq!(shown(tree.span("/a/0/y z", Part::Key)), "'y z'");
    assert_eq!(shown(tree.span("/a/0/y z", Part::Value)), "'y z'", "a value of several lines is shown at its key");
    assert_eq!(shown(tree.span("/a/1", Part::Value)), "[p, q]");
    assert_eq!(shown(tree.span("/a/1/1", Part::Value)), "q");
    assert_eq!(shown(tree.span("/c", Part::Value)), "*t");
    assert_eq!(shown(tree.span("/c/long", Part::Value)), "'it''s {{ n }}'");
    assert_eq!(shown(tree.span("/b/missing", Part::Key)), "b", "what is missing is shown at the map that lacks it");
    let inside = |pointer: &str, name: &str| {
        let value = tree.value().pointer(pointer).and_then(Value::as_str).expect("a text");
        let at = value.find(name).expect("the text has it");
        let span = tree.inside(pointer, at..at + name.len());
        assert_eq!(shown(span), name);
        span.start
    };
    inside("/a/0/x", "name");
    assert_eq!(inside("/a/0/y z", "steps.b"), text.find("steps.b").expect("it is there"));
    assert_eq!(inside("/a/0/y z", "steps.c"), text.find("steps.c").expect("it is there"));
    assert_eq!(inside("/c/long", "n }}"), text.find("n }}'").expect("it is there"));
}

#[test]
fn an_unquoted_template_is_read_as_if_it_were_quoted() {
    let text = "a: {{ x.y }}\nb: {{ p[\"q\"] }} and {{ r }}\n";
    let (tree, findings) = Tree::read(&SourceFile::new("a", text), &Limits::default());
    assert_eq!(findings.len(), 2);
    let tree = tree.expect("the rest can be read");
    assert_eq!(*tree.value(), json!({ "a": "{{ x.y }}", "b": "{{ p[\"q\"] }} and {{ r }}" }));
    assert_eq!(&text[tree.inside("/a", 3..6).range()], "x.y");
}

fn read(text: &str, limits: &Limits) -> Vec<String> {
    let (_, findings) = dsl::parse(&SourceFile::new("a.yaml", text), limits);
    findings.into_iter().map(|f| f.message).collect()
}

const SMALL: &str = "flowrun: 1\nname: a\nsteps: { a: { uses: core.pass } }\n";

#[test]
fn limits_hold_to_the_byte_and_the_step() {
    let bytes = |n: u64| {
        let limits = Limits { definition_bytes: n, ..Limits::default() };
        read(SMALL, &limits)
    };
    let size = SMALL.len() as u64;
    assert!(bytes(size - 1)[0].contains("the limit is"));
    assert!(bytes(size).is_empty());
    assert!(bytes(size + 1).is_empty());

    let aliases = |n: usize| {
        let list = vec!["*x"; n].join(", ");
        read(&format!("{SMALL}config: {{ x: &x 1, y: [{list}] }}\n"), &Limits::default())
    };
    assert!(aliases(99).is_empty());
    assert!(aliases(100).is_empty());
    assert!(aliases(101)[0].contains("more than 100 aliases"));

    let nested = |n: usize| {
        read(&format!("{SMALL}config: {{ a: {}{} }}\n", "[".repeat(n - 2), "]".repeat(n - 2)), &Limits::default())
    };
    assert!(nested(31).is_empty());
    assert!(nested(32).is_empty());
    assert!(nested(33)[0].contains("more than 32 levels"));
    let through_alias = |n: usize| {
        let deep = format!("{}{}", "[".repeat(n), "]".repeat(n));
        read(&format!("{SMALL}config: {{ a: &a {deep}, b: [[*a]] }}\n"), &Limits::default())
    };
    assert!(through_alias(28).is_empty());
    assert!(through_alias(29)[0].contains("more than 32 levels"));

    let steps = |n: usize| {
        let all: String = (0..n).map(|i| format!("  s{i}: {{ uses: core.pass }}\n")).collect();
        read(&format!("flowrun: 1\nname: a\nsteps:\n{all}"), &Limits::default())
    };
    assert!(steps(999).is_empty());
    assert!(steps(1_000).is_empty());
    assert_eq!(steps(1_001), ["the workflow has 1001 steps; the limit is 1000"]);
}

#[test]
fn f01_f02_f03_hostile_files_end_with_a_finding() {
    let limits = Limits::default();
    let endless = Limits { nesting: u64::MAX, aliases: u64::MAX, ..Limits::default() };
    for text in [
        "[".repeat(100_000),
        "{".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        "[{a: ".repeat(50_000),
        "{{".repeat(50_000),
        "a: {{ b }}\n".repeat(20_000),
        (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).take(1_000).collect(),
        "\"".repeat(100_001),
        "&a ".repeat(50_000),
        "*".repeat(100_000),
        "!".repeat(100_000),
        "x".repeat(1_000_000),
        "a: 1\n".repeat(200_000),
        (0..100_000).map(|i| format!("k{i}: 1\n")).collect(),
        (0..80_000).map(|i| format!("k{i}: !x 1\n")).collect(),
        format!("flowrun: 1\nname: a\nsteps:\n{}", (0..100_000).map(|i| format!(" s{i}:\n")).collect::<String>()),
        format!("{SMALL}finally:\n{}", (0..70_000).map(|i| format!(" s{i}: {{}}\n")).collect::<String>()),
    ] {
        for limits in [&limits, &endless] {
            assert!(!read(&text, limits).is_empty(), "{}", &text[..20.min(text.len())]);
        }
    }
}
