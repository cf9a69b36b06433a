//! The shipped scenarios are played, in virtual time, and a wrong expectation is found out.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flowrun::diag::Style;
use flowrun::handlers::{Confirmation, Ledger, LedgerEntry, Registry, State, StepCtx, StepError};
use flowrun::scenario::{self, Summary, TestOptions, test_schema};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn play(path: PathBuf, filter: Option<&str>) -> Summary {
    let options = TestOptions { filter: filter.map(str::to_owned), ..TestOptions::default() };
    scenario::run_files(&[path], &flowrun::orders::registry(), &options)
}

#[test]
fn the_order_process() {
    let filter = std::env::var("FLOWRUN_SCENARIO").ok();
    let summary = play(root().join("workflows/tests/ecommerce-order.test.yaml"), filter.as_deref());
    let text = summary.text(Style::default());
    println!("{text}");
    assert_eq!(summary.exit_code(), 0, "{text}");
}

/// What the order process does not do: items, pivots, deadlines, branches that fail at once.
#[test]
fn the_rules_of_runs() {
    let filter = std::env::var("FLOWRUN_SCENARIO").ok();
    let files = scenario::find_files(&[root().join("tests/scenarios")]).expect("the folder can be read");
    let options = TestOptions { filter, ..TestOptions::default() };
    let summary = scenario::run_files(&files, &flowrun::orders::registry(), &options);
    let text = summary.text(Style::default());
    println!("{text}");
    assert_eq!(summary.exit_code(), 0, "{text}");
}

/// Resumes scenarios from every so manieth prefix of their journals, those that end inside a commit included.
fn take_up(paths: &[PathBuf], filter: Option<&str>, prefixes: usize) -> usize {
    let options = TestOptions { filter: filter.map(str::to_owned), prefixes, ..TestOptions::default() };
    let mut summary = scenario::run_files(paths, &flowrun::orders::registry(), &options);
    let scenarios = || summary.files.iter().flat_map(|file| &file.scenarios);
    let (number, all) = (scenarios().map(|s| s.prefixes).sum::<usize>(), scenarios().count());
    assert!(all > 0 && number > 0, "{number} prefixes of {all} scenarios");
    println!("{number} prefixes of the journals of {all} scenarios");
    let exit = summary.exit_code();
    for file in &mut summary.files {
        file.scenarios.retain(|scenario| !scenario.passed());
    }
    assert_eq!(exit, 0, "{}", summary.text(Style::default()));
    number
}

#[test]
fn every_prefix_of_a_journal_is_taken_up() {
    let path = root().join("tests/scenarios/items.test.yaml");
    assert!(take_up(&[path], Some("one_"), 1) > 30);
}

/// The machine copes with prefixes that no store leaves behind, because a commit is whole: it decides again what the
/// records after them said.
#[test]
fn every_prefix_of_the_journals_of_every_scenario_is_taken_up() {
    let every = if std::env::var_os("FLOWRUN_FULL").is_some() { 1 } else { 9 };
    let folders = [root().join("workflows"), root().join("tests/scenarios")];
    let files = scenario::find_files(&folders).expect("the folders can be read");
    let filter = std::env::var("FLOWRUN_SCENARIO").ok();
    take_up(&files, filter.as_deref(), every);
}

#[test]
fn every_test_file_is_played() {
    let found = scenario::find_files(&[root().join("workflows")]).expect("the folder can be read");
    assert_eq!(found, [root().join("workflows/tests/ecommerce-order.test.yaml")], "add a test for the new file");
}

#[test]
fn the_schema_file_is_current() {
    let path = root().join("schemas/test.schema.json");
    let mut current = serde_json::to_string_pretty(&test_schema()).expect("a schema is JSON");
    current.push('\n');
    if std::env::var_os("FLOWRUN_BLESS").is_some() {
        std::fs::write(&path, &current).expect("the schema can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == current, "schemas/test.schema.json is stale: FLOWRUN_BLESS=1 cargo test --test it");
    assert!(jsonschema::meta::is_valid(&test_schema()));
}

/// Plays scenarios of a workflow, both given as text.
fn play_text(registry: &Registry, workflow: &str, scenarios: &str) -> Summary {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file can be written");
    write("w.yaml", workflow);
    write("w.test.yaml", &format!("flowrun_test: 1\nworkflow: w.yaml\nscenarios:\n{scenarios}"));
    scenario::run_files(&[folder.path().join("w.test.yaml")], registry, &TestOptions::default())
}

/// Returns what went wrong, and that something did.
fn failures(summary: &Summary) -> String {
    assert_eq!(summary.exit_code(), 1, "{}", summary.text(Style::default()));
    summary.text(Style::default())
}

#[test]
fn wrong_expectations_fail() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let path = folder.path().join("wrong.test.yaml");
    let text = format!(
        r#"
flowrun_test: 1
workflow: {root}/workflows/ecommerce-order.yaml
base: {{ input: {{ file: {root}/examples/order.json }} }}
scenarios:
  right: {{ expect: {{ exit: 0, ledger: {{ charged: 1 }} }} }}
  status: {{ expect: {{ status: failed }} }}
  exit: {{ expect: {{ exit: 4 }} }}
  output: {{ expect: {{ output: {{ total: 10998 }} }} }}
  error: {{ expect: {{ error: {{ code: timeout }} }} }}
  step: {{ expect: {{ steps: {{ charge: {{ via: alternative }} }} }} }}
  undone: {{ expect: {{ undone: [charge] }} }}
  ledger: {{ expect: {{ ledger: {{ charged: 2 }} }} }}
  calls: {{ expect: {{ calls: {{ payment.charge: 0 }} }} }}
  runs: {{ runs: {{ count: 2, input: {{ orderId: "O-{{{{ index }}}}" }} }}, expect: {{ runs: {{ completed: 1 }} }} }}
  check: {{ expect: {{ check: [ledger.refunded == 1] }} }}
  never: {{ then: [{{ when: settled.waiting, cancel: true }}], expect: {{ exit: 0 }} }}
  too_late: {{ then: [{{ when: run.completed, cancel: true }}], expect: {{ exit: 0 }} }}
"#,
        root = root().display()
    );
    std::fs::write(&path, text).expect("a file can be written");
    let summary = play(path, None);
    let text = failures(&summary);
    assert_eq!(summary.counts(), (1, 12), "{text}");
    for told in [
        r#"status: expected "failed", got "completed""#,
        "exit: expected 4, got 0",
        "output.total: expected 10998, got 10997",
        r#"error: expected {"code":"timeout"}, got null"#,
        r#"steps.charge.via: expected "alternative", got "primary""#,
        r#"undone: expected ["charge"], got []"#,
        "ledger.charged: expected 2, got 1",
        "calls.payment.charge: expected 0, got 1",
        "runs.completed: expected 1, got 2",
        "check: `ledger.refunded == 1` does not hold",
        "then[0] (cancel): `settled.waiting` was never reached",
        "then[0] (cancel when `run.completed`) was refused: run too_late is final: completed",
        "step_succeeded charge",
        "1 passed, 12 failed",
    ] {
        assert!(text.contains(told), "{told} is not in\n{text}");
    }
    let json = summary.to_json();
    assert_eq!(json["failed"], 12);
    assert_eq!(json["files"][0]["scenarios"][1]["failures"][0]["mismatches"][0]["path"], "status");
}

/// What is counted outside; `by_key` if it is counted once for each key.
struct Counter {
    by_key: bool,
    entries: Mutex<Vec<LedgerEntry>>,
    seen: Mutex<HashSet<String>>,
}

impl Ledger for Counter {
    fn entries(&self, _: Option<&str>) -> Result<Vec<LedgerEntry>, String> {
        Ok(self.entries.lock().expect("nobody panics").clone())
    }
}

async fn add(ctx: StepCtx, State(counter): State<Counter>, _: Value) -> Result<Value, StepError> {
    let is_new = counter.seen.lock().expect("nobody panics").insert(ctx.key.to_string());
    if is_new || !counter.by_key {
        counter.entries.lock().expect("nobody panics").push(LedgerEntry {
            order_id: ctx.run_id.to_string(),
            effect: "added".to_owned(),
            key: ctx.key.to_string(),
            amount: None,
            at: ctx.now(),
            detail: Value::Null,
        });
    }
    Ok(Value::Null)
}

/// Returns a registry whose handler says that it has one effect per key, which is true only if `by_key`.
fn counting(by_key: bool) -> Registry {
    Registry::new()
        .state_with(move |_| Ok(Counter { by_key, entries: Mutex::default(), seen: Mutex::default() }))
        .ledger::<Counter>()
        .handler("counter.add", add)
        .effect("added")
        .keyed()
        .handler("counter.once", add)
        .effect("counted")
        .handler("counter.lookup", lookup)
        .blocks_late()
}

async fn lookup(_: StepCtx, State(counter): State<Counter>, key: String) -> Result<Confirmation<Value>, StepError> {
    let is_new = counter.seen.lock().expect("nobody panics").insert(key);
    Ok(if is_new { Confirmation::NotDone } else { Confirmation::Done(Value::Null) })
}

/// A handler that may not be called twice is called at most once with a key, wherever the process dies: nothing starts
/// before its start is durable.
#[test]
fn nothing_is_done_twice() {
    let workflow = "
flowrun: 1
name: once
steps:
  count:
    uses: counter.once
    with: {}
    confirm: { uses: counter.lookup, with: '{{ key }}' }
    compensate: { none: nothing to undo }
    fallback: [{ name: again, uses: counter.add, with: {}, compensate: { none: nothing to undo } }]
  then: { needs: [count], uses: core.pass, with: {} }
";
    let scenarios = "  once: { expect: { exit: 0, ledger: { added: 1 } }, crash: everywhere }\n";
    let summary = play_text(&counting(false), workflow, scenarios);
    assert_eq!(summary.exit_code(), 0, "{}", summary.text(Style::default()));
}

const ADD_TWICE: &str = "
flowrun: 1
name: adding
steps:
  first: { uses: counter.add, with: {}, compensate: { none: nothing to undo } }
  second: { needs: [first], uses: counter.add, with: {}, compensate: { none: nothing to undo } }
";

#[test]
fn a_handler_that_lies_about_its_keys_is_found_by_crashing() {
    let scenarios = "  add: { expect: { exit: 0, ledger: { added: 2 } }, crash: everywhere }\n";
    let honest = play_text(&counting(true), ADD_TWICE, scenarios);
    assert_eq!(honest.exit_code(), 0, "{}", honest.text(Style::default()));
    assert!(honest.files[0].scenarios[0].crash_points >= 10);

    let text = failures(&play_text(&counting(false), ADD_TWICE, scenarios));
    assert!(text.contains("killed in attempt 1 of `first` (counter.add), after the handler acted"), "{text}");
    assert!(text.contains("ledger.added: expected 2, got 3"), "{text}");
    assert!(text.contains("`added` happened twice with the key"), "{text}");
}

#[test]
fn a_scenario_that_never_ends_is_stopped() {
    let workflow = "
flowrun: 1
name: endless
steps:
  again: { uses: core.fail, with: { kind: retryable }, retry: { attempts: 100000, backoff: fixed, delay: 1h, max_delay: 1h } }
";
    let text = failures(&play_text(&Registry::new(), workflow, "  endless: { expect: { exit: 0 } }\n"));
    assert!(text.contains("has not ended after 30 days of its own time"), "{text}");
    assert!(text.contains("run endless is running: `again` is backing_off"), "{text}");
}

#[test]
fn operators_are_played() {
    let workflow = "
flowrun: 1
name: parking
steps:
  one: { uses: core.pass, with: { n: 1 }, on_error: park }
  two: { needs: [one], wait: { signal: go, timeout: 1d } }
output: { data: \"{{ steps.two.output }}\" }
";
    let scenarios = "
  retried:
    faults: [{ step: one, until: 30m, do: { error: core.down, kind: permanent } }]
    then:
      - { when: run.parked, after: 1h, retry: one }
      - { when: two.waiting, after: 1h, signal: go, data: 7 }
    expect: { status: completed, output: { data: 7 }, check: [\"run.finished_at == '2026-01-01T02:00:00.000Z'\"] }
    crash: everywhere
  left_parked:
    faults: [{ step: one, do: { error: core.down, kind: permanent } }]
    expect: { status: parked, exit: 7 }
  left_waiting:
    expect: { status: failed, exit: 1, error: { code: signal_timeout } }
  killed:
    faults: [{ step: one, attempts: 1-2, do: kill_after }]
    then: [{ when: two.waiting, signal: go }]
    expect: { status: completed, steps: { one: { attempts: 3 } } }
  killed_too_often:
    faults: [{ step: one, do: kill_before }]
    expect: { status: parked, exit: 7 }
";
    let summary = play_text(&Registry::new(), workflow, scenarios);
    assert_eq!(summary.exit_code(), 0, "{}", summary.text(Style::default()));
}

#[test]
fn the_same_seed_plays_the_same() {
    // Wrong on purpose: only what fails shows its history, and that holds the times that jitter makes.
    let workflow = "
flowrun: 1
name: jitter
steps:
  again: { uses: core.fail, with: { kind: retryable }, retry: { attempts: 4 } }
";
    let history = |seed: u32| {
        let scenarios = format!("  seeded: {{ change: {{ seed: {seed} }}, expect: {{ exit: 0 }} }}\n");
        let summary = play_text(&Registry::new(), workflow, &scenarios);
        summary.files[0].scenarios[0].failures[0].histories.clone()
    };
    assert_eq!(history(1), history(1));
    assert_ne!(history(1), history(2));
}
