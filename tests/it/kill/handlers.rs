//! Handlers that panic, and handlers that take the process with them (RELIABILITY A14, A15).

use rustix::process::Signal;

use super::courses::{RUN, effects_once};
use crate::program::{Place, Ran};

const GATE: &str = "flowrun: 1
name: gate
steps:
  gate: { wait: { signal: open, timeout: 1h } }
  after: { needs: [gate], uses: core.pass, with: { ok: true } }
";

/// A panic is an outcome, whatever is thrown and wherever: the process lives, and the run and others go on.
#[test]
fn a14_a_panic_in_a_handler_is_an_unknown_outcome_and_the_process_lives() {
    let place = Place::new();
    place.write(
        "workflows/panics.yaml",
        "flowrun: 1
name: panics
steps:
  here: { uses: deadly.panic, on_error: continue }
  there: { uses: deadly.panic_blocking, on_error: continue }
  odd: { uses: deadly.panic_odd, on_error: continue, retry: { attempts: 2, delay: 10ms } }
  after: { needs: [here, there, odd], uses: core.pass, with: { ok: true } }
output: { ok: \"{{ steps.after.output.ok }}\" }
",
    );
    let ran = place.begin(place.deadly("true", &["exec", "panics", "--id", RUN, "-o", "json"])).end().expect(0);
    let report = ran.json();
    assert_eq!((&report["status"], &report["output"]["ok"]), (&"completed".into(), &true.into()));
    for (step, attempts, text) in [("here", 1, "charger"), ("there", 1, "printer"), ("odd", 2, "without a message")] {
        let step = &report["steps"][step];
        assert_eq!((&step["status"], &step["attempts"]), (&"unknown".into(), &attempts.into()), "{step}");
        assert_eq!((&step["error"]["code"], &step["error"]["kind"]), (&"panic".into(), &"unknown".into()));
        assert!(step["error"]["message"].as_str().is_some_and(|m| m.contains(text)), "{step}");
    }
    assert!(!ran.stderr.contains("has a bug"), "{ran:#?}");
}

/// Whatever way a handler brings the process down, after the third death its run is held back and the others go on.
#[test]
fn a15_a_handler_that_brings_the_process_down_is_held_back_at_the_third_death() {
    for (handler, limits, code, signal) in [
        ("deadly.abort", "true", None, Some(Signal::ABORT)),
        ("deadly.overflow", "true", None, Some(Signal::ABORT)),
        // What memory there is is used up: what stands for the system's killer is the limit of the process.
        ("deadly.hog", "ulimit -v 900000", None, Some(Signal::ABORT)),
        ("deadly.exit", "true", Some(0), None),
    ] {
        let place = Place::new();
        place.write("workflows/gate.yaml", GATE);
        place.write(
            "workflows/deadly.yaml",
            format!(
                "flowrun: 1\nname: deadly\nsteps:\n  before: {{ uses: core.pass, with: 1 }}\n  boom: {{ needs: [before], uses: {handler} }}\n"
            ),
        );
        let call = |args: &[&str]| place.begin(place.deadly(limits, args)).end();
        let died = |ran: Ran| {
            assert_eq!(ran.code(), code, "{handler}: {ran:#?}");
            assert_eq!(ran.signal(), signal.map(Signal::as_raw), "{handler}: {ran:#?}");
        };
        call(&["exec", "gate", "--id", "other", "--no-wait"]).expect(7);
        died(call(&["exec", "deadly", "--id", RUN]));
        for _ in 0..2 {
            // Taking up everything is no way around it.
            died(call(&["resume", "--no-wait"]));
        }
        call(&["signal", "other", "open"]).expect(0);
        let ran = call(&["resume"]).expect(7);
        assert!(ran.stderr.contains("other") && ran.stderr.contains("completed"), "{handler}: {ran:#?}");
        let shown = call(&["show", RUN, "-o", "json"]).expect(0).json();
        assert_eq!((&shown["status"], &shown["parked"]["code"]), (&"parked".into(), &"recovery".into()), "{handler}");
        assert_eq!(shown["steps"]["before"]["attempts"], 1, "{handler}: what was done is not done again");
        assert_eq!(shown["steps"]["boom"]["attempts"], 3, "{handler}");
        call(&["cancel", RUN]).expect(6);
    }
}

/// The same with SIGKILL, as the system's killer does it, and with another step of the shipped order.
#[test]
fn a15_a_run_that_is_killed_each_time_is_parked_and_can_be_retried() {
    let place = Place::new();
    place.faults("deadly.yaml", &["{ step: label, do: kill_before }"]);
    let exec = ["exec", "--input", "examples/order.json", "--id", RUN, "--faults", "deadly.yaml"];
    assert!(place.run(&exec).was_killed());
    // Another run of the same store, which stands where it cannot go on.
    place.write("workflows/gate.yaml", GATE);
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
