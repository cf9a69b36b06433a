//! Events as a person or a program reads them: their type in a word, and their JSON.

use crate::failure::Failure;
use serde_json::{Map, Value, json};

use super::event::{CallId, CallKind, Cause, Conclusion, Entry, Event, Outcome, Place};
use crate::failure::ErrorKind;

/// Returns the type of an event, as `history` prints it.
#[must_use]
pub fn type_of(event: &Event) -> &'static str {
    match event {
        Event::RunStarted(_) => "run_started",
        Event::RunResumed { .. } => "run_resumed",
        Event::RunInterrupted => "run_interrupted",
        Event::RunParked { .. } => "run_parked",
        Event::SignalReceived { .. } => "signal_received",
        Event::StepSkipped { .. } => "step_skipped",
        Event::ItemsListed { .. } => "items_listed",
        Event::WaitStarted { .. } => "wait_started",
        Event::CallStarted { call, .. } => match call.kind {
            CallKind::Forward => of_place(&call.place, "step_started", "item_started"),
            CallKind::Confirm => "confirm_started",
            CallKind::Undo => "compensation_started",
            CallKind::Finally => "finally_started",
        },
        Event::CallSucceeded { call, .. } => match call.kind {
            CallKind::Forward => of_place(&call.place, "step_succeeded", "item_succeeded"),
            CallKind::Confirm => "confirm_succeeded",
            CallKind::Undo => "compensation_succeeded",
            CallKind::Finally => "finally_succeeded",
        },
        Event::CallFailed { call, attempt, error, retry_at } => match (call.kind, retry_at) {
            (CallKind::Forward, _) if *attempt == 0 => "attempt_refused",
            (CallKind::Forward, _) if error.kind == ErrorKind::Unknown => "attempt_unknown",
            (CallKind::Forward, _) => "attempt_failed",
            (CallKind::Confirm, _) => "confirm_failed",
            (CallKind::Undo, Some(_)) => "compensation_attempt_failed",
            (CallKind::Undo, None) => "compensation_failed",
            (CallKind::Finally, Some(_)) => "finally_attempt_failed",
            (CallKind::Finally, None) => "finally_failed",
        },
        Event::CallCutOff { .. } => "attempt_cut_off",
        Event::Confirmed { .. } => "confirmed",
        Event::Settled { place, outcome } => match outcome {
            Outcome::Succeeded { .. } => of_place(place, "step_succeeded", "item_succeeded"),
            Outcome::Failed { .. } => of_place(place, "step_failed", "item_failed"),
            Outcome::Unknown { .. } => of_place(place, "step_unknown", "item_unknown"),
        },
        Event::DrainStarted { .. } => "drain_started",
        Event::UndoStarted => "undo_started",
        Event::RunEnding(_) => "run_ending",
        Event::RunFinished(_) => "run_finished",
        Event::RetryRequested { .. } => "retry_requested",
        Event::CompensateRequested => "compensate_requested",
        Event::MarkedDone { .. } => "marked_done",
        Event::LateResult { .. } => "late_result",
    }
}

fn of_place(place: &Place, step: &'static str, item: &'static str) -> &'static str {
    if place.item.is_some() { item } else { step }
}

/// Returns the event numbered `seq` of a run as one JSON object: `seq`, `at`, `type`, and what belongs to the type.
#[must_use]
pub fn to_json(seq: u64, entry: &Entry) -> Value {
    let mut object = Map::new();
    object.insert("v".into(), json!(1));
    object.insert("seq".into(), json!(seq));
    object.insert("at".into(), json!(entry.at.to_string()));
    object.insert("type".into(), json!(type_of(&entry.event)));
    let rest = match &entry.event {
        Event::RunStarted(started) => json!({
            "run_id": started.id,
            "workflow": started.workflow,
            "definition": super::key::hex(&started.definition),
            "input": **started.input.value(),
            "deadline": started.deadline.map(|d| d.to_string()),
        }),
        Event::RunResumed { clean } => json!({ "clean": clean }),
        Event::RunInterrupted | Event::UndoStarted | Event::CompensateRequested => json!({}),
        Event::RunParked { code, message } => json!({ "code": code, "message": message }),
        Event::SignalReceived { id, name, data } => {
            json!({ "signal": name, "signal_id": id, "data": **data.value() })
        }
        Event::StepSkipped { step, reason } => json!({ "step": step, "reason": reason }),
        Event::ItemsListed { step, items } => json!({ "step": step, "items": **items.value() }),
        Event::WaitStarted { step, until, signal } => {
            json!({ "step": step, "until": until.map(|u| u.to_string()), "signal": signal })
        }
        Event::CallStarted { call, via, attempt, until, input, probe } => {
            let mut rest = call_json(call, *attempt);
            rest["via"] = json!(via);
            rest["timeout_at"] = json!(until.to_string());
            if let Some(input) = input {
                rest["input"] = Value::clone(input.value());
            }
            if *probe {
                rest["probe"] = json!(true);
            }
            rest
        }
        Event::CallSucceeded { call, attempt, output } => {
            let mut rest = call_json(call, *attempt);
            rest["output"] = Value::clone(output.value());
            rest
        }
        Event::CallFailed { call, attempt, error, retry_at } => {
            let mut rest = call_json(call, *attempt);
            rest["error"] = error.to_json();
            rest["retry_at"] = json!(retry_at.map(|at| at.to_string()));
            rest
        }
        Event::CallCutOff { call, attempt } => {
            let mut rest = call_json(call, *attempt);
            rest["call"] = json!(kind_word(call.kind));
            rest
        }
        Event::Confirmed { call, attempt, answer } => {
            let mut rest = call_json(call, *attempt);
            rest["answer"] = json!(answer);
            rest
        }
        Event::Settled { place, outcome } => {
            let mut rest = place_json(place);
            match outcome {
                Outcome::Succeeded { output: Some(output) } => rest["output"] = Value::clone(output.value()),
                Outcome::Succeeded { output: None } => {}
                Outcome::Failed { error } | Outcome::Unknown { error } => rest["error"] = error.to_json(),
            }
            rest
        }
        Event::DrainStarted { cause } => cause_json(cause),
        Event::RunEnding(conclusion) | Event::RunFinished(conclusion) => conclusion_json(conclusion),
        Event::RetryRequested { from } => json!({ "from": from }),
        Event::MarkedDone { place, reason } => {
            let mut rest = place_json(place);
            rest["reason"] = json!(reason);
            rest
        }
        Event::LateResult { call, attempt, result } => {
            let mut rest = call_json(call, *attempt);
            rest["result"] = Value::clone(result.value());
            rest
        }
    };
    if let Value::Object(rest) = rest {
        object.extend(rest);
    }
    Value::Object(object)
}

fn place_json(place: &Place) -> Value {
    match place.item {
        Some(item) => json!({ "step": place.step, "item": item }),
        None => json!({ "step": place.step }),
    }
}

fn call_json(call: &CallId, attempt: u32) -> Value {
    let mut object = place_json(&call.place);
    object["attempt"] = json!(attempt);
    object
}

fn kind_word(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Forward => "forward",
        CallKind::Confirm => "confirm",
        CallKind::Undo => "undo",
        CallKind::Finally => "finally",
    }
}

fn cause_json(cause: &Cause) -> Value {
    match cause {
        Cause::Failed { place, error } => {
            let mut rest = place.as_ref().map_or_else(|| json!({}), place_json);
            rest["cause"] = json!("failed");
            rest["error"] = error.to_json();
            rest
        }
        Cause::Cancelled { reason, compensate } => {
            json!({ "cause": "cancelled", "reason": reason, "compensate": compensate })
        }
        Cause::Deadline { error } => json!({ "cause": "deadline", "error": error.to_json() }),
    }
}

fn conclusion_json(conclusion: &Conclusion) -> Value {
    json!({
        "status": conclusion.status,
        "compensation": conclusion.compensation,
        "output": conclusion.output.as_ref().map(|o| Value::clone(o.value())),
        "error": conclusion.error.as_ref().map(Failure::to_json),
    })
}
