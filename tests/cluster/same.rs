//! The same file, the same commands, the same answers, whatever makes runs durable.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::lab::Lab;
use crate::program::Place;

const ORDER: [&str; 5] = ["exec", "--input", "examples/order.json", "--id", "order-1"];

/// Takes out of an answer what two runs of the same order cannot share: times, keys, and numbers made of keys.
fn comparable(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let times = ["at", "until", "deadline"];
                    let made_up = ["payment_id", "hold_id", "tracking", "message_id", "audit_id", "definition"];
                    if name.ends_with("_at") || times.contains(&name.as_str()) || made_up.contains(&name.as_str()) {
                        *value = json!("…");
                    } else {
                        walk(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    walk(&mut value);
    value
}

/// Returns what every command that concerns an order says, with its exit code.
fn said(place: &Place) -> BTreeMap<&'static str, (Option<i32>, Value)> {
    let answer = |args: &[&str]| {
        let ran = place.run(args);
        let text = ran.stdout.trim();
        let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text.lines().collect::<Vec<_>>()));
        (ran.code(), comparable(value))
    };
    let json = ["-o", "json"];
    let order = [&ORDER[..], &json].concat();
    let mut other = order.clone();
    other.extend(["--set", "payment.attempts=2"]);
    BTreeMap::from([
        ("exec", answer(&order)),
        ("exec again", answer(&order)),
        ("exec of another order", answer(&other)),
        ("list", answer(&["list", "-o", "json"])),
        ("show", answer(&["show", "order-1", "-o", "json"])),
        ("show by a prefix", answer(&["show", "ord", "-o", "json"])),
        ("show the last", answer(&["show", "@last", "-o", "json"])),
        ("show nobody", answer(&["show", "nobody", "-o", "json"])),
        ("history", answer(&["history", "order-1", "-o", "json"])),
        ("graph", answer(&["graph", "--run", "order-1"])),
        ("cancel", answer(&["cancel", "order-1", "-o", "json"])),
        ("retry", answer(&["retry", "order-1", "-o", "json"])),
        ("compensate", answer(&["compensate", "order-1", "-o", "json"])),
        ("resume", answer(&["resume", "-o", "json"])),
        ("list of none", answer(&["list", "--status", "failed", "-o", "json"])),
    ])
}

#[test]
fn every_command_says_what_it_says_of_a_store() {
    let Some(lab) = Lab::start(1, 1) else { return };
    let embedded = Place::new();
    let (here, mut there) = (said(&embedded), said(&lab.place));
    for (what, here) in &here {
        let there = there.remove(what).expect("the same commands");
        assert_eq!(*here, there, "{what}");
    }
}

#[test]
fn orders_that_fail_are_undone_alike() {
    let faults = [
        "{ step: charge, member: primary, do: { error: payment.declined, kind: permanent } }",
        "{ step: finalize, do: { error: core.failed, kind: permanent } }",
    ];
    let Some(lab) = Lab::with(1, 1, &faults) else { return };
    let there = lab.place.run(&[&ORDER[..], &["-o", "json"]].concat()).expect(4).json();
    let embedded = Place::new();
    embedded.faults("faults.yaml", &faults);
    let here = embedded.run(&[&ORDER[..], &["-o", "json", "--faults", "faults.yaml"]].concat()).expect(4).json();
    assert_eq!(comparable(here), comparable(there));
    let effects = |place: &Place| place.ledger().iter().map(|entry| entry["effect"].to_string()).collect::<Vec<_>>();
    assert_eq!(effects(&embedded), effects(&lab.place));
}
