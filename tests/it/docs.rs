//! The documents say what is so: their workflows are valid, their links lead somewhere, their commands exist, and what
//! the README shows is what the program prints.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flowrun::check::check;
use flowrun::definition::{Definition, Overrides};
use flowrun::diag::{Severity, Style, text};
use flowrun::faults::Faults;
use flowrun::limits::Limits;
use flowrun::scenario::{TestOptions, run_files};
use serde_json::Value;

/// A fenced block: what stands behind the fence, and its lines.
struct Block {
    info: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).expect("the folder can be read");
    let mut found: Vec<PathBuf> = docs.map(|entry| entry.expect("an entry").path()).collect();
    found.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    found.retain(|path| path.extension().is_some_and(|ext| ext == "md"));
    found.sort();
    assert!(found.len() > 8, "{found:?}");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn blocks(document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for line in document.lines() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some((indent, Block { info: info.to_owned(), text: String::new() })),
            (Some(_), Some((_, block))) => found.push(block),
            (None, Some((at, mut block))) => {
                block.text.push_str(line.get(at..).unwrap_or_default());
                block.text.push('\n');
                open = Some((at, block));
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is never closed");
    found
}

fn readme(info: &str) -> Vec<Block> {
    blocks(&read(&root().join("README.md"))).into_iter().filter(|block| block.info == info).collect()
}

fn flowrun(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowrun"));
    command.current_dir(folder).args(args).env("NO_COLOR", "1").env_remove("FLOWRUN_STORE");
    command.output().expect("flowrun can be started")
}

#[test]
fn workflows_in_documents_are_valid() {
    let contracts = flowrun::orders::registry().finish().expect("the handlers are in order").contracts();
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = 0;
    for document in documents() {
        for block in blocks(&read(&document)).iter().filter(|block| block.info == "yaml") {
            if !block.text.lines().any(|line| line == "flowrun: 1") {
                continue;
            }
            let path = folder.path().join("workflow.yaml");
            std::fs::write(&path, &block.text).expect("it can be written");
            let overrides = Overrides::default();
            let (loaded, mut findings, file) = Definition::load_with_source(&path, &overrides, &Limits::default());
            findings.extend(loaded.iter().flat_map(|loaded| check(loaded, &contracts)));
            let errors: Vec<String> = findings
                .iter()
                .filter(|finding| finding.severity == Severity::Error)
                .map(|finding| text(finding, &file, Style::default()))
                .collect();
            assert!(errors.is_empty(), "{}:\n{}\n{}", document.display(), block.text, errors.join("\n"));
            seen += 1;
        }
    }
    assert!(seen >= 8, "only {seen} workflows");
}

#[test]
fn scenarios_and_faults_in_documents_are_what_they_say() {
    // The scenario names its workflow by a path, so it is played in a copy of the project.
    let folder = tempfile::tempdir().expect("a folder");
    let copied = ["workflows/ecommerce-order.yaml", "schemas/order.schema.json", "examples/order.json"];
    for name in copied {
        let target = folder.path().join(name);
        std::fs::create_dir_all(target.parent().expect("it is in a folder")).expect("it can be made");
        std::fs::copy(root().join(name), target).expect("it can be copied");
    }
    std::fs::create_dir(folder.path().join("workflows/tests")).expect("it can be made");
    let (mut scenarios, mut faults) = (0, 0);
    for document in documents() {
        for block in blocks(&read(&document)).iter().filter(|block| block.info == "yaml") {
            if block.text.starts_with("flowrun_test: 1") {
                let path = folder.path().join("workflows/tests/document.test.yaml");
                std::fs::write(&path, &block.text).expect("it can be written");
                let summary = run_files(&[path], &flowrun::orders::registry(), &TestOptions::default());
                assert_eq!(summary.exit_code(), 0, "{}", summary.text(Style::default()));
                scenarios += 1;
            } else if block.text.starts_with("faults:") {
                assert!(
                    Faults::parse(&block.text, &Limits::default()).is_ok(),
                    "{}:\n{}",
                    document.display(),
                    block.text
                );
                faults += 1;
            }
        }
    }
    assert!(scenarios >= 1 && faults >= 3, "{scenarios} scenarios, {faults} faults");
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let target = document.parent().expect("a document is in a folder").join(path);
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
        }
    }
}

#[test]
fn commands_in_documents_exist() {
    let mut verbs = std::collections::BTreeSet::new();
    for document in documents() {
        // What a build without clusters does not have.
        if document.ends_with("cluster.md") && !cfg!(feature = "restate") {
            continue;
        }
        for block in blocks(&read(&document)).iter().filter(|block| block.info == "sh") {
            let command = |line: &str| {
                let (_, rest) = line.split_once("flowrun ")?;
                rest.split_whitespace().next().map(str::to_owned)
            };
            verbs.extend(block.text.lines().filter_map(command));
        }
    }
    assert!(verbs.len() >= 5, "{verbs:?}");
    for verb in verbs {
        assert!(flowrun(root(), &[&verb, "--help"]).status.success(), "there is no `flowrun {verb}`");
    }
}

#[test]
fn the_readme_shows_the_result_of_its_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("flowrun.redb");
    let store = store.to_str().expect("a path of a test is text");
    let done = flowrun(root(), &["exec", "--input", "examples/order.json", "--quiet", "--store", store]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let shown = &readme("json")[0].text;
    // The numbers of a payment and of a parcel differ from run to run.
    let comparable = |text: &str| {
        let mut value: Value = serde_json::from_str(text).expect("it is JSON");
        for key in ["payment_id", "tracking"] {
            let kind = value[key].as_str().and_then(|id| id.split('-').next()).map(str::to_owned);
            value[key] = kind.into();
        }
        serde_json::to_string_pretty(&value).expect("it is JSON")
    };
    assert_eq!(comparable(shown), comparable(&String::from_utf8_lossy(&done.stdout)));
}

#[test]
fn the_readme_shows_the_finding_that_validate_prints() {
    let folder = tempfile::tempdir().expect("a folder");
    let workflow = &readme("yaml")[0].text;
    let wrong = workflow.replace("errors: [payment.unavailable, timeout]", "errors: [payment.declined, timeout]");
    assert_ne!(*workflow, wrong, "the README says what to change");
    std::fs::write(folder.path().join("pay-and-tell.yaml"), wrong).expect("it can be written");
    let told = flowrun(folder.path(), &["validate", "pay-and-tell.yaml"]);
    assert_eq!(told.status.code(), Some(3));
    let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(&String::from_utf8_lossy(&told.stderr)), lines(&readme("text")[0].text));
}

#[test]
fn the_readme_shows_the_story_that_verify_tells() {
    let folder = tempfile::tempdir().expect("a folder");
    let workflow = &readme("yaml")[0].text;
    let proved = flowrun(folder.path(), &["verify", "pay-and-tell.yaml"]);
    assert_eq!(proved.status.code(), Some(8), "there is no such file yet");
    std::fs::write(folder.path().join("pay-and-tell.yaml"), workflow).expect("it can be written");
    assert!(flowrun(folder.path(), &["verify", "pay-and-tell.yaml"]).status.success());

    let undo = workflow.lines().position(|line| line.contains("payment.refund")).expect("the README names the line");
    let lines = workflow.lines().enumerate().filter(|(nth, _)| *nth != undo).map(|(_, line)| format!("{line}\n"));
    std::fs::write(folder.path().join("pay-and-tell.yaml"), lines.collect::<String>()).expect("it can be written");
    let told = flowrun(folder.path(), &["verify", "pay-and-tell.yaml"]);
    assert_eq!(told.status.code(), Some(1));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let shown = &readme("text")[1].text;
    assert!(told.starts_with(shown.trim_end()), "{told}");
    let refused = flowrun(folder.path(), &["exec", "pay-and-tell.yaml", "--require-proof"]);
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(!folder.path().join(".flowrun").exists(), "nothing was started");
}

#[test]
fn a_story_is_kept_as_the_page_about_scenarios_shows_it_and_played() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let workflow = &readme("yaml")[0].text;
    let undo = workflow.lines().position(|line| line.contains("payment.refund")).expect("the README names the line");
    let lines = workflow.lines().enumerate().filter(|(nth, _)| *nth != undo).map(|(_, line)| format!("{line}\n"));
    std::fs::write(at("pay-and-tell.yaml"), lines.collect::<String>()).expect("it can be written");
    let save = || flowrun(folder.path(), &["verify", "pay-and-tell.yaml", "--save-story", "kept.test.yaml"]);
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let told = save();
    assert_eq!(told.status.code(), Some(1), "it is not proved");
    assert_eq!(said(&told), "saved 1 story to kept.test.yaml\nnext     flowrun test kept.test.yaml\n");
    let kept = read(&at("kept.test.yaml"));
    let shown = blocks(&read(&root().join("docs/scenarios.md")));
    let shown: Vec<&str> = shown.iter().map(|block| block.text.trim_end()).collect();
    assert!(shown.contains(&kept.trim()), "docs/scenarios.md does not show:\n{kept}");

    let again = save();
    assert_eq!(again.status.code(), Some(9), "{}", said(&again));
    assert!(said(&again).starts_with("error: kept.test.yaml is there already\n"), "{}", said(&again));
    assert_eq!(read(&at("kept.test.yaml")), kept, "it is as it was");

    let flawed = flowrun(folder.path(), &["test"]);
    assert_eq!(flawed.status.code(), Some(1), "{flawed:?}");
    let answer = String::from_utf8_lossy(&flawed.stdout).into_owned();
    assert!(answer.contains("flaws: `charged` can be left behind by a run that was undone"), "{answer}");
    std::fs::write(at("pay-and-tell.yaml"), workflow).expect("it can be written");
    let mended = flowrun(folder.path(), &["test"]);
    assert_eq!(mended.status.code(), Some(0), "{}", String::from_utf8_lossy(&mended.stdout));

    let proved = flowrun(folder.path(), &["verify", "pay-and-tell.yaml", "--save-story", "more.test.yaml"]);
    assert_eq!(proved.status.code(), Some(0), "{}", said(&proved));
    assert_eq!(said(&proved), "nothing to save: more.test.yaml was not written\n");
    assert!(!at("more.test.yaml").exists());
    for (arguments, why) in [
        (
            ["pay-and-tell.yaml", "pay-and-tell.yaml", "x.test.yaml"],
            "keeps the stories of one workflow, and there are 2",
        ),
        (["pay-and-tell.yaml", "-q", "x.yaml"], "the name of a test file ends with `.test.yaml`"),
        (["pay-and-tell.yaml", "-q", "no/x.test.yaml"], "there is no folder no"),
    ] {
        let [first, second, file] = arguments;
        let refused = flowrun(folder.path(), &["verify", first, second, "--save-story", file]);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(why), "{}", said(&refused));
    }
}

#[test]
fn the_readme_shows_the_example_of_handlers() {
    let example = read(&root().join("examples/custom_handlers.rs"));
    let testing = blocks(&read(&root().join("docs/testing.md"))).into_iter().find(|block| block.info == "rust");
    let testing = testing.expect("docs/testing.md shows a test").text;
    let indented: String = testing.lines().map(|line| format!("    {line}\n")).collect();
    assert!(example.contains(indented.trim_end()), "examples/custom_handlers.rs does not have:\n{indented}");
    let shown = &readme("rust")[0].text;
    for part in shown.split("\n\n") {
        assert!(example.contains(part.trim_end()), "examples/custom_handlers.rs does not have:\n{part}");
    }
}
