//! Which transitions the machine has: everything that can be recorded in each phase, and everything that can happen to a
//! call, less what is impossible, which is said here with its reason. What is left, the storms have to reach.

use std::collections::BTreeSet;

use flowrun::machine::state::Phase;

/// What is impossible is refused by these, or never asked of them.
const TYPES: &str = include_str!("../../../src/machine/history.rs");
const CALLS: &str = include_str!("../../../src/machine/call.rs");

/// Returns the words in quotes between two lines of a source: a kind that is added there is one here.
fn words(source: &'static str, from: &str, to: &str) -> Vec<&'static str> {
    let part = source.split_once(from).expect("the source has such a part").1;
    let part = part.split_once(to).expect("the part has an end").0;
    part.split('"').skip(1).step_by(2).collect()
}

/// Says why a type of event cannot be recorded in a phase.
fn impossible(phase: &Phase, parked: bool, kind: &str) -> Option<&'static str> {
    use Phase::{Draining, Ending, Finished, Running, Undoing};
    let from_outside = ["run_resumed", "run_interrupted", "signal_received", "late_result", "retry_requested"];
    let begins = ["step_skipped", "items_listed", "wait_started", "step_started", "item_started", "attempt_refused"];
    let undo = kind.starts_with("compensation_");
    match (phase, parked, kind) {
        (_, _, "run_started") => Some("a run starts once, and is in no phase before"),
        (_, _, "confirm_succeeded") => Some("a confirm is answered: `confirmed`"),
        (Finished, true, _) => Some("a final run is not parked"),
        (Finished, false, "compensate_requested" | "marked_done") => None,
        (Finished, false, _) => Some("the run is final"),
        (_, _, "compensate_requested" | "marked_done") => Some("the run is not final"),
        (_, false, "retry_requested") => Some("only a parked run is retried"),
        (Running | Draining, true, "drain_started") => None,
        (_, true, kind) if !from_outside.contains(&kind) => Some("a parked run does nothing by itself"),
        (Draining | Undoing | Ending, false, "drain_started") => Some("it has stopped going forward already"),
        (Running | Undoing | Ending, _, "undo_started") => Some("the undoing begins when a drain is over"),
        (Draining | Undoing | Ending, _, kind) if begins.contains(&kind) => Some("nothing new starts any more"),
        (Running | Draining | Undoing, _, kind) if kind.starts_with("finally_") => Some("the run has not ended"),
        (Ending, _, "run_ending") => Some("how the run ends is decided once"),
        (Ending, _, _) if undo => Some("the undoing is over"),
        (Undoing | Ending, true, "late_result") => Some("it parks when it is taken up, and nobody was called before"),
        (Undoing | Ending, _, kind) => {
            let of_step = ["step_", "item_", "confirm"].iter().any(|part| kind.starts_with(part));
            let forward = of_step || matches!(kind, "attempt_failed" | "attempt_unknown");
            forward.then_some("nothing that goes forward is under way when a drain is over")
        }
        _ => None,
    }
}

/// Says why a call cannot change like that.
fn impossible_for_a_call(before: &str, what: &str, after: &str) -> Option<&'static str> {
    match (before, what, after) {
        ("succeeded" | "failed", ..) => Some("the call is over, and only calls under way are given up"),
        ("running", "started" | "refused" | "given up", _) => Some("an attempt is under way"),
        ("idle" | "backing off", "failed" | "succeeded" | "cut off", _) => Some("no attempt is under way"),
        (_, "started", "running") | (_, "succeeded", "succeeded") | (_, "cut off", "idle") => None,
        (_, "given up", "failed") | (_, "refused" | "failed", "backing off" | "failed") => None,
        _ => Some("it does not lead there"),
    }
}

/// Holds the transitions that were reached to those that there are: returns what nothing has reached, and what was reached
/// although it is said to be impossible.
pub fn differences(reached: &BTreeSet<String>) -> Vec<String> {
    let mut all = Vec::new();
    let kinds: BTreeSet<&str> = words(TYPES, "pub fn type_of", "\n}\n").into_iter().collect();
    for phase in [Phase::Running, Phase::Draining, Phase::Undoing, Phase::Ending, Phase::Finished] {
        for parked in [false, true] {
            let at = format!("{phase:?}{}", if parked { ", parked" } else { "" });
            all.extend(kinds.iter().map(|kind| (format!("{at}: {kind}"), impossible(&phase, parked, kind))));
        }
    }
    let changes = words(CALLS, "impl Change {", "\n}\n");
    let states = words(CALLS, "impl Progress {", "\n}\n");
    for (before, what) in states.iter().flat_map(|before| changes.iter().map(move |what| (before, what))) {
        let to =
            |after: &&str| (format!("call {before} on {what}: {after}"), impossible_for_a_call(before, what, after));
        all.extend(states.iter().map(to));
    }
    let known: BTreeSet<&String> = all.iter().map(|(name, _)| name).collect();
    let unknown = reached.iter().filter(|name| !known.contains(name)).map(|name| format!("{name} is not listed"));
    let differ = all.iter().filter_map(|(name, why)| match (reached.contains(name), why) {
        (false, None) => Some(format!("{name} is reached by nothing")),
        (true, Some(why)) => Some(format!("{name} is reached, although {why}")),
        _ => None,
    });
    unknown.chain(differ).collect()
}
