//! A flawed workflow is a file in `tests/cases/verify/`, with what is shown of it beside it; its mended twin is proved.
//!
//! `FLOWRUN_BLESS=1 cargo test --lib cli::verify` writes the pages anew; read the difference before you commit it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser as _;
use serde_json::{Value, json};

use super::*;
use crate::cli::args::{Cli, Verb};
use crate::cli::output::screen::Screen;
use crate::failure::ErrorKind;
use crate::handlers::contract::{Contract, Contracts, IfAbsent, Repeat, Undoes};
use crate::handlers::{Player, Registry};
use crate::scenario::{FileResult, ScenarioResult, TestOptions, run_files};

fn object(fields: &[(&str, &str)]) -> Arc<Value> {
    let properties: serde_json::Map<String, Value> =
        fields.iter().map(|(name, kind)| ((*name).to_owned(), json!({ "type": kind }))).collect();
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    Arc::new(json!({ "type": "object", "required": required, "properties": properties }))
}

fn handler(name: &str, input: &[(&str, &str)], output: &[(&str, &str)]) -> Contract {
    Contract {
        name: name.into(),
        description: None,
        effect: None,
        repeat: Repeat::Keyed,
        errors: BTreeMap::new(),
        any_error: false,
        undoes: None,
        blocks_late: false,
        confirms: false,
        input: object(input),
        output: object(output),
    }
}

fn effect(effect: &str, repeat: Repeat, error: &str, kind: ErrorKind, contract: Contract) -> Contract {
    let errors = [(error.into(), Some(kind))].into();
    Contract { effect: Some(effect.to_owned()), repeat, errors, ..contract }
}

fn undo(effect: &str, as_: &str, blocks_late: bool, contract: Contract) -> Contract {
    let undoes = Undoes { effect: effect.to_owned(), as_: as_.to_owned(), if_absent: IfAbsent::Ok };
    Contract { undoes: Some(undoes), blocks_late, ..contract }
}

/// What a shop, an airline and an approver would declare.
fn contracts() -> Contracts {
    use ErrorKind::{Permanent, Retryable};
    use Repeat::{Keyed, Once};
    let order = &[("order_id", "string"), ("amount", "integer")];
    let key = &[("key", "string")];
    let customer = &[("customer", "string")];
    let all = [
        effect(
            "charged",
            Keyed,
            "payment.declined",
            Permanent,
            handler("payment.charge", order, &[("payment_id", "string")]),
        ),
        undo("charged", "refunded", true, handler("payment.refund", key, &[])),
        undo("charged", "refunded", false, handler("payment.refund_only", key, &[])),
        undo(
            "charged",
            "refunded",
            true,
            handler("payment.refund_because", &[("key", "string"), ("why", "string")], &[]),
        ),
        undo("charged", "refunded", true, handler("payment.refund_by_id", &[("payment_id", "string")], &[])),
        Contract { confirms: true, blocks_late: true, ..handler("payment.lookup", key, &[("payment_id", "string")]) },
        effect("invoiced", Keyed, "invoice.refused", Permanent, handler("invoice.send", order, &[])),
        undo("invoiced", "withdrawn", true, handler("invoice.withdraw", key, &[])),
        effect("points_added", Once, "points.closed", Permanent, handler("points.add", customer, &[])),
        effect("points_added", Keyed, "points.closed", Permanent, handler("points.add_by_key", customer, &[])),
        undo("points_added", "points_removed", true, handler("points.remove", key, &[])),
        effect(
            "labelled",
            Keyed,
            "shipping.unavailable",
            Retryable,
            handler("shipping.label", &[("order_id", "string")], &[]),
        ),
        undo("labelled", "voided", true, handler("shipping.void", key, &[])),
        effect("booked", Keyed, "flight.full", Permanent, handler("flight.book", customer, &[])),
        undo("booked", "unbooked", true, handler("flight.cancel", key, &[])),
        effect("texted", Keyed, "sms.unavailable", Retryable, handler("sms.send", customer, &[])),
        handler("audit.note", &[("payment", "string"), ("order", "string")], &[]),
        handler("approval.ask", &[("total", "integer")], &[("by", "string")]),
    ];
    all.into_iter().map(|contract| (contract.name.clone(), Arc::new(contract))).collect()
}

fn app() -> App {
    let Cli { global, verb } =
        Cli::try_parse_from(["flowrun", "verify", "--color", "never"]).expect("it is well typed");
    let screen = Screen::new(&global, "flowrun");
    let app = App::new(Registry::new(), global, &verb, screen).expect("the built-in handlers fit together");
    App { contracts: contracts(), ..app }
}

fn args() -> Verify {
    match Cli::try_parse_from(["flowrun", "verify"]).expect("it is well typed").verb {
        Verb::Verify(args) => args,
        other => panic!("another verb: {other:?}"),
    }
}

fn cases_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/verify")
}

fn cases() -> Vec<PathBuf> {
    workflow::files_in(&cases_folder()).expect("the cases are there")
}

/// Saves the stories of a case as `--save-story` does; nothing is written where there is none.
fn save(path: &Path, file: &Path) -> Proof {
    let app = app();
    let overrides = Overrides::default();
    let examined = workflow::examine(&app, path, &overrides);
    let loaded = examined.loaded.as_ref().expect("the case can be read");
    let plan = plan::compile(loaded, &app.contracts).expect("the settings fit");
    let proof = Proof::of(loaded, &plan, app.limits.states);
    save::save(&app, file, path, (loaded, &plan, &overrides), &proof, &proof.flaws()).expect("the folder is there");
    proof
}

/// Plays a test file as `flowrun test` does.
fn played(file: &Path) -> FileResult {
    let player: Player = Arc::new(|_: &Contract, _, _| panic!("no handler is called"));
    let registry = Registry::played(&contracts(), &player);
    let options = TestOptions::default();
    run_files(&[file.to_path_buf()], &registry, &options).files.remove(0)
}

#[test]
fn a_saved_story_fails_until_the_workflow_is_mended() {
    let mut saved = 0;
    let flawed = cases().into_iter().filter(|path| !path.to_string_lossy().ends_with("-mended.yaml"));
    for path in flawed {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let (workflow, file) = (folder.path().join("w.yaml"), folder.path().join("kept.test.yaml"));
        std::fs::copy(&path, &workflow).expect("it can be copied");
        let flaws = save(&workflow, &file).flaws().len();
        assert_eq!(file.is_file(), flaws > 0, "{path:?}");
        if flaws == 0 {
            continue;
        }
        let flawed = played(&file);
        assert!(flawed.findings.is_empty(), "{path:?}: {:?}", flawed.findings);
        assert_eq!(flawed.scenarios.len(), flaws, "{path:?}");
        for scenario in &flawed.scenarios {
            let told: Vec<_> = scenario.failures.iter().flat_map(|f| &f.mismatches).map(|m| m.path.as_str()).collect();
            assert!(!told.is_empty() && told.iter().all(|path| *path == "flaws"), "{path:?}: {scenario:?}");
        }
        let name = path.file_stem().expect("a case has a name").to_string_lossy();
        let twin = path.with_file_name(format!("{name}-mended.yaml"));
        std::fs::copy(twin, &workflow).expect("it can be copied");
        let mended = played(&file);
        assert!(mended.findings.is_empty(), "{path:?}: {:?}", mended.findings);
        assert!(mended.scenarios.iter().all(ScenarioResult::passed), "{path:?}: {mended:#?}");
        saved += flaws;
    }
    assert!(saved >= 8, "only {saved} stories");
}

#[test]
fn what_a_story_does_not_tell_goes_well() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let (workflow, file) = (folder.path().join("w.yaml"), folder.path().join("kept.test.yaml"));
    let case = |name: &str| cases_folder().join(name);
    std::fs::copy(case("reads-a-skipped-step.yaml"), &workflow).expect("it can be copied");
    save(&workflow, &file);
    let kept = std::fs::read_to_string(&file).expect("it was written");
    let expect = |more: &str| {
        std::fs::write(&file, kept.replace("{ flaws: [] }", &format!("{{ {more} }}"))).expect("it can be written");
        let scenario = played(&file).scenarios.remove(0);
        scenario.failures.iter().flat_map(|f| &f.mismatches).map(|m| m.path.clone()).collect::<Vec<_>>()
    };
    let charged = "status: completed, steps: { charge: { status: succeeded, attempts: 1 } }";
    assert_eq!(expect("flaws: [missing_input], status: failed"), [""; 0]);
    assert_eq!(expect("flaws: [missing_input, left_behind]"), ["flaws"]);
    std::fs::copy(case("reads-a-skipped-step-mended.yaml"), &workflow).expect("it can be copied");
    assert_eq!(expect(&format!("flaws: [], {charged}")), [""; 0]);
    assert_eq!(expect("flaws: [missing_input]"), ["flaws"]);
}

#[test]
fn a_saved_story_can_be_read() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let file = folder.path().join("kept.test.yaml");
    let case = folder.path().join("late-original.yaml");
    std::fs::copy(cases_folder().join("late-original.yaml"), &case).expect("it can be copied");
    save(&case, &file);
    let text = std::fs::read_to_string(&file).expect("it was written");
    assert_eq!(text, SAVED);
}

const SAVED: &str = r#"# Saved by `flowrun verify --save-story`: runs in which the workflow goes wrong. `flowrun test` plays them without
# calling a handler. Each fails until the workflow is mended, and keeps the flaw from coming back.
flowrun_test: 1
workflow: late-original.yaml
scenarios:
  left_behind_charge:
    description: "`charged` can be left behind by a run that was undone. A request that is still on its way when the undo comes is done after it: `payment.refund_only` does not refuse what comes late."
    story:
      calls:
        - { step: charge, attempts: [{ error: timeout, kind: unknown, world: on_its_way }], undo: done }
      stop: { failed: charge }
    expect: { flaws: [] }
"#;

/// Returns the page of a file as it is shown in a pipe, with its own name for its path and no time, and the exit code.
fn page(path: &Path) -> (String, Verdict) {
    let app = app();
    let examined = workflow::examine(&app, path, &Overrides::default());
    let loaded = examined.loaded.as_ref().expect("the case can be read");
    let plan = plan::compile(loaded, &app.contracts).unwrap_or_else(|findings| panic!("{path:?}: {findings:?}"));
    assert!(examined.is_valid(false), "{path:?}: {:?}", examined.findings);
    let proof = Proof::of(loaded, &plan, app.limits.states);
    let flaws = proof.flaws();
    let told: Vec<shown::Told<'_>> = flaws.iter().map(|flaw| tell(&app, &proof, &plan, loaded, flaw)).collect();
    let name = Path::new(path.file_name().expect("a case has a name"));
    let (file, took) = (&examined.file, Duration::ZERO);
    let page = shown::Page { path: name, file, loaded, plan: &plan, proof: &proof, told: &told, took };
    (page.text(&app.screen, args().contracts), proof.verdict())
}

#[test]
fn each_flawed_workflow_has_its_story() {
    let bless = std::env::var_os("FLOWRUN_BLESS").is_some();
    let mut wrong = String::new();
    for path in cases() {
        let (page, _) = page(&path);
        assert!(!page.contains("came to something else"), "{page}");
        let beside = path.with_extension("txt");
        if bless {
            std::fs::write(&beside, &page).expect("the page can be written");
        } else if std::fs::read_to_string(&beside).unwrap_or_default() != page {
            wrong.push_str(&page);
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nIf this is as it should be: FLOWRUN_BLESS=1 cargo test --lib cli::verify");
}

#[test]
fn each_flawed_workflow_has_a_twin_that_is_proved_and_leaves_nothing_to_say() {
    let mut twins = 0;
    for path in cases() {
        let name = path.file_stem().expect("a case has a name").to_string_lossy().into_owned();
        let (page, verdict) = page(&path);
        let remarked = page.contains("\n  ! ");
        if name.ends_with("-mended") {
            assert_eq!((verdict, remarked), (Verdict::Proved, false), "{name}:\n{page}");
            twins += 1;
        } else {
            assert!(verdict == Verdict::Flawed || remarked, "{name}:\n{page}");
            assert!(path.with_file_name(format!("{name}-mended.yaml")).is_file(), "{name} has no twin");
        }
    }
    assert!(twins >= 12, "only {twins} twins");
}
