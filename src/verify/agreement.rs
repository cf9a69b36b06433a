//! The two searches say the same of workflows that are made by chance.
//!
//! `FLOWRUN_SKETCHES` is how many (from `FLOWRUN_SKETCH` on), `FLOWRUN_SKETCH_STATES` the size up to which the explorer
//! looks at all of a workflow.

use std::collections::{BTreeMap, BTreeSet};

use super::explore::explore;
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

/// Returns what the two say of a sketch, if the explorer can look at all of it.
fn said(sketch: &Sketch, states: u64) -> Option<(Said, Said)> {
    let explored = Said::from(explore(sketch, states).ok()?);
    Some((explored, sweep(sketch, 1_000_000).expect("a small workflow has few states").into()))
}

#[test]
fn the_sweep_says_what_the_explorer_says() {
    let states = number("FLOWRUN_SKETCH_STATES", 3_000);
    let first = number("FLOWRUN_SKETCH", 0);
    let mut compared = 0;
    for seed in first..first + number("FLOWRUN_SKETCHES", 100) {
        let sketch = random::sketch(seed);
        let Some((explored, swept)) = said(&sketch, states) else { continue };
        compared += 1;
        if explored != swept {
            let differ = |sketch: &Sketch| said(sketch, states).is_some_and(|(explored, swept)| explored != swept);
            let small = random::shrink(&sketch, &differ);
            let (explored, swept) = said(&small, states).expect("it still differs");
            panic!("seed {seed}:\n{small:#?}\nexplorer: {explored:#?}\nsweep: {swept:#?}");
        }
    }
    assert!(compared * 2 > number("FLOWRUN_SKETCHES", 100), "only {compared} were small enough");
}
