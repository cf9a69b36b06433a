//! Workers and nodes are killed at random while orders run: nothing is lost, nothing happens twice (RELIABILITY A06).
//!
//! `FLOWRUN_CHAOS_ROUNDS`, `FLOWRUN_CHAOS_ORDERS` (at most 140: there is no more in stock), `FLOWRUN_CHAOS_KILLS` and
//! `FLOWRUN_CHAOS_SEED` say how many and which.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::batch::{self, Dice, Effects, number_of};
use crate::lab::Lab;

#[test]
fn a06_on_one_node_nothing_is_lost_or_doubled() {
    chaos(1);
}

#[test]
fn a06_on_three_nodes_nothing_is_lost_or_doubled() {
    chaos(3);
}

const WORKERS: usize = 2;

fn chaos(nodes: usize) {
    let seed = number_of("FLOWRUN_CHAOS_SEED", 1);
    for round in 0..number_of("FLOWRUN_CHAOS_ROUNDS", 1) {
        one_round(nodes, seed + round);
    }
}

fn one_round(nodes: usize, seed: u64) {
    let (orders, kills) = (number_of("FLOWRUN_CHAOS_ORDERS", 40), number_of("FLOWRUN_CHAOS_KILLS", 6));
    // Calls take a while, so that many are under way when somebody dies.
    let slow = ["{ step: charge, do: { delay: 80ms } }", "{ step: label, do: { delay: 120ms } }"];
    let Some(mut lab) = Lab::with(nodes, WORKERS, &slow) else { return };
    println!("{nodes} nodes, {orders} orders, {kills} kills, FLOWRUN_CHAOS_SEED={seed}");
    let expected = batch::orders(&lab.place, orders, |n| if n % 3 == 0 { "PROD-A1" } else { "PROD-D4" });
    let exec = ["exec", "--input", "orders.jsonl", "--id", "{{ input.orderId }}", "--concurrency", "24"];
    let mut running = lab.place.start(&exec);
    let mut dice = Dice(seed);
    let mut killed = BTreeMap::<&str, u32>::new();
    for _ in 0..kills {
        running.run_for(Duration::from_millis(400 + dice.below(800)));
        let worker = usize::try_from(dice.below(2)).expect("few");
        if dice.below(3) == 0 {
            let node = usize::try_from(dice.below(nodes as u64)).expect("few");
            lab.servers.kill(node);
            running.run_for(Duration::from_millis(dice.below(600)));
            lab.servers.restart(node);
            *killed.entry("nodes").or_default() += 1;
        } else {
            lab.kill_worker(worker);
            running.run_for(Duration::from_millis(dice.below(600)));
            lab.start_worker(worker);
            *killed.entry("workers").or_default() += 1;
        }
    }
    let first = running.end();
    // Whoever asked may have given up while nobody answered; the orders go on, and the same command finds them.
    let mut last = lab.place.run(&exec);
    let parked = lab.place.run(&["list", "--status", "parked", "-n", "1000", "-o", "jsonl"]).expect(0).lines();
    for run in &parked {
        // Three workers died over the run, which did nothing but be unlucky.
        lab.place.run(&["retry", run["run_id"].as_str().expect("an id")]);
    }
    if !parked.is_empty() {
        last = lab.place.run(&exec);
    }
    assert_eq!(last.code(), Some(4), "{first:#?}\n{last:#?}");
    check(&lab, &expected, orders);
    println!("killed {killed:?}; parked and retried: {}", parked.len());
}

/// Every order has ended, each effect has happened once for its key, and each step has one outcome.
fn check(lab: &Lab, expected: &Effects, orders: u64) {
    let listed = lab.place.run(&["list", "-n", "100000", "-o", "json"]).expect(0).json();
    let runs = listed["runs"].as_array().expect("a list");
    assert_eq!(runs.len() as u64, orders);
    assert!(runs.iter().all(|run| matches!(run["status"].as_str(), Some("completed" | "failed"))), "{runs:#?}");
    assert_eq!(batch::effects_by_order(lab.place.ledger()), *expected);
    for n in 0..orders {
        let history = lab.place.run(&["history", &format!("ORD-{n}"), "-o", "jsonl"]).expect(0).lines();
        let of = |kind: &str| history.iter().filter(|e| e["type"] == kind).map(|e| &e["step"]).collect::<Vec<&Value>>();
        let mut once = of("step_succeeded");
        once.sort_by_key(|step| step.to_string());
        once.dedup();
        assert_eq!(of("step_succeeded").len(), once.len(), "a step has succeeded twice");
        assert_eq!(of("run_finished").len(), 1);
    }
}
