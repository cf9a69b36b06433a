//! Every name of the shipped workflow, mistyped one at a time: each mistake is found, and shown exactly where it is.

use std::ops::Range;
use std::path::Path;

use flowrun::check::check;
use flowrun::definition::{Definition, Overrides};
use flowrun::diag::{Severity, text};
use flowrun::limits::Limits;

/// Returns where names stand that refer to something: the parts of paths in templates, and values of certain keys.
fn names(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let word = |from: usize| from + text[from..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(0);
    for root in ["steps.", "input.", "config.", "run."] {
        for (at, _) in text.match_indices(root) {
            if !text[..at].ends_with([' ', '{', '(']) {
                continue;
            }
            let mut from = at + root.len();
            loop {
                let to = word(from);
                found.push(from..to);
                if !text[to..].starts_with('.') {
                    break;
                }
                from = to + 1;
            }
        }
    }
    for key in [" uses: ", " service: ", " use: "] {
        for (at, _) in text.match_indices(key) {
            let from = at + key.len();
            let to = from + text[from..].find([' ', ',', '\n']).unwrap_or(0);
            found.push(from..to);
        }
    }
    for key in ["needs: [", "errors: ["] {
        for (at, _) in text.match_indices(key) {
            let from = at + key.len();
            let end = from + text[from..].find(']').unwrap_or(0);
            let mut start = from;
            for name in text[from..end].split(", ") {
                found.push(start..start + name.len());
                start += name.len() + 2;
            }
        }
    }
    found
}

#[test]
fn f09_every_mistyped_name_is_found_where_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let original = std::fs::read_to_string(root.join("workflows/ecommerce-order.yaml")).expect("the workflow is there");
    let project = tempfile::tempdir().expect("a directory");
    for folder in ["workflows", "schemas"] {
        std::fs::create_dir(project.path().join(folder)).expect("a directory");
    }
    let schema = "schemas/order.schema.json";
    std::fs::copy(root.join(schema), project.path().join(schema)).expect("the schema can be copied");
    let path = project.path().join("workflows/ecommerce-order.yaml");
    let contracts = flowrun::orders::registry().finish().expect("the handlers are in order").contracts();

    let names = names(&original);
    assert!(names.len() > 150, "only {} names", names.len());
    for name in names {
        let mut mutated = original.clone();
        mutated.insert(name.end, 'q');
        std::fs::write(&path, &mutated).expect("the file can be written");
        let (loaded, mut findings, file) =
            Definition::load_with_source(&path, &Overrides::default(), &Limits::default());
        findings.extend(loaded.iter().flat_map(|loaded| check(loaded, &contracts)));
        let errors: Vec<_> = findings.iter().filter(|f| f.severity == Severity::Error).collect();
        let all = || findings.iter().map(|f| text(f, &file, flowrun::diag::Style::default())).collect::<String>();
        let wrong = &mutated[name.start..=name.end];
        let line = mutated[..name.start].matches('\n').count() + 1;
        assert!(
            errors.iter().any(|f| f.span.start <= name.start && name.end < f.span.end() && f.span.len <= wrong.len()),
            "`{wrong}` in line {line}:\n{}",
            all()
        );
        assert!(errors.len() == 1, "one mistake, {} errors: `{wrong}` in line {line}:\n{}", errors.len(), all());
        assert!(errors[0].help.is_some(), "no help for `{wrong}`:\n{}", all());
    }
}

#[test]
fn f14_files_with_a_line_missing_or_doubled_never_panic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let original = std::fs::read_to_string(root.join("workflows/ecommerce-order.yaml")).expect("the workflow is there");
    let contracts = flowrun::orders::registry().finish().expect("the handlers are in order").contracts();
    let project = tempfile::tempdir().expect("a directory");
    let path = project.path().join("order.yaml");
    let lines: Vec<&str> = original.lines().collect();
    let mut compiled = 0;
    for i in 0..lines.len() {
        let without = [&lines[..i], &lines[i + 1..]].concat().join("\n");
        let halved = lines[i].char_indices().nth(lines[i].chars().count() / 2).map_or(0, |(at, _)| at);
        let cut = [&lines[..i], &[&lines[i][..halved]], &lines[i + 1..]].concat().join("\n");
        for text in [without, cut] {
            std::fs::write(&path, &text).expect("the file can be written");
            let (loaded, _) = Definition::load(&path, &Overrides::default(), &Limits::default());
            if let Some(loaded) = loaded {
                let findings = check(&loaded, &contracts);
                assert!(findings.iter().all(|f| f.span.end() <= text.len()), "{findings:?}");
                compiled += usize::from(flowrun::plan::compile(&loaded, &contracts).is_ok());
            }
        }
    }
    assert!(compiled > 50, "most of the damage must leave something to check, only {compiled} did");
}
