//! Many orders at once, killed at random times, over and over (RELIABILITY A06, K05).

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::courses::number_of;
use crate::batch::{Dice, effects_by_order, orders};
use crate::program::Place;

/// What the rounds came to.
#[derive(Debug, Default)]
struct Tally {
    /// Processes that were killed.
    deaths: u32,
    /// Runs that three deaths in a row had parked.
    parked: usize,
    /// Times at which a run was taken up after a death.
    taken_up: usize,
    /// Attempts that were cut off.
    cut_off: usize,
    /// The most memory that a process ever had, in KiB.
    memory_kib: u64,
    /// The largest store, in bytes.
    store_bytes: u64,
}

/// FLOWRUN_KILL_ROUNDS and FLOWRUN_KILL_SEED say how often and which.
#[test]
fn a06_killed_at_random_times_every_effect_happens_once() {
    let rounds = number_of("FLOWRUN_KILL_ROUNDS", 4);
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let seed = number_of("FLOWRUN_KILL_SEED", random);
    println!("FLOWRUN_KILL_ROUNDS={rounds} FLOWRUN_KILL_SEED={seed}");
    let mut tally = Tally::default();
    for round in 0..rounds {
        random_round(&mut Dice(seed.wrapping_add(round)), &format!("seed {seed}, round {round}"), &mut tally);
        println!("after round {round}: {tally:?}");
    }
    assert!(tally.deaths > 0 && tally.cut_off > 0, "nothing was cut off in {rounds} rounds: {tally:?}");
    // Twenty orders of twenty events each, however often they were taken up: about 120 KiB of rows.
    assert!(tally.store_bytes < 8 << 20, "the store grows with every death: {tally:?}");
    assert!(tally.memory_kib < 256 << 10, "memory grows with every death: {tally:?}");
}

fn random_round(dice: &mut Dice, which: &str, tally: &mut Tally) {
    const ORDERS: u64 = 20;
    let place = Place::new();
    let expected = orders(&place, ORDERS, |_| "PROD-D4");
    let exec = ["exec", "--input", "orders.jsonl", "--id", "{{ input.orderId }}", "--concurrency", "8"];
    let mut last = None;
    for attempt in 0..60 {
        // The later, the longer: the point is to be killed in the middle, not never to end.
        let most = 90 + 30 * attempt;
        let whole = dice.below(2) == 0;
        let mut running = place.start(if whole { &exec } else { &["resume"] });
        running.run_for(Duration::from_millis(dice.below(most)));
        tally.memory_kib = tally.memory_kib.max(running.memory_kib().unwrap_or(0));
        running.signal(Signal::KILL);
        let ran = running.end();
        if ran.was_killed() {
            tally.deaths += 1;
            continue;
        }
        // Three deaths in a row park a run that did nothing but be unlucky.
        assert!(matches!(ran.code(), Some(0 | 4 | 7)), "{which}: {ran:#?}");
        if whole {
            last = Some(ran);
            break;
        }
    }
    let last = last.unwrap_or_else(|| place.run(&exec));
    let parked = place.run(&["list", "--status", "parked", "-o", "json"]).expect(0).json();
    let parked: Vec<&str> =
        parked["runs"].as_array().expect("a list").iter().filter_map(|r| r["run_id"].as_str()).collect();
    for run in &parked {
        place.run(&["retry", run]);
    }
    tally.parked += parked.len();
    let last = if parked.is_empty() { last } else { place.run(&exec) };
    assert_eq!(last.code(), Some(4), "{which}: {last:#?}");
    let listed = place.run(&["list", "-n", "1000", "-o", "json"]).expect(0).json();
    let statuses: BTreeMap<&str, &str> = listed["runs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|run| (run["run_id"].as_str().expect("an id"), run["status"].as_str().expect("a status")))
        .collect();
    assert_eq!(statuses.len(), usize::try_from(ORDERS).expect("few"), "{which}: {statuses:?}");
    let found = effects_by_order(place.ledger());
    assert_eq!(found, expected, "{which}");

    // Every step has one outcome, however often it was begun.
    for n in [0, 4, 7, 14] {
        let history = place.run(&["history", &format!("ORD-{n}"), "-o", "jsonl"]).expect(0).lines();
        let count = |kind: &str| history.iter().filter(|e| e["type"] == kind).count();
        tally.taken_up += count("run_resumed");
        tally.cut_off += count("attempt_cut_off");
        let succeeded: Vec<&Value> =
            history.iter().filter(|e| e["type"] == "step_succeeded").map(|e| &e["step"]).collect();
        let mut once = succeeded.clone();
        once.dedup();
        assert_eq!(succeeded, once, "{which}: a step has succeeded twice");
        assert_eq!(count("run_finished"), 1, "{which}");
    }
    let store = std::fs::metadata(place.path(".flowrun/flowrun.redb")).expect("there is a store").len();
    tally.store_bytes = tally.store_bytes.max(store);
}
