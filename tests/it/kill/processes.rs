//! Several processes and one store (RELIABILITY A15, B14, B15, D01, D02, D04).

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::courses::{RUN, effects_once};
use crate::program::Place;

/// A15: a handler that takes the process with it is not given it for ever.
#[test]
fn a_run_that_kills_the_process_is_parked() {
    let place = Place::new();
    place.faults("deadly.yaml", &["{ step: label, do: kill_before }"]);
    let exec = ["exec", "--input", "examples/order.json", "--id", RUN, "--faults", "deadly.yaml"];
    assert!(place.run(&exec).was_killed());
    // Another run of the same store, which stands where it cannot go on.
    place.write(
        "workflows/gate.yaml",
        "flowrun: 1\nname: gate\nsteps:\n  gate: { wait: { signal: open, timeout: 1h } }\n  after: { needs: [gate], uses: core.pass, with: { ok: true } }\n",
    );
    place.run(&["exec", "gate", "--id", "other", "--no-wait"]).expect(7);
    for _ in 0..2 {
        assert!(place.run(&["resume", RUN, "--faults", "deadly.yaml"]).was_killed());
    }
    place.run(&["signal", "other", "open"]).expect(0);
    let ran = place.run(&["resume", "--faults", "deadly.yaml"]).expect(7);
    assert!(ran.stderr.contains("other") && ran.stderr.contains("completed"), "{ran:#?}");
    let shown = place.run(&["show", RUN]).expect(0).stdout;
    for text in [
        "parked",
        "died 3 times in a row",
        "label, whose attempt 3 was cut off",
        "flowrun retry order-1",
        "flowrun cancel order-1",
    ] {
        assert!(shown.contains(text), "{text:?} is not in\n{shown}");
    }
    let other = place.run(&["show", "other", "-o", "json"]).expect(0).json();
    assert_eq!(other["status"], "completed");
    place.run(&["retry", RUN]).expect(0);
    assert_eq!(effects_once(&place.ledger())["labelled"], 1);
}

/// B14, B15, D01, D02: while one process has the store, others ask it for everything; once it is killed they need not.
#[test]
fn a_second_process_goes_through_the_first() {
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

/// B14, B15: a holder that is stopped is named within about a second; what a killed one left behind is in nobody's way.
#[test]
fn a_holder_that_is_stopped_or_gone() {
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
