//! Signals to the program: asked to end, told twice, stopped and let go on (RELIABILITY A12, A13).

use rustix::process::Signal;

use super::courses::{RUN, effects_once};
use crate::program::Place;

/// A12: once, in order; again and again without counting; at once when asked twice.
#[test]
fn interrupted_it_saves_its_state() {
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

/// A12: the second signal does not wait for anybody.
#[test]
fn interrupted_twice_it_stops_at_once() {
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
