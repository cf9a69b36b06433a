//! What holds of every run, however it was disturbed: nothing is recorded twice, a call keeps its key, no effect has
//! happened twice with one key, and what was done is undone in reverse order or said to be owed.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::{Effects, Mismatch};
use super::play::Ending;
use crate::engine::report::RunReport;
use crate::machine::event::{Answer, CallId, CallKind, Compensation, Entry, Event};
use crate::plan::{Action, Plan, StepIx};

/// Returns which rules the runs of a playthrough have broken.
pub(crate) fn broken(plan: &Plan, ending: &Ending, effects: &Effects) -> Vec<Mismatch> {
    let mut wrong = Vec::new();
    for (report, entries) in &ending.runs {
        // Whoever retries a step gives it a new key and a second end.
        if entries.iter().any(|e| matches!(e.event, Event::RetryRequested { .. })) {
            continue;
        }
        once(entries, &mut wrong);
        undone(plan, report, entries, &mut wrong);
        order(plan, entries, &mut wrong);
        if ending.runs.len() == 1 {
            keys(ending, &mut wrong);
        }
    }
    effects_once(ending, effects, &mut wrong);
    wrong
}

fn said(message: String) -> Mismatch {
    Mismatch::said("rules", message)
}

fn once(entries: &[Entry], wrong: &mut Vec<Mismatch>) {
    let mut seen = BTreeSet::new();
    for entry in entries {
        if let Event::CallSucceeded { call, .. } = &entry.event
            && !seen.insert(call)
        {
            let what = match call.kind {
                CallKind::Forward => "success",
                CallKind::Confirm => "answer",
                CallKind::Undo => "undo",
                CallKind::Finally => "end",
            };
            wrong.push(said(format!("the {what} of `{}` is recorded twice", call.place)));
        }
    }
}

fn keys(ending: &Ending, wrong: &mut Vec<Mismatch>) {
    let mut known = BTreeMap::new();
    for attempt in &ending.attempts {
        let call = (&attempt.step, attempt.item, &attempt.member, attempt.kind);
        let first = *known.entry(call).or_insert(&attempt.key);
        if *first != attempt.key {
            wrong.push(said(format!("{attempt} has another key than the first: {}, not {first}", attempt.key)));
        }
    }
    let mut owners = BTreeMap::new();
    for (call, key) in known {
        if owners.insert(key, call).is_some() {
            wrong.push(said(format!("two calls have the key {key}; one is of `{}`", call.0)));
        }
    }
}

/// The calls that the journal says were done, and those that were undone.
fn done_and_undone(entries: &[Entry]) -> (BTreeSet<CallId>, BTreeSet<CallId>) {
    let (mut done, mut undone) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        match &entry.event {
            Event::CallSucceeded { call, .. } if call.kind == CallKind::Forward => {
                done.insert(call.clone());
            }
            Event::Confirmed { call, answer: Answer::Done, .. } => {
                done.insert(CallId { kind: CallKind::Forward, ..call.clone() });
            }
            Event::CallSucceeded { call, .. } if call.kind == CallKind::Undo => {
                undone.insert(CallId { kind: CallKind::Forward, ..call.clone() });
            }
            Event::MarkedDone { place, .. } => {
                undone.extend(done.iter().filter(|call| call.place == *place).cloned());
            }
            _ => {}
        }
    }
    (done, undone)
}

fn undone(plan: &Plan, report: &RunReport, entries: &[Entry], wrong: &mut Vec<Mismatch>) {
    if !matches!(report.status.as_str(), "failed" | "cancelled") {
        return;
    }
    let (done, undone) = done_and_undone(entries);
    for call in done.difference(&undone) {
        let Some(Action::Call(members)) = plan.find(&call.place.step).map(|ix| &plan.step(ix).action) else { continue };
        let has_undo = members.get(usize::from(call.member)).is_some_and(|member| member.compensate.is_some());
        let owed = report.owed.iter().any(|o| o.step == call.place.step.as_str() && o.item == call.place.item);
        if has_undo && !(report.compensation == Compensation::Incomplete && owed) {
            let how = match report.compensation {
                Compensation::NoneNeeded => "with nothing to undo",
                Compensation::Complete => "as if all were undone",
                Compensation::Incomplete => "incomplete, and does not say that this is owed",
            };
            wrong.push(said(format!("`{}` was done and is not undone; the run ended {how}", call.place)));
        }
    }
}

/// Before a step is undone, whatever was built on it has been, or its undo was given up.
fn order(plan: &Plan, entries: &[Entry], wrong: &mut Vec<Mismatch>) {
    let undo_of = |event: &Event| match event {
        Event::CallStarted { call, attempt: 1, .. } if call.kind == CallKind::Undo => plan.find(&call.place.step),
        _ => None,
    };
    // An undo before a fallback is no part of the way back.
    let Some(turn) = entries.iter().position(|e| matches!(e.event, Event::UndoStarted)) else { return };
    let mut begun: Vec<StepIx> = Vec::new();
    for step in entries[turn..].iter().filter_map(|entry| undo_of(&entry.event)) {
        for earlier in begun.iter().filter(|earlier| **earlier != step && is_built_on(plan, step, **earlier)) {
            let (step, earlier) = (&plan.step(step).name, &plan.step(*earlier).name);
            wrong.push(said(format!("`{earlier}` was undone before `{step}`, which is built on it")));
        }
        begun.push(step);
    }
}

/// Tells whether `step` needs `base`, or a step that does.
fn is_built_on(plan: &Plan, step: StepIx, base: StepIx) -> bool {
    let (mut open, mut seen) = (vec![step], BTreeSet::new());
    while let Some(next) = open.pop() {
        for need in &plan.step(next).needs {
            if *need == base {
                return true;
            }
            if seen.insert(*need) {
                open.push(*need);
            }
        }
    }
    false
}

fn effects_once(ending: &Ending, effects: &Effects, wrong: &mut Vec<Mismatch>) {
    let mut seen = BTreeSet::new();
    for entry in &ending.ledger {
        if effects.is_effect(&entry.effect) && !seen.insert((&entry.effect, &entry.key)) {
            wrong.push(Mismatch::said(
                "ledger",
                format!("`{}` happened twice with the key {}", entry.effect, entry.key),
            ));
        }
    }
}
