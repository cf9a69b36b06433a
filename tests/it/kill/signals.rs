//! Signals to the program: asked to end, told twice, stopped and let go on (RELIABILITY A12, A13).

use rustix::process::Signal;

use super::courses::{RUN, effects_once};
use crate::program::Place;

/// What ends within the grace period is recorded, and nothing new is begun: the next process goes on behind it.
#[test]
fn a12_what_ends_within_the_grace_period_is_recorded_and_nothing_new_begins() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let place = Place::new();
        place.faults("slow.yaml", &["{ step: charge, do: { delay: 1500ms } }"]);
        let args = ["exec", "--input", "examples/order.json", "--id", RUN, "--grace", "10m", "--faults", "slow.yaml"];
        let mut running = place.start(&args);
        running.wait_for("charge        started");
        running.signal(signal);
        running.end().expect(code);
        let history = place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines();
        let (last, before) = (&history[history.len() - 1], &history[history.len() - 2]);
        assert_eq!((&before["type"], &before["step"]), (&"step_succeeded".into(), &"charge".into()), "{history:#?}");
        assert_eq!(last["type"], "run_interrupted");
        let report = place.run(&["resume", RUN, "-o", "json"]).expect(0).json();
        assert_eq!(report["steps"]["charge"]["attempts"], 1, "it is not called again");
        assert_eq!(effects_once(&place.ledger())["charged"], 1);
    }
}

/// The process stands still for longer than the wait, and than the timeout of an attempt: both are over by their recorded
/// times when it goes on, and nothing is done twice.
#[test]
fn a13_stopped_and_let_go_on_it_judges_by_recorded_times() {
    let place = Place::new();
    place.write(
        "workflows/wait.yaml",
        "flowrun: 1
name: wait
steps:
  pause: { wait: { for: 500ms } }
  deaf: { uses: core.pass, with: 1, timeout: 500ms, on_error: continue }
  last: { needs: [pause, deaf], uses: core.pass, with: { ok: true } }
",
    );
    place.faults("hang.yaml", &["{ step: deaf, do: hang }"]);
    let exec = ["exec", "wait", "--id", RUN, "-o", "json", "--faults", "hang.yaml"];
    let mut running = place.start(&exec);
    running.wait_for("pause");
    running.wait_for("deaf");
    running.signal(Signal::STOP);
    running.run_for(std::time::Duration::from_millis(700));
    running.signal(Signal::CONT);
    let report = running.end().expect(0).json();
    assert_eq!(
        (&report["status"], &report["steps"]["deaf"]["error"]["code"]),
        (&"completed".into(), &"timeout".into())
    );
    let attempts: Vec<_> =
        report["steps"].as_object().expect("steps").values().map(|s| s["attempts"].clone()).collect();
    assert_eq!(attempts, [0, 1, 1]);
    let history = place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines();
    let at = |kind: &str, step: &str| {
        let event = history.iter().find(|e| e["type"] == kind && e["step"] == step);
        let event = event.unwrap_or_else(|| panic!("no {kind} of {step}: {history:#?}"));
        flowrun::time::Timestamp::parse(event["at"].as_str().expect("a time")).expect("a time")
    };
    let due = at("wait_started", "pause").after(std::time::Duration::from_millis(500));
    assert!(at("step_succeeded", "pause") >= due, "no timer fires early");
}

/// Again and again, without that counting as a death.
#[test]
fn a12_interrupted_it_saves_its_state() {
    let place = Place::new();
    place.faults("hang.yaml", &["{ step: charge, do: hang }"]);
    let calm = Place::new().run(&["exec", "--input", "examples/order.json", "-o", "json"]).expect(0).json();
    for (n, (signal, code)) in
        [(Signal::TERM, 143), (Signal::INT, 130), (Signal::TERM, 143), (Signal::INT, 130), (Signal::TERM, 143)]
            .into_iter()
            .enumerate()
    {
        let exec = ["exec", "--input", "examples/order.json", "--id", RUN, "--grace", "50ms", "--faults", "hang.yaml"];
        let resume = ["resume", RUN, "--grace", "50ms", "--faults", "hang.yaml"];
        let mut running = place.start(if n == 0 { &exec } else { &resume });
        running.wait_for(if n == 0 { "charge        started" } else { "charge        attempt" });
        running.signal(signal);
        let ran = running.end().expect(code);
        assert!(ran.stderr.contains("next     flowrun resume order-1"), "{ran:#?}");
        assert!(!ran.stderr.contains("after a crash"), "{ran:#?}");
    }
    let ran = place.run(&["resume", RUN, "-o", "json"]).expect(0);
    assert_eq!(ran.json()["status"], calm["status"], "{ran:#?}");
    assert_eq!(effects_once(&place.ledger())["charged"], 1);
}

/// The second signal does not wait for anybody.
#[test]
fn a12_interrupted_twice_it_stops_at_once() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = Place::new();
        place.faults("hang.yaml", &["{ step: charge, do: hang }"]);
        let args = ["exec", "--input", "examples/order.json", "--id", RUN, "--grace", "10m", "--faults", "hang.yaml"];
        let mut running = place.start(&args);
        running.wait_for("charge        started");
        running.signal(signal);
        running.wait_for("stopping");
        running.signal(signal);
        let code = if signal == Signal::INT { 130 } else { 143 };
        running.end().expect(code);
        place.run(&["resume", RUN]).expect(0);
        assert_eq!(effects_once(&place.ledger())["charged"], 1);
    }
}
