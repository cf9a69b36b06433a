//! Killed inside every call and after every event, an order goes on to the same end (RELIABILITY A06, A07, A08, A10;
//! SPEC 10).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::Value;

use super::courses::{COURSES, Course, End, HAPPY, RUN, UNDONE, calls, everywhere, two_at_a_time};
use crate::program::Place;

/// A call at which the program is killed.
struct Cut {
    course: &'static Course,
    /// How the course ends when nobody kills.
    expected: Arc<End>,
    /// The calls that it then makes: the type of event, the step, the number of the attempt.
    made: Arc<Vec<(String, String, u64)>>,
    rule: String,
}

/// Returns the calls that a history has.
fn made(history: &[Value]) -> Vec<(String, String, u64)> {
    let call = |event: &Value| {
        let kind = event["type"].as_str().filter(|kind| kind.ends_with("_started") && *kind != "run_started")?;
        Some((kind.to_owned(), event["step"].as_str()?.to_owned(), event["attempt"].as_u64()?))
    };
    history.iter().filter_map(call).collect()
}

/// Returns every call at which it makes a difference to be killed, in one manner. What comes before the courses part is
/// the same in all of them; how a run ends is not.
fn cuts(when: &str, courses: &'static [Course], wanted: impl Fn(&str) -> bool) -> Vec<Cut> {
    let mut known = BTreeSet::new();
    let mut cuts = Vec::new();
    for course in courses {
        let (expected, history) = course.undisturbed();
        let (expected, made) = (Arc::new(expected), Arc::new(made(&history)));
        for (call, acts) in calls(&history) {
            let once = if call.contains("finally") { format!("{call} {}", course.code) } else { call.clone() };
            let repeated = !known.insert(once) && !everywhere();
            if repeated || !wanted(&call) || (when == "kill_after" && !acts) {
                continue;
            }
            let rule = format!("{{ {call}, do: {when} }}");
            cuts.push(Cut { course, expected: Arc::clone(&expected), made: Arc::clone(&made), rule });
        }
    }
    cuts
}

/// Kills the program once there, brings the run to its end, and holds it to the undisturbed one: besides the end, the call
/// that was cut off is made once more under the next number, and no other call is made twice.
fn killed_there(Cut { course, expected, made: calm, rule }: Cut) {
    let place = course.place();
    let mut rules = vec![rule.as_str()];
    rules.extend(course.faults);
    place.faults("kill.yaml", &rules);
    let ran = place.run(&course.exec("kill.yaml"));
    let mut deaths = 0;
    let end = course.finish(&place, ran, "kill.yaml", &mut deaths);
    assert_eq!(deaths, 1, "{}: {rule} kills once", course.name);
    assert_eq!(end, *expected, "{}: {rule}", course.name);

    let mut again = made(&place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines());
    for call in &*calm {
        let found = again.iter().position(|other| other == call);
        again.remove(found.unwrap_or_else(|| panic!("{}: {rule}: {call:?} was not made: {again:?}", course.name)));
    }
    let [(_, step, attempt)] = again.as_slice() else {
        panic!("{}: {rule}: one call is made again, not {again:?}", course.name);
    };
    assert!(rule.contains(&format!("step: {step},")) && *attempt > 1, "{rule}: {step}, attempt {attempt}");
}

/// The handler has acted and nothing of it is recorded: it is called again with the same key, under the next number. (With
/// another key the ledger would have a second effect.)
#[test]
fn a07_killed_between_the_effect_of_every_call_and_its_record() {
    let work = cuts("kill_after", &COURSES, |_| true);
    println!("{} places to be killed at", work.len());
    assert!(work.len() >= 16, "the courses are too short to mean anything: {}", work.len());
    two_at_a_time(work, killed_there);
}

/// The outcome of what came before is recorded, in the same commit as the start of what follows from it, and that has not
/// begun to act: it starts once.
#[test]
fn a08_killed_between_a_recorded_outcome_and_every_call_that_follows() {
    let work = cuts("kill_before", &COURSES, |_| true);
    println!("{} places to be killed at", work.len());
    assert!(work.len() >= 18, "the courses are too short to mean anything: {}", work.len());
    two_at_a_time(work, killed_there);
}

/// Undo i of n goes on with i, then i-1 and so on; what was undone is not undone again. The order is part of the end.
#[test]
fn a10_killed_before_and_after_each_undo() {
    let undo = |call: &str| call.contains("call: undo");
    let work: Vec<Cut> = ["kill_before", "kill_after"]
        .into_iter()
        .flat_map(|when| cuts(when, std::slice::from_ref(&UNDONE), undo))
        .collect();
    assert!(work.len() >= 4, "too few undos to have an order: {}", work.len());
    assert!(work[0].expected.report["undone"].as_array().is_some_and(|undone| undone.len() >= 2));
    two_at_a_time(work, killed_there);
}

/// As soon as each event is durable.
#[test]
fn a06_killed_after_every_event() {
    let mut work = Vec::new();
    for course in [&HAPPY, &UNDONE] {
        let (expected, history) = course.undisturbed();
        let expected = Arc::new(expected);
        // Up to the label both go the same way.
        let label = history.iter().position(|e| e["step"] == "label").expect("it comes to the label");
        let from = if course.name == "undone" && !everywhere() { label } else { 1 };
        work.extend((from..history.len()).map(|k| (course, Arc::clone(&expected), k)));
    }
    println!("{} events to be killed at", work.len());
    let cut = Mutex::new(BTreeSet::new());
    two_at_a_time(work, |(course, expected, k)| {
        let place = course.place();
        let mut running = place.start(&course.exec("calm.yaml"));
        for _ in 0..k {
            if running.line().is_none() {
                break;
            }
        }
        running.signal(Signal::KILL);
        let ran = running.end();
        if ran.was_killed() {
            let left = events_of(&place).len();
            // What was shown had been recorded.
            assert!(left >= k, "{}: {k} events were shown, {left} are there", course.name);
            cut.lock().expect("nobody panics with it").insert((course.name, left));
        }
        // The same command again is as good as `resume`.
        let ran = if k % 2 == 0 { ran } else { place.run(&course.exec("calm.yaml")) };
        let end = course.finish(&place, ran, "calm.yaml", &mut 0);
        assert_eq!(end, *expected, "{}: killed after {k} events", course.name);
    });
    let cut = cut.into_inner().expect("nobody panicked with it");
    println!("cut off at {} different lengths of the journal: {cut:?}", cut.len());
    assert!(cut.len() >= 10, "hardly anything was cut off: {cut:?}");
}

fn events_of(place: &Place) -> Vec<Value> {
    place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines()
}
