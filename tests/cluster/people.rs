//! What people do to runs on a cluster: signal, cancel, retry, compensate, repair by hand.

use serde_json::json;

use crate::lab::Lab;

const DESK: &str = "flowrun: 1
name: desk
steps:
  charge: { uses: core.pass, with: 1, compensate: { uses: core.pass, with: 2 } }
  gate: { needs: [charge], wait: { signal: open, timeout: 1h } }
  after: { needs: [gate], uses: core.pass, with: { ok: true }, on_error: park }
";

const OWES: &str = "flowrun: 1
name: owes
steps:
  charge: { uses: core.pass, with: 1, compensate: { uses: core.pass, with: 2 } }
  bad: { needs: [charge], uses: core.fail, with: { code: core.failed, kind: permanent, message: no } }
";

fn lab(faults: &[&str]) -> Option<Lab> {
    let mut lab = Lab::without_workers(1)?;
    lab.place.write("workflows/desk.yaml", DESK);
    lab.place.write("workflows/owes.yaml", OWES);
    lab.faulty(faults);
    lab.employ(1);
    Some(lab)
}

#[test]
fn a_signal_lets_a_run_go_on_and_the_same_one_twice_changes_nothing() {
    let Some(lab) = lab(&["{ step: after, attempts: 1, do: { error: core.failed, kind: permanent } }"]) else { return };
    let place = &lab.place;
    let waiting = place.run(&["exec", "desk", "--id", "d", "--no-wait", "-o", "json"]).expect(7).json();
    assert_eq!(waiting["waiting_for"][0]["signal"], "open");
    place.run(&["signal", "d", "unheard"]).expect(8);
    for _ in 0..2 {
        place.run(&["signal", "d", "open", "--id", "s1"]).expect(0);
    }
    let parked = place.run(&["resume", "d", "-o", "json"]).expect(7).json();
    assert_eq!((&parked["status"], &parked["parked"]["code"]), (&json!("parked"), &json!("step")));
    place.run(&["list", "--needs-attention", "-o", "jsonl"]).expect(0).lines().pop().expect("it needs a person");
    place.run(&["retry", "d", "--from", "nowhere"]).expect(8);
    // It fails again: a step that starts afresh numbers its attempts anew.
    place.run(&["retry", "d"]).expect(7);
    place.run(&["cancel", "d"]).expect(6);
    place.run(&["retry", "d"]).expect(9);
    let history = place.run(&["history", "d", "-o", "jsonl"]).expect(0).lines();
    let count = |kind: &str| history.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((count("signal_received"), count("retry_requested"), count("run_finished")), (1, 1, 1));
}

#[test]
fn a_cancelled_run_is_undone_and_what_could_not_be_is_owed_until_a_person_repairs_it() {
    let fails = ["{ step: charge, call: undo, attempts: 1-1000, do: { error: core.failed, kind: permanent } }"];
    let Some(lab) = lab(&fails) else { return };
    let place = &lab.place;
    place.run(&["exec", "desk", "--id", "c", "--no-wait"]).expect(7);
    let cancelled = place.run(&["cancel", "c", "--reason", "no longer wanted", "-o", "json"]).expect(5).json();
    assert_eq!((&cancelled["status"], &cancelled["owed"][0]["step"]), (&json!("cancelled"), &json!("charge")));
    place.run(&["cancel", "c"]).expect(9);
    place.run(&["exec", "owes", "--id", "o"]).expect(5);
    place.run(&["compensate", "o"]).expect(5);
    let repaired = ["compensate", "o", "--mark-done", "charge", "--reason", "by hand", "-o", "json"];
    assert_eq!(place.run(&repaired).expect(4).json()["compensation"], "complete");
    place.run(&["compensate", "o"]).expect(9);
}

/// A breaker belongs to the service: what one run finds out is known to all.
#[test]
fn a_breaker_is_shared_by_all_runs() {
    let Some(mut lab) = Lab::without_workers(1) else { return };
    lab.place.write(
        "workflows/guarded.yaml",
        "flowrun: 1
name: guarded
services: { shop: { breaker: { failures: 2, within: 1m, cooldown: 1h } } }
steps:
  call: { uses: core.pass, service: shop, with: 1 }
",
    );
    lab.faulty(&["{ step: call, attempts: 1, do: { error: core.failed, kind: retryable } }"]);
    lab.employ(1);
    let code = |id: &str| {
        let report = lab.place.run(&["exec", "guarded", "--id", id, "-o", "json"]).expect(1).json();
        report["error"]["code"].clone()
    };
    assert_eq!([code("a"), code("b"), code("c")], ["core.failed", "core.failed", "breaker_open"]);
}
