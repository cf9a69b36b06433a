//! The two searches say the same of workflows that are made by chance.
//!
//! `FLOWRUN_SKETCHES` is how many (from `FLOWRUN_SKETCH` on), `FLOWRUN_SKETCH_STATES` the size up to which the explorer
//! looks at all of a workflow.

use std::collections::{BTreeMap, BTreeSet};

use super::explore::{ITEMS, explore_lists};
use super::findings::{Found, Part, Person, Problem};
use super::random;
use super::sketch::Sketch;
use super::sweep::sweep;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What two searches must agree on.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    problems: BTreeMap<Problem, u32>,
    persons: BTreeSet<Person>,
    reached: BTreeSet<Part>,
}

impl From<Found> for Said {
    fn from(found: Found) -> Self {
        let problems = found.problems.into_iter().map(|(problem, course)| (problem, course.faults)).collect();
        Self { problems, persons: found.persons, reached: found.reached }
    }
}

/// Returns what the two say of a sketch, if the explorer can look at all of it with lists of so many items.
fn said(sketch: &Sketch, items: usize, states: u64) -> Option<(Said, Said)> {
    let explored = Said::from(explore_lists(sketch, items, states).ok()?);
    Some((explored, sweep(sketch, 1_000_000).expect("a small workflow has few states").into()))
}

/// Holds the two against each other on workflows by chance that pass, and returns how many were small enough.
fn compare(items: usize, states: u64, which: impl Fn(&Sketch) -> bool) -> u64 {
    let first = number("FLOWRUN_SKETCH", 0);
    let mut compared = 0;
    for seed in first..first + number("FLOWRUN_SKETCHES", 100) {
        let sketch = random::sketch(seed);
        if !which(&sketch) {
            continue;
        }
        let Some((explored, swept)) = said(&sketch, items, states) else { continue };
        compared += 1;
        if explored != swept {
            let differ =
                |sketch: &Sketch| said(sketch, items, states).is_some_and(|(explored, swept)| explored != swept);
            let small = random::shrink(&sketch, &differ);
            let (explored, swept) = said(&small, items, states).expect("it still differs");
            panic!("seed {seed}, {items} items:\n{small:#?}\nexplorer: {explored:#?}\nsweep: {swept:#?}");
        }
    }
    compared
}

#[test]
fn a_fourth_item_shows_nothing_new() {
    let listed = |sketch: &Sketch| sketch.steps.iter().any(|step| step.items.is_some());
    assert!(compare(4, 8_000, listed) > 0, "none was small enough");
}

#[test]
fn the_sweep_says_what_the_explorer_says() {
    let compared = compare(ITEMS, number("FLOWRUN_SKETCH_STATES", 3_000), |_| true);
    assert!(compared * 2 > number("FLOWRUN_SKETCHES", 100), "only {compared} were small enough");
}
