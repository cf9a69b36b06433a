//! The tables of `docs/reliability.md` and the tests they name: every case has its row, every row says how the case is
//! tested or why it is not, and every test that it names exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use flowrun::teeth::{Bug, Catcher};

/// The cases of each group, and the promises.
const CASES: [(&str, &[u32]); 9] = [
    ("A", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]),
    ("B", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]),
    ("C", &[1, 2, 3, 4, 5, 6, 7]),
    ("D", &[1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]),
    ("E", &[1, 2, 3, 4, 5]),
    ("F", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]),
    ("G", &[1, 2, 3, 4, 5, 6, 7]),
    ("K", &[1, 2, 3, 4, 5]),
    ("P", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Collects the names of all functions that are tests.
fn tests_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path: PathBuf = entry.expect("an entry").path();
        if path.is_dir() {
            tests_in(&path, names);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
                if let (true, Some(function)) = (marked, function) {
                    names.extend(function.split(['(', '<']).next().map(str::to_owned));
                    marked = false;
                }
            }
        }
    }
}

fn all_tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    tests_in(&root().join("src"), &mut names);
    tests_in(&root().join("tests"), &mut names);
    assert!(names.len() > 300, "only {} tests were found", names.len());
    names
}

/// The rows of the page's tables: the first cell, and the others.
fn rows() -> Vec<(String, Vec<String>)> {
    let page = std::fs::read_to_string(root().join("docs/reliability.md")).expect("the page");
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let rows = page.lines().filter(|line| line.starts_with("| ")).map(|line| -> Vec<String> { cells(line) });
    rows.map(|mut cells| (cells.remove(0), cells)).collect()
}

/// What a cell puts between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_case_is_tested_or_says_why_not() {
    let (rows, tests) = (rows(), all_tests());
    let mut wrong = Vec::new();
    for (group, numbers) in CASES {
        for number in numbers {
            let case = if group == "P" { format!("P{number}") } else { format!("{group}{number:02}") };
            let mut found = rows.iter().filter(|(first, _)| *first == case);
            let (Some((_, cells)), None) = (found.next(), found.next()) else {
                wrong.push(format!("{case} must have one row"));
                continue;
            };
            // A promise is shown by tests or by cases, a case by tests.
            let shown_by = cells.get(if group == "P" { 2 } else { 1 }).map_or("", String::as_str);
            let named: Vec<&str> = quoted(shown_by).filter(|name| !name.contains('/')).collect();
            let by_cases = group == "P" && shown_by.starts_with(|first: char| "ABCDEFGK".contains(first));
            if named.is_empty() && !by_cases && !shown_by.starts_with("not covered: ") {
                wrong.push(format!("{case} names no test and does not say `not covered: ...`"));
            }
            let gone = named.iter().filter(|name| !tests.contains(**name));
            wrong.extend(gone.map(|name| format!("{case} names {name}, which is no test")));
            if cells.first().is_none_or(|what| what.is_empty() || what == "|") {
                wrong.push(format!("{case} does not say what is done"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_deliberate_bug_is_listed_with_its_test() {
    let rows = rows();
    for bug in Bug::ALL {
        let (Catcher::Unit(path) | Catcher::It(path)) = bug.caught_by();
        let test = path.rsplit("::").next().expect("a path has a last part");
        let listed = rows.iter().any(|(first, cells)| {
            *first == format!("`{}`", bug.name()) && cells.iter().any(|cell| quoted(cell).any(|name| name == test))
        });
        assert!(listed, "`{}` and `{test}` are not in the table of deliberate bugs", bug.name());
    }
}
