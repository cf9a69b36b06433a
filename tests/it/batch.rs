//! Many orders at once and what they are to leave in the ledger, and the chance that kills whoever carries them out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::program::Place;

#[path = "../../src/dice.rs"]
#[expect(dead_code, reason = "other tests want more of it")]
mod dice;

pub(crate) use dice::Dice;

/// How often each effect has happened, by order.
pub type Effects = BTreeMap<String, BTreeMap<String, usize>>;

/// Writes so many orders to `orders.jsonl`, one piece of a product each, and returns what they are to come to. Every fifth
/// is declined twice and undone.
pub fn orders(place: &Place, count: u64, product: impl Fn(u64) -> &'static str) -> Effects {
    let (mut lines, mut expected) = (String::new(), Effects::new());
    for n in 0..count {
        let id = format!("ORD-{n}");
        let good = n % 5 != 4;
        place.order("one.json", |order| {
            order["orderId"] = json!(id);
            order["items"] = json!([{ "productId": product(n), "quantity": 1, "price": 10.5 }]);
            if !good {
                order["paymentMethod"]["token"] = json!("tok_declined");
                order["alternativePayment"]["token"] = json!("tok_declined");
            }
        });
        lines.push_str(&std::fs::read_to_string(place.path("one.json")).expect("it was just written"));
        lines.push('\n');
        let effects: &[&str] = match good {
            true => &["audited", "charged", "labelled", "mailed", "reserved", "taken"],
            false => &["audited", "released", "reserved"],
        };
        expected.insert(id, effects.iter().map(|e| ((*e).to_owned(), 1)).collect());
    }
    place.write("orders.jsonl", lines);
    expected
}

/// Counts the effects of each order; no key may have the same effect twice, in whatever order.
#[track_caller]
pub fn effects_by_order(ledger: Vec<Value>) -> Effects {
    effects_once(&ledger);
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in ledger {
        found.entry(entry["order_id"].as_str().expect("an order").to_owned()).or_default().push(entry);
    }
    found.into_iter().map(|(order, entries)| (order, effects_once(&entries))).collect()
}

/// Counts the effects of each kind; no key may have the same effect twice. A note that a late call is to be refused is
/// no effect: it is made when an attempt was cut off before it acted.
#[track_caller]
pub fn effects_once(entries: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut keys = BTreeSet::new();
    for entry in entries {
        assert!(keys.insert((entry["effect"].to_string(), entry["key"].to_string())), "twice: {entry}");
        if entry["effect"] == "blocked" {
            continue;
        }
        *counts.entry(entry["effect"].as_str().expect("an effect").to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Reads a number from the environment.
pub fn number_of(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}
