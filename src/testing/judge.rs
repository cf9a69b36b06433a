//! Whether a run that something was done to went as it must.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Site;
use crate::engine::report::RunReport;
use crate::machine::event::{CallKind, Compensation, Entry, Event};
use crate::plan::{Action, OnError, Plan, Step};
use crate::scenario::judge::{Effects, counts};
use crate::scenario::play::{Attempt, Ending};
use crate::scenario::{Mismatch, rules};
use crate::teeth::{Bug, awake};

/// Returns the run of an ending, and what its journal holds.
pub(super) fn run_of(ending: &Ending) -> Option<(&RunReport, &[Entry])> {
    ending.runs.first().map(|(report, entries)| (report, entries.as_slice()))
}

/// What holds of every run: it ends, and breaks no rule; its keys are those of the run without faults.
pub(super) fn general(plan: &Plan, calm: &Ending, ending: &Ending, effects: &Effects) -> Vec<Mismatch> {
    let mut wrong: Vec<_> = ending.problems.iter().map(|p| Mismatch::said("run", p.clone())).collect();
    match run_of(ending) {
        None => {
            let refused = ending.reports.first().map(|report| report["error"]["message"].clone()).unwrap_or_default();
            wrong.push(Mismatch::said("run", format!("the run was not accepted: {refused}")));
        }
        Some((report, _)) if !matches!(report.status.as_str(), "completed" | "failed" | "cancelled" | "parked") => {
            let waits = report.waiting_for.iter().map(|wait| match &wait.signal {
                Some(signal) => {
                    format!("; `{}` waits for the signal `{signal}`: send it with `.signal(..)`", wait.step)
                }
                None => format!("; `{}` waits", wait.step),
            });
            let message = format!("the run does not end: it is {}{}", report.status, waits.collect::<String>());
            wrong.push(Mismatch::said("run", message));
        }
        Some(_) => {}
    }
    wrong.extend(rules::broken(plan, ending, effects));
    for attempt in &ending.attempts {
        let same = |a: &&Attempt| {
            (&a.step, a.item, &a.member, a.kind) == (&attempt.step, attempt.item, &attempt.member, attempt.kind)
        };
        if let Some(first) = calm.attempts.iter().find(same).filter(|first| first.key != attempt.key) {
            let message =
                format!("{attempt} has another key than without the fault: {}, not {}", attempt.key, first.key);
            wrong.push(Mismatch::said("keys", message));
        }
    }
    wrong
}

/// Tells whether a fault did what it says in a call of this kind at `site`.
pub(super) fn fired(ending: &Ending, site: &Site, kinds: &[CallKind]) -> bool {
    ending.attempts.iter().any(|attempt| {
        attempt.fault
            && attempt.step == site.step
            && attempt.item == site.item
            && site.member.as_ref().is_none_or(|member| attempt.member == member.as_str())
            && kinds.contains(&attempt.kind)
    })
}

/// Tells whether the call of this kind at `site` worked.
pub(super) fn succeeded(ending: &Ending, site: &Site, kind: CallKind) -> bool {
    let worked = |entry: &Entry| match &entry.event {
        Event::CallSucceeded { call, .. } => {
            call.kind == kind && call.place.step == site.step && call.place.item == site.item
        }
        _ => false,
    };
    run_of(ending).is_some_and(|(_, entries)| entries.iter().any(worked))
}

/// Says that a fault did nothing.
pub(super) fn unfired(what: &str, site: &Site) -> Mismatch {
    Mismatch::said("injection", format!("the {what} at `{site}` never happened: this run did not come there"))
}

/// The run in which `site` fails must end with its error, unless the workflow says what else happens.
pub(super) fn failed(plan: &Plan, site: &Site, kind: CallKind, code: &str, ending: &Ending) -> Vec<Mismatch> {
    let mut wrong = Vec::new();
    let Some((report, _)) = run_of(ending) else { return wrong };
    let step = plan.find(&site.step).map(|ix| plan.step(ix)).filter(|_| kind == CallKind::Forward);
    let goes_on =
        step.is_none_or(|step| step.on_error == OnError::Continue || (site.member.is_some() && has_fallbacks(step)));
    let parks = step.is_some_and(|step| step.on_error == OnError::Park || step.pivot)
        || plan.steps.iter().any(|step| step.pivot);
    match report.status.as_str() {
        "completed" if !goes_on => {
            wrong.push(Mismatch::said("status", format!("the run completed although `{site}` failed")));
        }
        "parked" if !parks => wrong.push(Mismatch::new("status", "failed", "parked")),
        "failed" if !goes_on => {
            let error = report.error.as_ref();
            let culprit = error.map(|e| json!({ "step": e.step, "item": e.item, "code": e.code })).unwrap_or_default();
            let expected = json!({ "step": site.step.as_str(), "item": site.item, "code": code });
            if culprit != expected {
                wrong.push(Mismatch::new("the cause of the failure", expected, culprit));
            }
        }
        _ => {}
    }
    wrong
}

fn has_fallbacks(step: &Step) -> bool {
    matches!(&step.action, Action::Call(members) if members.len() > 1)
}

/// Returns the undos of a run that worked.
pub(super) fn undos(plan: &Plan, ending: &Ending) -> BTreeSet<Site> {
    let entries = run_of(ending).map_or(&[][..], |(_, entries)| entries);
    let site = |entry: &Entry| match &entry.event {
        Event::CallSucceeded { call, .. } if call.kind == CallKind::Undo => {
            let step = plan.step(plan.find(&call.place.step)?);
            let Action::Call(members) = &step.action else { return None };
            let member = members.get(usize::from(call.member))?.name.to_string();
            Some(Site { step: step.name.clone(), item: call.place.item, member: Some(member) })
        }
        _ => None,
    };
    entries.iter().filter_map(site).collect()
}

/// The run in which an undo fails must say that it is owed, and all other undos must have worked.
pub(super) fn owed(plan: &Plan, undo: &Site, without: &Ending, ending: &Ending) -> Vec<Mismatch> {
    let mut wrong = Vec::new();
    let Some((report, _)) = run_of(ending) else { return wrong };
    if report.compensation != Compensation::Incomplete {
        wrong.push(Mismatch::new("compensation", "incomplete", json!(report.compensation)));
    }
    if !report.owed.iter().any(|owed| owed.step == undo.step.as_str() && owed.item == undo.item) {
        wrong.push(Mismatch::new("owed", format!("`{undo}` among them"), json!(report.owed)));
    }
    // An undo that is tried and fails, because it builds on the one that failed, is owed as well.
    let tried = |site: &Site| {
        let of = |a: &Attempt| {
            a.step == site.step && a.item == site.item && site.member.as_deref() == Some(a.member.as_str())
        };
        ending.attempts.iter().any(|attempt| attempt.kind == CallKind::Undo && of(attempt))
    };
    for missing in undos(plan, without).iter().filter(|site| !tried(site)) {
        wrong.push(Mismatch::said("undone", format!("`{missing}` is not undone, because the undo of `{undo}` failed")));
    }
    wrong
}

/// A run must have ended as another did, and left the same behind.
pub(super) fn same(before: &Ending, after: &Ending, ignored: &[String], crashed: bool) -> Vec<Mismatch> {
    let mut wrong = Vec::new();
    let (Some((expected, _)), Some((got, _))) = (run_of(before), run_of(after)) else { return wrong };
    let mut compare = |path: &str, expected: Value, got: Value| {
        if expected != got {
            wrong.push(Mismatch::new(path, expected, got));
        }
    };
    compare("status", json!(expected.status), json!(got.status));
    if !awake(Bug::UncomparedOutput) {
        compare("output", without(&expected.output, ignored), without(&got.output, ignored));
    }
    let cause = |report: &RunReport| report.error.as_ref().map(|e| json!({ "code": e.code, "step": e.step }));
    compare("error", json!(cause(expected)), json!(cause(got)));
    if !crashed {
        compare("compensation", json!(expected.compensation), json!(got.compensation));
        compare("undone", json!(expected.undone), json!(got.undone));
        compare("what is in the ledger", json!(counts(before)), json!(counts(after)));
        for (name, step) in &expected.steps {
            let outcome = |step: &crate::engine::report::StepReport| json!({ "status": step.status, "via": step.via });
            compare(&format!("steps.{name}"), outcome(step), got.steps.get(name).map(outcome).unwrap_or_default());
        }
    }
    wrong
}

fn without(output: &Option<Value>, ignored: &[String]) -> Value {
    let mut output = json!(output);
    for pointer in ignored {
        if let Some(place) = output.pointer_mut(pointer) {
            *place = Value::Null;
        }
    }
    output
}

/// Tells whether an attempt was cut off that nobody may repeat: what happened then is for the workflow to say.
pub(super) fn cut_off_for_good(ending: &Ending) -> bool {
    let crashed = |entry: &Entry| match &entry.event {
        Event::CallFailed { error, .. } => error.code == *"crashed",
        _ => false,
    };
    run_of(ending).is_some_and(|(_, entries)| entries.iter().any(crashed))
}
