//! The two searches say the same of workflows that are made by chance.
//!
//! `FLOWRUN_SKETCHES` is how many are drawn (from `FLOWRUN_SKETCH` on; otherwise until enough were compared),
//! `FLOWRUN_SKETCH_STATES` the size up to which the explorer looks at all of a workflow.

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

/// How many workflows are looked at.
#[derive(Clone, Copy, Debug)]
enum Many {
    /// So many are drawn, whatever number of them is small enough.
    Drawn(u64),
    /// So many that are small enough; at most ten times as many are drawn.
    Compared(u64),
}

/// Holds the two against each other on workflows by chance that pass, and returns how many were small enough.
fn compare(many: Many, items: usize, states: u64, which: impl Fn(&Sketch) -> bool) -> u64 {
    let first = number("FLOWRUN_SKETCH", 0);
    let (drawn, enough) = match many {
        Many::Drawn(drawn) => (drawn, drawn),
        Many::Compared(compared) => (10 * compared, compared),
    };
    let mut compared = 0;
    for seed in first..first + drawn {
        if compared == enough {
            break;
        }
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

/// Returns how many workflows somebody wants to have drawn.
fn wanted() -> Option<u64> {
    std::env::var_os("FLOWRUN_SKETCHES").map(|_| number("FLOWRUN_SKETCHES", 0))
}

#[test]
fn a_fourth_item_shows_nothing_new() {
    let listed = |sketch: &Sketch| sketch.steps.iter().any(|step| step.items.is_some());
    let compared = compare(Many::Drawn(wanted().unwrap_or(100)), 4, 8_000, listed);
    println!("{compared} with lists were small enough");
    assert!(compared > 0, "none was small enough");
}

#[test]
fn the_sweep_says_what_the_explorer_says() {
    let many = wanted().map_or(Many::Compared(60), Many::Drawn);
    let compared = compare(many, ITEMS, number("FLOWRUN_SKETCH_STATES", 3_000), |_| true);
    println!("{compared} were small enough");
    match many {
        Many::Drawn(drawn) => assert!(compared * 2 > drawn, "only {compared} were small enough"),
        Many::Compared(enough) => assert_eq!(compared, enough, "too few were small enough"),
    }
}
