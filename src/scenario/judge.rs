//! Whether a playthrough ended as expected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::file::Expect;
use super::play::Ending;
use super::read::{Case, Counts};
use super::story::FlawKind;
use crate::handlers::contract::Contracts;
use crate::limits::Limits;
use crate::proof;
use crate::verify::findings::Problem;
use crate::verify::sketch::Sketch;

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mismatch {
    /// What: `steps.charge.via`.
    pub path: String,
    /// What was expected.
    pub expected: Value,
    /// What was found; null where there is nothing.
    pub got: Value,
    /// What went wrong, where it cannot be said by comparing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Mismatch {
    pub(crate) fn new(path: impl Into<String>, expected: impl Into<Value>, got: impl Into<Value>) -> Self {
        Self { path: path.into(), expected: expected.into(), got: got.into(), message: None }
    }

    pub(crate) fn said(path: &str, message: String) -> Self {
        Self { path: path.to_owned(), expected: Value::Null, got: Value::Null, message: Some(message) }
    }
}

/// What undoes which effect, by the names of the effects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    undos: BTreeMap<String, BTreeSet<String>>,
}

impl Effects {
    pub(crate) fn of(contracts: &Contracts) -> Self {
        let mut undos: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for contract in contracts.values() {
            if let Some(effect) = &contract.effect {
                undos.entry(effect.clone()).or_default();
            }
            if let Some(undoes) = &contract.undoes {
                undos.entry(undoes.effect.clone()).or_default().insert(undoes.as_.clone());
            }
        }
        Self { undos }
    }

    /// Tells whether this is the name of an effect, and not of an undo.
    pub(crate) fn is_effect(&self, name: &str) -> bool {
        self.undos.contains_key(name)
    }

    /// Returns what is left of each effect once its undos are taken off.
    pub(crate) fn left(&self, counts: &Counts) -> BTreeMap<String, i128> {
        let count = |name: &String| i128::from(counts.get(name).copied().unwrap_or(0));
        let left = |(effect, undos): (&String, &BTreeSet<String>)| {
            (effect.clone(), count(effect) - undos.iter().map(count).sum::<i128>())
        };
        self.undos.iter().map(left).collect()
    }

    /// Tells whether the count of a name may differ after a crash: an attempt that a crash cut off while the run was
    /// draining is not repeated, so there may be neither the effect nor its undo.
    fn may_differ(&self, name: &str) -> bool {
        self.undos.iter().any(|(effect, undos)| !undos.is_empty() && (effect == name || undos.contains(name)))
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.undos.iter().flat_map(|(effect, undos)| std::iter::once(effect).chain(undos))
    }
}

/// Counts what is in the ledger by effect.
pub(crate) fn counts(ending: &Ending) -> Counts {
    let mut counts = Counts::new();
    for entry in &ending.ledger {
        *counts.entry(entry.effect.clone()).or_default() += 1;
    }
    counts
}

/// Returns what is not as expected. After a crash, how often handlers were called is not compared.
pub(crate) fn judge(case: &Case, ending: &Ending, effects: &Effects, limits: &Limits, crashed: bool) -> Vec<Mismatch> {
    let mut wrong: Vec<Mismatch> =
        ending.problems.iter().chain(&ending.unmet).map(|p| Mismatch::said("scenario", p.clone())).collect();
    for (run, report) in ending.reports.iter().enumerate() {
        let prefix = if ending.reports.len() > 1 { format!("run[{run}].") } else { String::new() };
        of_run(&case.expect, report, &prefix, crashed, &mut wrong);
    }
    let expect = &case.expect;
    if let Some(exit) = expect.exit {
        let got = exit_of_all(&ending.reports);
        if u64::from(exit) != got {
            wrong.push(Mismatch::new("exit", exit, got));
        }
    }
    if let Some(runs) = &expect.runs {
        for (status, expected) in runs.iter() {
            let got = ending.reports.iter().filter(|r| r["status"] == status).count() as u64;
            if got != expected {
                wrong.push(Mismatch::new(format!("runs.{status}"), expected, got));
            }
        }
    }
    let ledger = counts(ending);
    for (effect, expected) in &expect.ledger {
        let got = ledger.get(effect).copied().unwrap_or(0);
        if got != *expected
            && !crate::teeth::awake(crate::teeth::Bug::UncheckedLedger)
            && !(crashed && effects.may_differ(effect))
        {
            wrong.push(Mismatch::new(format!("ledger.{effect}"), *expected, got));
        }
    }
    if !crashed {
        for (handler, expected) in &expect.calls {
            let got = ending.calls.get(handler).copied().unwrap_or(0);
            if got != *expected {
                wrong.push(Mismatch::new(format!("calls.{handler}"), *expected, got));
            }
        }
    }
    checks(case, ending, effects, limits, crashed, &mut wrong);
    wrong
}

/// Returns what a played run came to besides the flaws that it is expected to have, and which of those it has not.
pub(crate) fn flaws(expected: &[FlawKind], found: &BTreeSet<Problem>, sketch: &Sketch) -> Vec<Mismatch> {
    let new = found.iter().filter(|problem| !expected.contains(&FlawKind::of(problem)));
    let new = new.map(|problem| Mismatch::said("flaws", proof::title(sketch, problem)));
    let kinds: BTreeSet<FlawKind> = found.iter().map(FlawKind::of).collect();
    let gone = expected.iter().filter(|kind| !kinds.contains(kind));
    new.chain(gone.map(|kind| Mismatch::said("flaws", format!("expected `{}`, and there is none", kind.word()))))
        .collect()
}

fn of_run(expect: &Expect, report: &Value, prefix: &str, crashed: bool, wrong: &mut Vec<Mismatch>) {
    let mut compare = |path: &str, expected: &Value, got: &Value| {
        subset(&format!("{prefix}{path}"), expected, got, wrong);
    };
    if let Some(status) = expect.status {
        compare("status", &json!(status.word()), &report["status"]);
    }
    if let Some(compensation) = expect.compensation {
        compare("compensation", &json!(compensation.word()), &report["compensation"]);
    }
    for (key, expected) in [("output", &expect.output), ("error", &expect.error)] {
        if let Some(expected) = expected {
            compare(key, expected, &report[key]);
        }
    }
    for (name, step) in &expect.steps {
        let got = &report["steps"][name];
        let at = |key: &str| format!("steps.{name}.{key}");
        if let Some(status) = step.status {
            compare(&at("status"), &json!(status.word()), &got["status"]);
        }
        if let Some(via) = &step.via {
            compare(&at("via"), via, &got["via"]);
        }
        if let (Some(attempts), false) = (step.attempts, crashed) {
            compare(&at("attempts"), &json!(attempts), &got["attempts"]);
        }
        if let Some(error) = &step.error {
            compare(&at("error"), error, &got["error"]);
        }
    }
    if let Some(undone) = &expect.undone {
        compare("undone", &json!(undone), &report["undone"]);
    }
    // What lists say of a final run must be what its events say.
    if let Some(listed) = report.get("listed") {
        compare("status in lists", &report["status"], &listed["status"]);
        compare("compensation in lists", &report["compensation"], &listed["compensation"]);
    }
}

/// Compares objects as subsets, everything else exactly.
fn subset(path: &str, expected: &Value, got: &Value, wrong: &mut Vec<Mismatch>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (key, expected) in expected {
                subset(&format!("{path}.{key}"), expected, got.get(key).unwrap_or(&Value::Null), wrong);
            }
        }
        _ if expected == got => {}
        _ => wrong.push(Mismatch::new(path, expected.clone(), got.clone())),
    }
}

/// Several runs exit with the worst code, in the order of SPEC section 9.
fn exit_of_all(reports: &[Value]) -> u64 {
    let codes: BTreeSet<u64> = reports.iter().filter_map(|report| report["exit"].as_u64()).collect();
    [10, 5, 4, 1, 3, 6, 7, 0].into_iter().find(|code| codes.contains(code)).unwrap_or(70)
}

fn checks(case: &Case, ending: &Ending, effects: &Effects, limits: &Limits, crashed: bool, wrong: &mut Vec<Mismatch>) {
    if case.checks.is_empty() {
        return;
    }
    let ledger = counts(ending);
    let mut all: BTreeMap<&str, u64> = effects.names().map(|name| (name.as_str(), 0)).collect();
    all.extend(ledger.iter().map(|(name, count)| (name.as_str(), *count)));
    // Names of handlers have dots; in an expression they are read as `calls["payment.charge"]`.
    let mut scope = ending.scope.clone();
    let first = ending.reports.first().cloned().unwrap_or_default();
    scope.vars.insert("output".into(), Arc::new(first["output"].clone()));
    scope.vars.insert("run".into(), Arc::new(first));
    scope.vars.insert("runs".into(), Arc::new(Value::Array(ending.reports.clone())));
    scope.vars.insert("ledger".into(), Arc::new(json!(all)));
    scope.vars.insert("calls".into(), Arc::new(json!(ending.calls)));
    for (source, check) in &case.checks {
        let reads_calls = check.references().iter().any(|r| r.path.first().is_some_and(|root| root == "calls"));
        if crashed && reads_calls {
            continue;
        }
        match check.holds(&scope, limits) {
            Ok(true) => {}
            Ok(false) => wrong.push(Mismatch::said("check", format!("`{source}` does not hold"))),
            Err(error) => wrong.push(Mismatch::said("check", format!("`{source}`: {error}"))),
        }
    }
}

/// Returns what a crash changed: the effects that are left must be those of the undisturbed playthrough.
pub(crate) fn compare(calm: &Ending, crashed: &Ending, effects: &Effects) -> Vec<Mismatch> {
    let mut wrong = Vec::new();
    let (before, after) = (counts(calm), counts(crashed));
    let (left, left_after) = (effects.left(&before), effects.left(&after));
    for (effect, expected) in &left {
        let got = left_after.get(effect).copied().unwrap_or(0);
        let count = |number: i128| json!(i64::try_from(number).unwrap_or(i64::MAX));
        if got != *expected {
            wrong.push(Mismatch::new(format!("ledger: `{effect}` that is left"), count(*expected), count(got)));
        }
    }
    wrong
}
