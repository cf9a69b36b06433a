//! Several processes and one store (RELIABILITY B14, B15, D01, D02, D04).

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::courses::{HAPPY, RUN, effects_once};
use crate::program::{Place, Ran};

const ORDER: [&str; 6] = ["exec", "ecommerce-order", "--input", "examples/order.json", "--id", RUN];

/// Runs commands at the same moment, each in a process of its own.
fn at_once(place: &Place, commands: &[Vec<&str>]) -> Vec<Ran> {
    let running: Vec<_> = commands.iter().map(|args| place.start(args)).collect();
    running.into_iter().map(crate::program::Running::end).collect()
}

fn codes(ran: &[Ran]) -> BTreeMap<Option<i32>, usize> {
    let mut codes = BTreeMap::new();
    for one in ran {
        *codes.entry(one.code()).or_insert(0) += 1;
    }
    codes
}

fn history(place: &Place) -> Vec<Value> {
    place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines()
}

fn count(history: &[Value], kind: &str) -> usize {
    history.iter().filter(|event| event["type"] == kind).count()
}

/// Returns the steps that were begun more than once.
fn begun_twice(history: &[Value]) -> Vec<String> {
    let started = history.iter().filter(|event| event["type"] == "step_started");
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for event in started {
        *times.entry(event["step"].as_str().expect("a step").to_owned()).or_default() += 1;
    }
    times.into_iter().filter(|(_, times)| *times > 1).map(|(step, _)| step).collect()
}

/// Whoever comes first starts it, the others stay with it or are shown its end; it is one run, with each effect once.
#[test]
fn d01_the_same_order_from_several_processes_at_once_is_one_run() {
    for late in [0, 150] {
        let place = Place::new();
        let mut first = place.start(&[&ORDER[..], &["-o", "json"]].concat());
        // At the same moment; and while the first is in the middle of it or done with it.
        first.run_for(Duration::from_millis(late));
        let others = vec![[&ORDER[..], &["-o", "json"]].concat(); 3];
        let mut ran = at_once(&place, &others);
        ran.push(first.end());
        assert_eq!(codes(&ran), BTreeMap::from([(Some(0), 4)]), "{ran:#?}");
        let outputs: Vec<Value> = ran.iter().map(|one| one.json()["output"].clone()).collect();
        assert!(
            outputs.iter().all(|output| *output == outputs[0] && output["order_status"] == "completed"),
            "{outputs:?}"
        );
        assert_eq!(place.run(&["list", "-o", "jsonl"]).expect(0).lines().len(), 1);
        let history = history(&place);
        assert_eq!((count(&history, "run_started"), count(&history, "run_finished")), (1, 1));
        assert_eq!(begun_twice(&history), Vec::<String>::new());
        assert_eq!(effects_once(&place.ledger())["charged"], 1);
    }
}

/// The same id for another order is refused, whether the run is under way or final, and leaves no trace.
#[test]
fn d02_the_same_id_with_another_input_is_refused_and_nothing_is_written() {
    let place = Place::new();
    place.order("other.json", |order| order["orderId"] = json!("ORD-2"));
    let other = ["exec", "ecommerce-order", "--input", "other.json", "--id", RUN];
    place.faults("slow.yaml", &["{ step: label, do: hang }"]);
    let mut holder = place.start(&[&ORDER[..], &["--faults", "slow.yaml", "--grace", "50ms"]].concat());
    holder.wait_for("label         started");
    let refused = |before: &Vec<Value>| {
        let changed = [&ORDER[..], &["--set", "payment.attempts=2"]].concat();
        let ran = at_once(&place, &[other.to_vec(), changed, other.to_vec()]);
        assert_eq!(codes(&ran), BTreeMap::from([(Some(9), 3)]), "{ran:#?}");
        assert!(ran.iter().all(|one| one.stderr.contains("`order-1` is taken")), "{ran:#?}");
        assert_eq!(history(&place), *before, "nothing is written");
        assert_eq!(place.run(&["list", "-o", "jsonl"]).expect(0).lines().len(), 1);
    };
    refused(&history(&place));
    holder.signal(Signal::KILL);
    holder.end();
    refused(&history(&place));
    place.run(&["resume", RUN]).expect(0);
    refused(&history(&place));
}

/// One of them drives the run that was left, the others stay with it.
#[test]
fn d04_several_that_resume_one_run_at_once_drive_it_once() {
    let place = HAPPY.place();
    place.faults("kill.yaml", &["{ step: charge, do: kill_after }"]);
    assert!(place.run(&HAPPY.exec("kill.yaml")).was_killed());
    let one = vec!["resume", RUN, "-o", "json"];
    let ran = at_once(&place, &[one.clone(), vec!["resume", "-o", "json"], one.clone(), one]);
    assert_eq!(codes(&ran), BTreeMap::from([(Some(0), 4)]), "{ran:#?}");
    let history = history(&place);
    // Who comes while another one drives takes nothing over.
    assert_eq!((count(&history, "run_resumed"), count(&history, "run_finished")), (1, 1), "{history:#?}");
    assert_eq!(count(&history, "attempt_cut_off"), 1);
    assert_eq!(begun_twice(&history), ["charge"], "one call was cut off and made again");
    let effects = effects_once(&place.ledger());
    assert!(effects.values().all(|n| *n == 1), "{effects:?}");
}

/// Everything that changes a run, three times at the same moment: each is done once, and whoever comes too late is told.
#[test]
fn d04_commands_from_several_processes_at_once_are_each_done_once() {
    let place = Place::new();
    place.write(
        "workflows/desk.yaml",
        "flowrun: 1
name: desk
steps:
  charge: { uses: core.pass, with: 1, compensate: { uses: core.pass, with: 2 } }
  gate: { needs: [charge], wait: { signal: open } }
  after: { needs: [gate], uses: core.pass, with: { ok: true }, on_error: park }
",
    );
    place.write(
        "workflows/owes.yaml",
        "flowrun: 1
name: owes
steps:
  charge: { uses: core.pass, with: 1, compensate: { uses: core.pass, with: 2 } }
  bad: { needs: [charge], uses: core.fail, with: { code: core.failed, kind: permanent, message: no } }
",
    );
    place.faults("stuck.yaml", &["{ step: after, do: { error: core.failed, kind: permanent } }"]);
    place.faults("owing.yaml", &["{ step: charge, call: undo, do: { error: core.failed, kind: permanent } }"]);
    let thrice = |args: &[&str]| at_once(&place, &[args.to_vec(), args.to_vec(), args.to_vec()]);

    place.run(&["exec", "desk", "--id", RUN, "--no-wait"]).expect(7);
    let ran = thrice(&["signal", RUN, "open", "--id", "s1"]);
    assert_eq!(codes(&ran), BTreeMap::from([(Some(0), 3)]), "{ran:#?}");
    assert_eq!(count(&history(&place), "signal_received"), 1);
    place.run(&["resume", RUN, "--faults", "stuck.yaml"]).expect(7);

    let ran = thrice(&["retry", RUN]);
    let done = codes(&ran);
    // Who comes while the retry is under way, or after it, has nothing to retry.
    assert_eq!(done, BTreeMap::from([(Some(0), 1), (Some(9), 2)]), "{ran:#?}");
    assert_eq!(count(&history(&place), "retry_requested"), 1);

    place.run(&["exec", "desk", "--id", "second", "--no-wait"]).expect(7);
    let place_of_second = |kind: &str| count(&place.run(&["history", "second", "-o", "jsonl"]).expect(0).lines(), kind);
    let ran = thrice(&["cancel", "second"]);
    let done = codes(&ran);
    // A cancel that comes while the first is at work changes nothing and stays; one after the end is a conflict.
    let (stayed, late) = (done.get(&Some(6)).copied().unwrap_or(0), done.get(&Some(9)).copied().unwrap_or(0));
    assert!(stayed >= 1 && stayed + late == 3, "{ran:#?}");
    assert_eq!((place_of_second("drain_started"), place_of_second("compensation_succeeded")), (1, 1));

    place.run(&["exec", "owes", "--id", "third", "--faults", "owing.yaml"]).expect(5);
    let ran = thrice(&["compensate", "third"]);
    let done = codes(&ran);
    let (undone, late) = (done.get(&Some(4)).copied().unwrap_or(0), done.get(&Some(9)).copied().unwrap_or(0));
    assert!(undone >= 1 && undone + late == 3, "{ran:#?}");
    let third = place.run(&["history", "third", "-o", "jsonl"]).expect(0).lines();
    assert_eq!((count(&third, "compensate_requested"), count(&third, "compensation_succeeded")), (1, 1));
}

/// Reading never disturbs who writes, and never sees anything but whole runs.
#[test]
fn d04_others_read_while_a_process_writes_and_after_it_was_killed() {
    let place = Place::new();
    let lines: String = (0..60)
        .map(|n| {
            place.order("one.json", |order| {
                order["orderId"] = json!(format!("ORD-{n}"));
                order["items"] = json!([{ "productId": "PROD-D4", "quantity": 1, "price": 10.5 }]);
            });
            std::fs::read_to_string(place.path("one.json")).expect("it was just written") + "\n"
        })
        .collect();
    place.write("orders.jsonl", lines);
    let exec =
        ["exec", "ecommerce-order", "--input", "orders.jsonl", "--id", "{{ input.orderId }}", "--concurrency", "4"];
    place.faults("slow.yaml", &["{ step: charge, do: { delay: 200ms } }"]);
    let writer = place.start(&[&exec[..], &["--faults", "slow.yaml"]].concat());
    // Until some have ended and others are to come.
    let mut seen = 0;
    while seen < 12 {
        let listed = place.run(&["list", "-n", "100", "-o", "json"]).expect(0).json();
        let runs = listed["runs"].as_array().expect("a list").clone();
        assert!(runs.len() >= seen, "a run that was listed is listed again");
        seen = runs.len();
        let Some(last) = runs.first().and_then(|run| run["run_id"].as_str()) else { continue };
        let shown = place.run(&["show", last, "-o", "json"]).expect(0).json();
        assert_eq!(shown["steps"].as_object().map(serde_json::Map::len), Some(11));
        let events = place.run(&["history", last, "-o", "jsonl"]).expect(0).lines();
        assert!(events.iter().enumerate().all(|(n, event)| event["seq"] == n), "{events:#?}");
    }
    writer.signal(Signal::KILL);
    let killed = writer.end().was_killed();
    let listed = place.run(&["list", "-n", "100", "-o", "json"]).expect(0).json();
    assert!(listed["runs"].as_array().is_some_and(|runs| runs.len() >= seen));
    for run in listed["runs"].as_array().expect("a list") {
        let id = run["run_id"].as_str().expect("an id");
        assert_eq!(place.run(&["show", id, "-o", "json"]).expect(0).json()["status"], run["status"]);
    }
    place.run(&["db", "check"]).expect(0);
    assert!(killed, "it was done before it could be killed");
    place.run(&exec).expect(0);
    assert_eq!(effects_once(&place.ledger())["charged"], 60);
}

/// While one process has the store, others ask it for everything; once it is killed they need not.
#[test]
fn b14_a_second_process_goes_through_the_first() {
    let place = Place::new();
    place.order("other.json", |order| order["orderId"] = json!("ORD-2"));
    place.write(
        "workflows/gate.yaml",
        "flowrun: 1\nname: gate\nsteps: { gate: { wait: { signal: open, timeout: 1h } } }\n",
    );
    let order = ["exec", "ecommerce-order", "--input", "examples/order.json", "--id", RUN];
    place.faults("hang.yaml", &["{ step: label, attempts: 1, do: hang }"]);
    let mut holder = place.start(&[&order[..], &["--faults", "hang.yaml", "--set", "shipping.timeout=1h"]].concat());
    holder.wait_for("label         started");
    let listed = place.run(&["list", "-o", "json"]).expect(0).json();
    assert_eq!(listed["runs"][0]["status"], "running");
    assert_eq!(place.run(&["show", RUN, "-o", "json"]).expect(0).json()["steps"]["label"]["status"], "running");
    assert!(place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines().len() > 10);
    assert_eq!(effects_once(&place.ledger())["charged"], 1);
    // Another run is carried out by the holder; the same id with another input is refused.
    let other = ["exec", "ecommerce-order", "--input", "other.json", "--id"];
    place.run(&[&other[..], &["order-2"]].concat()).expect(0);
    place.run(&[&other[..], &[RUN]].concat()).expect(9);
    place.run(&["exec", "gate", "--id", "gate", "--no-wait"]).expect(7);
    place.run(&["signal", "gate", "open"]).expect(0);
    place.run(&["resume", "gate"]).expect(0);
    place.run(&["exec", "gate", "--id", "gone", "--no-wait"]).expect(7);
    place.run(&["cancel", "gone"]).expect(6);
    let refused = place.run(&[&order[..], &["--faults", "hang.yaml"]].concat()).expect(9);
    assert!(refused.stderr.contains(&format!("process {}", holder.pid())), "{refused:#?}");
    // One that stays with the holder's run takes it over when the holder is killed.
    let mut guest = place.start(&[&order[..], &["--set", "shipping.timeout=1h", "-v"]].concat());
    guest.run_for(Duration::from_millis(300));
    holder.signal(Signal::KILL);
    assert!(holder.end().was_killed());
    guest.end().expect(0);
    let effects = effects_once(&place.ledger());
    assert_eq!((effects["charged"], effects["labelled"], effects["mailed"]), (2, 2, 2), "one for each order");
}

/// A holder that is stopped is named within about a second; what a killed one left behind is in nobody's way.
#[test]
fn b15_a_holder_that_is_stopped_or_gone() {
    let place = Place::new();
    place.faults("hang.yaml", &["{ step: label, do: hang }"]);
    let order = ["exec", "--input", "examples/order.json", "--id", RUN];
    let mut holder = place.start(&[&order[..], &["--faults", "hang.yaml"]].concat());
    holder.wait_for("label         started");
    holder.signal(Signal::STOP);
    for verb in ["list", "show", "resume", "cancel"] {
        let args = if verb == "list" { vec![verb] } else { vec![verb, RUN] };
        let mut asking = place.start(&args);
        // Twice what it may take, for a machine that is busy.
        asking.run_for(Duration::from_secs(2));
        let ran = asking.end().expect(9);
        assert!(ran.stderr.contains(&format!("process {}, which does not answer", holder.pid())), "{ran:#?}");
    }
    holder.signal(Signal::KILL);
    assert!(holder.end().was_killed());
    assert!(place.path(".flowrun/flowrun.sock").exists(), "the killed holder left its socket");
    place.run(&["list"]).expect(0);
    place.run(&["resume", RUN]).expect(0);
    assert!(!place.path(".flowrun/flowrun.sock").exists());
    assert_eq!(effects_once(&place.ledger())["labelled"], 1);
}
