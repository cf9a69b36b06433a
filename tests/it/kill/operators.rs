//! People, their stock and their files, at the real program (RELIABILITY D13, D18, E01).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::courses::{RUN, UNDONE, effects_once};
use crate::program::Place;

fn events(place: &Place, kind: &str) -> Vec<Value> {
    let history = place.run(&["history", RUN, "-o", "jsonl"]).expect(0).lines();
    history.into_iter().filter(|event| event["type"] == kind).collect()
}

/// An undo that fails for good leaves the run incomplete: a person tries again, or repairs it and says so.
#[test]
fn d13_an_incomplete_compensation_is_tried_again_or_repaired_by_hand() {
    for by_hand in [false, true] {
        let place = UNDONE.place();
        let refund = "{ step: charge, call: undo, do: { error: payment.unavailable, kind: permanent } }";
        place.faults("owing.yaml", &[UNDONE.faults[0], refund]);
        let ran = place.run(&UNDONE.exec("owing.yaml")).expect(5);
        assert!(ran.stderr.contains("flowrun compensate order-1"), "{ran:#?}");
        let report = ran.json();
        assert_eq!((&report["compensation"], &report["owed"][0]["step"]), (&"incomplete".into(), &"charge".into()));
        assert_eq!(report["undone"].as_array().map(Vec::len), Some(2), "the other undos have run: {report}");
        let waiting = place.run(&["list", "--needs-attention", "-o", "json"]).expect(0).json();
        assert_eq!(waiting["runs"][0]["run_id"], RUN);
        if by_hand {
            place.run(&["compensate", RUN, "--mark-done", "charge"]).expect(2);
            let reason = "refunded by bank transfer 4711";
            let ran = place.run(&["compensate", RUN, "--mark-done", "charge", "--reason", reason, "-o", "json"]);
            assert_eq!(ran.expect(4).json()["compensation"], "complete");
            assert_eq!(events(&place, "marked_done")[0]["reason"], reason);
            place.run(&["compensate", RUN, "--mark-done", "charge", "--reason", "again"]).expect(9);
            assert!(!effects_once(&place.ledger()).contains_key("refunded"), "no money moved a second time");
        } else {
            assert_eq!(place.run(&["compensate", RUN, "-o", "json"]).expect(4).json()["compensation"], "complete");
            assert_eq!(events(&place, "compensate_requested").len(), 1);
            assert_eq!(effects_once(&place.ledger())["refunded"], 1);
        }
        place.run(&["compensate", RUN]).expect(9);
        assert_eq!(place.run(&["list", "--needs-attention", "-o", "json"]).expect(0).json()["runs"], json!([]));
    }
}

/// Two orders want what is left, at the same moment and from two processes: one gets it, and the other ends as if it had
/// never been.
#[test]
fn d18_two_orders_for_the_last_items_get_them_once() {
    let place = Place::new();
    for n in 1..=2 {
        place.order(&format!("{n}.json"), |order| {
            order["orderId"] = json!(format!("ORD-{n}"));
            // Of the 25 there are, each wants more than half.
            order["items"] = json!([{ "productId": "PROD-B2", "quantity": 13, "price": 1 }]);
        });
    }
    let exec = |file: &'static str, id: &'static str| {
        ["exec", "--input", file, "--id", id, "-o", "json", "--set", "inventory.allow_partial_orders=false"]
    };
    let running = [place.start(&exec("1.json", "one")), place.start(&exec("2.json", "two"))];
    let mut codes: Vec<Option<i32>> = running.into_iter().map(|one| one.end().code()).collect();
    codes.sort_unstable();
    assert!(codes[0] == Some(0) && matches!(codes[1], Some(1 | 4)), "one has won: {codes:?}");
    let mut by_order: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in place.ledger() {
        by_order.entry(entry["order_id"].as_str().expect("an order").to_owned()).or_default().push(entry);
    }
    let effects: Vec<BTreeMap<String, usize>> = by_order.values().map(|entries| effects_once(entries)).collect();
    assert_eq!(effects.iter().filter(|e| e.contains_key("charged")).count(), 1, "{effects:?}");
    assert_eq!(
        effects.iter().filter(|e| e.contains_key("taken")).count(),
        1,
        "the stock is never negative: {effects:?}"
    );
    for loser in effects.iter().filter(|e| !e.contains_key("charged")) {
        assert_eq!(loser.get("reserved"), loser.get("released"), "{effects:?}");
    }
    // What is left is still to be had.
    place.order("rest.json", |order| {
        order["orderId"] = json!("ORD-3");
        order["items"] = json!([{ "productId": "PROD-B2", "quantity": 12, "price": 1 }]);
    });
    place.run(&exec("rest.json", "three")).expect(0);
}

/// The file is edited, then broken, then gone, while a run waits: it goes by what it was started with. A new run does not.
#[test]
fn e01_a_run_goes_by_the_file_as_it_was() {
    let place = Place::new();
    let text = |step: &str, word: &str| {
        format!(
            "flowrun: 1\nname: notes\nsteps:\n  gate: {{ wait: {{ signal: open }} }}\n  {step}: {{ needs: [gate], uses: core.pass, with: {word} }}\noutput: {{ word: \"{{{{ steps.{step}.output }}}}\" }}\n"
        )
    };
    let file = "workflows/notes.yaml";
    for (n, edited) in [text("later", "new"), "flowrun: 1\nname: [".to_owned(), String::new()].into_iter().enumerate() {
        let id = format!("run-{n}");
        place.write(file, text("after", "old"));
        place.run(&["exec", "notes", "--id", &id, "--no-wait"]).expect(7);
        if edited.is_empty() {
            std::fs::remove_file(place.path(file)).expect("it is there");
        } else {
            place.write(file, &edited);
        }
        place.run(&["signal", &id, "open"]).expect(0);
        let report = place.run(&["resume", &id, "-o", "json"]).expect(0).json();
        assert_eq!(
            (&report["output"]["word"], &report["steps"]["after"]["status"]),
            (&"old".into(), &"succeeded".into())
        );
    }
    // The same id with the edited file is another order.
    place.write(file, text("after", "old"));
    place.run(&["exec", "notes", "--id", "again", "--no-wait"]).expect(7);
    place.write(file, text("later", "new"));
    place.run(&["exec", "notes", "--id", "again", "--no-wait"]).expect(9);
    place.run(&["exec", "notes", "--id", "other", "--no-wait"]).expect(7);
    place.run(&["signal", "other", "open"]).expect(0);
    assert_eq!(place.run(&["resume", "other", "-o", "json"]).expect(0).json()["output"]["word"], "new");
}
