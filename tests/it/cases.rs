//! A case is a file: each `tests/cases/*/NAME.yaml` has its findings beside it in `NAME.txt`.
//!
//! `FLOWRUN_BLESS=1 cargo test --test it` writes the snapshots anew; read the difference before you commit it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use flowrun::check::check;
use flowrun::definition::{Definition, Overrides};
use flowrun::diag::{Finding, SourceFile, Style, in_file_order, json, text};
use flowrun::dsl;
use flowrun::limits::Limits;

use crate::contracts::contracts;

/// What a directory of cases is held against: the bytes of a file to the file and its findings.
type Look = fn(&Path) -> (SourceFile, Vec<Finding>);

fn dsl_findings(path: &Path) -> (SourceFile, Vec<Finding>) {
    let bytes = std::fs::read(path).expect("the case can be read");
    let name = path.file_name().expect("a case has a name").to_string_lossy().into_owned();
    match flowrun::definition::source(&name, bytes) {
        Ok(file) => {
            let (_, findings) = dsl::parse(&file, &Limits::default());
            (file, findings)
        }
        Err((file, finding)) => (file, vec![*finding]),
    }
}

fn check_findings(path: &Path) -> (SourceFile, Vec<Finding>) {
    let (loaded, mut findings, file) = Definition::load_with_source(path, &Overrides::default(), &Limits::default());
    if let Some(loaded) = &loaded {
        findings.extend(check(loaded, &contracts()));
        in_file_order(&mut findings);
    }
    // The snapshot shows the name alone, wherever the case lies.
    let name = path.file_name().expect("a case has a name").to_string_lossy();
    (SourceFile::new(name, &file.text), findings)
}

fn snapshot(file: &SourceFile, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "valid\n".to_owned();
    }
    let mut out = String::new();
    for finding in findings {
        let place = json(finding, file);
        let _ = writeln!(
            out,
            "{} at {}:{}, {} characters",
            finding.severity.as_str(),
            place["line"],
            place["column"],
            place["length"]
        );
        let shown = text(finding, file, Style::default());
        // Editors take blanks off line ends, and a snapshot should survive that.
        for line in shown.lines() {
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out.push('\n');
    }
    out
}

fn compare(directory: &str, look: Look) {
    let bless = std::env::var_os("FLOWRUN_BLESS").is_some();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(directory);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&root)
        .expect("the cases are there")
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no case in {}", root.display());
    let mut wrong = String::new();
    for path in files {
        let (file, findings) = look(&path);
        assert!(findings.is_sorted_by_key(|f| f.span.start), "{}: findings are not in file order", path.display());
        let found = snapshot(&file, &findings);
        let beside = path.with_extension("txt");
        if bless {
            std::fs::write(&beside, &found).expect("the snapshot can be written");
            continue;
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        if expected != found {
            let _ = writeln!(wrong, "--- {}\nexpected:\n{expected}\nfound:\n{found}", path.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nIf this is as it should be: FLOWRUN_BLESS=1 cargo test --test it");
}

#[test]
fn f01_to_f10_each_bad_file_has_its_findings() {
    compare("dsl", dsl_findings);
}

#[test]
fn f10_f11_g04_each_wrong_workflow_has_its_findings() {
    compare("check", check_findings);
}

#[test]
fn good_workflows_have_no_finding() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/check");
    let mut seen = 0;
    for entry in std::fs::read_dir(root).expect("the cases are there") {
        let path = entry.expect("the directory can be read").path();
        let name = path.file_name().expect("a case has a name").to_string_lossy().into_owned();
        if name.starts_with("good-") && name.ends_with(".yaml") {
            let (file, findings) = check_findings(&path);
            assert!(findings.is_empty(), "{}", snapshot(&file, &findings));
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} good workflows");
}

#[test]
fn the_shipped_workflow_has_no_finding() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/ecommerce-order.yaml");
    let (loaded, mut findings, file) = Definition::load_with_source(&path, &Overrides::default(), &Limits::default());
    let loaded = loaded.expect("it can be read");
    let contracts = flowrun::orders::registry().finish().expect("the handlers are in order").contracts();
    findings.extend(check(&loaded, &contracts));
    assert!(findings.is_empty(), "{}", snapshot(&file, &findings));
    flowrun::plan::compile(&loaded, &contracts).expect("it compiles");
}

fn test_file_findings(path: &Path) -> (SourceFile, Vec<Finding>) {
    // A scenario of no name is played: only whether the file is valid matters.
    let options = flowrun::scenario::TestOptions { filter: Some("nothing".to_owned()), ..Default::default() };
    let registry = flowrun::orders::registry();
    let mut summary = flowrun::scenario::run_files(&[path.to_path_buf()], &registry, &options);
    let findings = summary.files.pop().expect("one file was given").findings;
    let name = path.file_name().expect("a case has a name").to_string_lossy().into_owned();
    match findings.into_iter().next() {
        Some((file, findings)) => {
            let root = env!("CARGO_MANIFEST_DIR");
            let plain = |text: String| text.replace(root, "");
            let findings = findings.into_iter().map(|f| Finding { message: plain(f.message), ..f }).collect();
            (SourceFile::new(name, file.text), findings)
        }
        None => (SourceFile::new(name, ""), Vec::new()),
    }
}

#[test]
fn test_files() {
    compare("test", test_file_findings);
}
