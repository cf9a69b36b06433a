//! The test kit for workflows (`flowrun::testing`): the shipped and generated workflows pass it, and it finds handlers
//! that lie.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use flowrun::faults::Faults;
use flowrun::handlers::{Confirmation, Registry, State, StepCtx, StepError};
use flowrun::testing::{Injection, TestReport, Testing, TestingError};
use serde_json::{Value, json};

use crate::lab::{Script, registry};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn scenario(name: &str, input: Value) -> Testing {
    Testing::new(flowrun::orders::registry).workflow(root().join("tests/scenarios").join(name)).input(input)
}

/// The shipped workflows, ready to be tested.
fn shipped() -> Vec<Testing> {
    let order = std::fs::read_to_string(root().join("examples/order.json")).expect("it is there");
    let order: Value = serde_json::from_str(&order).expect("it is JSON");
    let workflow = root().join("workflows/ecommerce-order.yaml");
    let stock = json!({ "PROD-A1": 50, "PROD-B2": 25, "PROD-C3": 0, "PROD-D4": 100 });
    vec![
        Testing::new(flowrun::orders::registry).workflow(workflow).input(order).setup("stock", stock),
        items(),
        scenario("parallel.yaml", json!({})),
        scenario("pivot.yaml", json!({})).signal("ready", "ready", Value::Null),
        scenario("waits.yaml", json!({})).signal("go", "go", json!({ "n": 1 })),
    ]
}

fn items() -> Testing {
    scenario("items.yaml", json!({ "amounts": [1, 2, 3] }))
}

/// Runs tests and returns their reports, which must be without a failure.
fn reports(tests: impl IntoIterator<Item = Testing>) -> Vec<TestReport> {
    let reports = tests.into_iter().map(|testing| testing.run().unwrap_or_else(|error| panic!("{error}")).assert());
    reports.inspect(|report| println!("{report}")).collect()
}

fn injections(reports: &[TestReport]) -> usize {
    reports.iter().map(|report| report.injections).sum()
}

#[test]
fn d15_each_step_of_the_shipped_workflows_executed_twice_gives_the_same() {
    assert!(injections(&reports(shipped().into_iter().map(Testing::repeat_each_step))) >= 20);
}

#[test]
fn d16_an_error_at_each_step_of_the_shipped_workflows_is_undone_and_names_the_culprit() {
    assert!(injections(&reports(shipped().into_iter().map(Testing::fail_each_step))) >= 20);
}

#[test]
fn d17_an_error_at_each_step_of_the_shipped_workflows_with_each_undo_repeated_is_undone_as_well() {
    let tests = shipped().into_iter().map(|t| t.repeat_each_compensation().fail_each_compensation());
    assert!(injections(&reports(tests)) >= 20);
}

#[test]
fn a_crash_at_each_commit_of_a_workflow_with_items_changes_nothing() {
    assert!(reports([items().crash_at_each_commit()])[0].crash_points >= 12);
}

/// A random workflow over the handlers of the laboratory.
fn generated(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut dice = |sides: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) % sides
    };
    let mut text = "flowrun: 1\nname: generated\nsteps:\n".to_owned();
    // What may be skipped is needed by nobody: who needs only that would have to say what becomes of it.
    let mut skipped = Vec::new();
    for n in 0..2 + dice(6) {
        let needs: Vec<String> =
            (0..n).filter(|of| dice(3) == 0 && !skipped.contains(of)).map(|of| format!("s{of}")).collect();
        let uses = ["act.keyed", "act.safe", "other.keyed", "read"][dice(4) as usize];
        let mut step = format!("  s{n}: {{ needs: [{}], uses: {uses}", needs.join(", "));
        if uses != "read" {
            step.push_str(", compensate: { uses: undo, retry: { attempts: 2, delay: 1s } }");
        }
        match dice(8) {
            0 => step.push_str(", on_error: continue"),
            1 => step.push_str(", foreach: '[0, 1, 2]', concurrency: 2"),
            2 => step.push_str(", fallback: [{ name: other, uses: other.keyed, compensate: { uses: undo } }]"),
            3 => {
                step.push_str(", when: 'false'");
                skipped.push(n);
            }
            4 => step.push_str(", retry: { attempts: 2, delay: 1s }"),
            _ => {}
        }
        text.push_str(&step);
        text.push_str(" }\n");
    }
    text.push_str("finally: { last: { uses: act.safe } }\n");
    text
}

#[test]
fn d15_d16_d17_generated_workflows_stand_it() {
    let number = if std::env::var_os("FLOWRUN_FULL").is_some() { 500 } else { 12 };
    let folder = tempfile::tempdir().expect("a folder");
    let mut all = 0;
    for seed in 0..number {
        let path = folder.path().join(format!("{seed}.yaml"));
        let text = generated(seed);
        std::fs::write(&path, &text).expect("it can be written");
        let report = Testing::new(|| registry(&Arc::new(Script::default()))).workflow(&path).everything().run();
        let report = report.unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(report.passed(), "{text}\n{report}");
        all += report.injections + report.crash_points;
    }
    println!("{all} injections and crashes in {number} workflows");
}

/// Writes a workflow to a folder that is removed with it.
fn workflow(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("w.yaml");
    std::fs::write(&path, text).expect("it can be written");
    (folder, path)
}

/// What a shop has sold, whatever the key.
#[derive(Default)]
struct Sold(Mutex<Vec<String>>);

impl flowrun::handlers::Ledger for Sold {
    fn entries(&self, _: Option<&str>) -> Result<Vec<flowrun::handlers::LedgerEntry>, String> {
        let keys = self.0.lock().map_err(|_| "torn")?.clone();
        let entry = |key| flowrun::handlers::LedgerEntry {
            order_id: "o".to_owned(),
            effect: "sold".to_owned(),
            key,
            amount: None,
            at: flowrun::time::Timestamp(0),
            detail: Value::Null,
        };
        Ok(keys.into_iter().map(entry).collect())
    }
}

/// Says that it is keyed, and sells again for the same key; says how many were sold.
async fn sell(ctx: StepCtx, State(sold): State<Sold>, _: Value) -> Result<usize, StepError> {
    let mut keys = sold.0.lock().map_err(|_| StepError::unknown("shop.torn", "torn"))?;
    keys.push(ctx.key.to_string());
    Ok(keys.len())
}

/// Takes something back, on a thread that may block.
fn take_back(_: StepCtx, State(sold): State<Sold>, key: String) -> Result<bool, StepError> {
    let mut keys = sold.0.lock().map_err(|_| StepError::unknown("shop.torn", "torn"))?;
    let before = keys.len();
    keys.retain(|known| *known != key);
    Ok(keys.len() < before)
}

fn shop() -> Registry {
    Registry::new()
        .state(Sold::default())
        .ledger::<Sold>()
        .handler("shop.sell", sell)
        .effect("sold")
        .keyed()
        .handler("shop.take_back", take_back)
        .undoes("sold", "unsold")
        .keyed()
        .if_absent_ok()
}

const SHOP: &str = "
flowrun: 1
name: shop
secrets: [TOKEN]
steps:
  sell: { uses: shop.sell, with: {}, compensate: { uses: shop.take_back, with: '{{ key }}' } }
  paid: { needs: [sell], wait: { signal: paid } }
  thanks: { needs: [paid], uses: core.pass, with: { token: '{{ secrets.TOKEN }}', paid: '{{ steps.paid.output }}' } }
output: { sold: '{{ steps.sell.output }}' }
";

fn shop_test(path: &Path) -> Testing {
    Testing::new(shop).workflow(path).secret("TOKEN", "xyzzy").signal("paid", "paid", json!(5))
}

#[test]
fn d15_a_handler_that_answers_differently_the_second_time_is_found() {
    let (_folder, path) = workflow(SHOP);
    let report = shop_test(&path).repeat_each_step().run().expect("it is valid");
    let text = report.to_string();
    assert_eq!(report.failures.len(), 1, "{text}");
    assert!(matches!(&report.failures[0].injection, Injection::Repeat(site) if site.to_string() == "sell"), "{text}");
    for told in [
        "`sell` is executed twice:",
        "output: expected {\"sold\":1}, got {\"sold\":2}",
        "`sold` happened twice",
        "what happened:",
    ] {
        assert!(text.contains(told), "{told} is not in\n{text}");
    }
}

#[test]
fn errors_signals_secrets_and_blocking_handlers_of_a_user_are_played() {
    let (_folder, path) = workflow(SHOP);
    let report = shop_test(&path)
        .fail_each_step()
        .repeat_each_compensation()
        .check(|run| {
            let left = run.state::<Sold>().ok_or("no shop")?.0.lock().map_err(|_| "torn")?.len();
            let expected = usize::from(run.report.status == "completed");
            if left == expected { Ok(()) } else { Err(format!("{left} sold, not {expected}")) }
        })
        .run()
        .expect("it is valid")
        .assert();
    assert_eq!((report.injections, report.unreached.len()), (3, 0), "{report}");
}

#[test]
fn a_check_of_a_user_that_does_not_hold_is_told() {
    let (_folder, path) = workflow(SHOP);
    let report = shop_test(&path).fail_each_step().check(|run| {
        if run.injection == &Injection::None { Ok(()) } else { Err(format!("{} is not my day", run.report.status)) }
    });
    let report = report.run().expect("it is valid");
    assert_eq!(report.failures.len(), 2, "{report}");
    assert!(report.to_string().contains("failed is not my day"), "{report}");
}

#[test]
fn a_signal_that_is_missing_is_asked_for() {
    let (_folder, path) = workflow(SHOP);
    let report = Testing::new(shop).workflow(&path).secret("TOKEN", "x").everything().run().expect("it is valid");
    assert_eq!((report.injections, report.failures.len()), (0, 1), "{report}");
    assert!(report.to_string().contains("`paid` waits for the signal `paid`: send it with `.signal(..)`"), "{report}");
}

#[test]
fn what_does_not_fit_the_workflow_is_an_error_before_anything_runs() {
    let (_folder, path) = workflow(SHOP);
    let wrong = shop_test(&path).signal("sell", "paid", Value::Null).run();
    assert!(matches!(wrong, Err(TestingError::Setup(why)) if why.contains("no step `sell` that waits for")));
    let wrong = Testing::new(Registry::new).workflow(&path).run();
    assert!(matches!(wrong, Err(TestingError::Workflow(why)) if why.contains("shop.sell")));
}

/// The handlers of the second run are not those of the first, so it takes another way.
#[test]
fn an_injection_that_never_fires_is_an_error() {
    let text = "
flowrun: 1
name: fickle
steps:
  ask: { uses: shop.ask, with: {} }
  sometimes: { needs: [ask], when: steps.ask.output, uses: core.pass, with: {} }
";
    let (_folder, path) = workflow(text);
    let runs = AtomicU32::new(0);
    let fickle = move || {
        // The first registry is for checking the workflow, the second for the run without faults.
        let yes = runs.fetch_add(1, Ordering::SeqCst) < 2;
        async fn ask(_: StepCtx, State(yes): State<bool>, _: Value) -> Result<bool, StepError> {
            Ok(*yes)
        }
        Registry::new().state(yes).handler("shop.ask", ask)
    };
    let report = Testing::new(fickle).workflow(&path).fail_each_step().run().expect("it is valid");
    assert_eq!(report.failures.len(), 1, "{report}");
    assert!(report.to_string().contains("the error at `sometimes` never happened"), "{report}");
}

/// An undo that does nothing the second time but fail is found.
#[test]
fn d17_an_undo_that_cannot_be_repeated_is_found() {
    async fn strict(_: StepCtx, State(sold): State<Sold>, key: String) -> Result<Value, StepError> {
        let mut keys = sold.0.lock().map_err(|_| StepError::unknown("shop.torn", "torn"))?;
        let before = keys.len();
        keys.retain(|known| *known != key);
        if keys.len() < before { Ok(Value::Null) } else { Err(StepError::permanent("shop.absent", "nothing there")) }
    }
    let text = "
flowrun: 1
name: strict
steps:
  sell: { uses: shop.sell, with: {}, compensate: { uses: shop.strict, with: '{{ key }}' } }
  then: { needs: [sell], uses: core.pass, with: {} }
";
    let (_folder, path) = workflow(text);
    let registry = || shop().handler("shop.strict", strict).undoes("sold", "returned").keyed();
    let report = Testing::new(registry).workflow(&path).repeat_each_compensation().run().expect("it is valid");
    assert_eq!((report.injections, report.failures.len()), (1, 1), "{report}");
    assert!(report.to_string().contains("compensation: expected \"complete\", got \"incomplete\""), "{report}");
}

#[test]
fn a_handler_that_must_not_be_called_twice_is_left_out_and_its_crash_is_the_workflows_to_settle() {
    async fn once(_: StepCtx, _: Value) -> Result<Value, StepError> {
        Ok(Value::Null)
    }
    async fn lookup(_: StepCtx, _: String) -> Result<Confirmation<Value>, StepError> {
        Ok(Confirmation::Unknown)
    }
    let text = "
flowrun: 1
name: once
steps:
  once: { uses: shop.once, with: {}, confirm: { uses: shop.lookup, with: '{{ key }}' }, compensate: { none: a gift } }
";
    let (_folder, path) = workflow(text);
    let registry =
        || Registry::new().handler("shop.once", once).effect("given").handler("shop.lookup", lookup).blocks_late();
    let report = Testing::new(registry).workflow(&path).repeat_each_step().crash_at_each_commit().run();
    let report = report.expect("it is valid").assert();
    assert_eq!(report.injections, 0, "{report}");
    assert!(report.left_out[0].contains("`shop.once` does not say that it is `keyed()` or `safe()`"), "{report}");
}

#[test]
fn faults_of_the_test_and_injected_ones_go_together() {
    let faults =
        Faults::parse("faults: [{ step: pay, item: 1, do: act_then_hang }]", &flowrun::limits::Limits::default())
            .expect("they make sense");
    let report =
        items().faults(faults).fail_each_step().repeat_each_compensation().run().expect("it is valid").assert();
    assert!(report.injections >= 6, "{report}");
}
