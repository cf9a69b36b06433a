//! The explorer: every interleaving of a small workflow, one small step after the other. It is the ground truth that the
//! faster search is held against.
//!
//! It owns the search, cheapest runs first, and nothing else: what can happen next is for `rules`, one function each,
//! written to be read beside SPEC section 6 and with no short cut. Its states grow with the product of all that can be
//! under way at once, so it is for workflows of a few steps.
//!
//! ```text
//! mod ── rules ─┬─ forward    steps, waits, items
//!               ├─ attempts   calls, deaths, confirm, fallbacks
//!               ├─ backward   cancel, drain, undo
//!               ├─ reads      conditions and what is missing
//!               └─ judge      the end
//! ```

use std::collections::{BTreeMap, VecDeque};

use indexmap::IndexSet;

mod after;
mod attempts;
mod backward;
mod course;
mod forward;
mod judge;
mod reads;
mod rules;
mod state;
#[cfg(test)]
mod tests;
mod world;

use self::after::{After, Price, Told};
use self::rules::Rules;
use self::state::State;
use super::findings::{Found, LimitReached, Person, Problem};
use super::sketch::Sketch;

/// How many items a list has at most, unless somebody wants more: with two places, two that run and one that is left over.
pub const ITEMS: usize = 3;

/// Looks at every run that a workflow can have, with lists of at most [`ITEMS`].
///
/// # Errors
/// Says that there are more states than `limit`. Nothing is known then.
pub fn explore(sketch: &Sketch, limit: u64) -> Result<Found, LimitReached> {
    explore_lists(sketch, ITEMS, limit)
}

/// Looks at every run that a workflow can have, with lists of at most so many items.
///
/// # Errors
/// Says that there are more states than `limit`. Nothing is known then.
pub fn explore_lists(sketch: &Sketch, items: usize, limit: u64) -> Result<Found, LimitReached> {
    let mut search = Search::new(sketch, items);
    search.run(limit)?;
    Ok(search.found())
}

/// A search: each state by the cheapest way to it.
struct Search<'s> {
    rules: Rules<'s>,
    states: IndexSet<State>,
    /// For each state the cheapest way to it.
    ways: Vec<Way>,
    /// The states to be looked at, by their price; one may stand here again at a lower price.
    queue: BTreeMap<Price, VecDeque<usize>>,
    /// For each problem the cheapest run that shows it.
    shown: BTreeMap<Problem, Shown>,
    found: Found,
}

/// The last move of the cheapest way to a state.
struct Way {
    price: Price,
    from: Option<usize>,
    told: Vec<Told>,
    looked_at: bool,
}

/// A run that shows a problem: a state, and the move from it in which the problem shows, if it does not show in the state.
struct Shown {
    price: Price,
    from: usize,
    by: Option<(Vec<Told>, State)>,
}

impl<'s> Search<'s> {
    fn new(sketch: &'s Sketch, items: usize) -> Self {
        let first = Way { price: Price::default(), from: None, told: Vec::new(), looked_at: false };
        Self {
            rules: Rules::new(sketch, items),
            states: IndexSet::from([State::new(sketch)]),
            ways: vec![first],
            queue: BTreeMap::from([(Price::default(), VecDeque::from([0]))]),
            shown: BTreeMap::new(),
            found: Found::default(),
        }
    }

    fn run(&mut self, limit: u64) -> Result<(), LimitReached> {
        while let Some(mut entry) = self.queue.first_entry() {
            let Some(ix) = entry.get_mut().pop_front() else {
                entry.remove();
                continue;
            };
            if !std::mem::replace(&mut self.ways[ix].looked_at, true) {
                self.look_at(ix);
            }
            if self.states.len() as u64 > limit {
                return Err(LimitReached { states: self.states.len() as u64 });
            }
        }
        Ok(())
    }

    /// Looks at a state to which no cheaper way is left.
    fn look_at(&mut self, ix: usize) {
        let state = self.states[ix].clone();
        let price = self.ways[ix].price;
        for problem in self.rules.judge(&state) {
            self.show(problem, price, || Shown { price, from: ix, by: None });
        }
        let own = self.rules.own_moves(&state);
        let rests = own.is_empty();
        if rests {
            self.found.persons.extend(self.rules.parked(&state).into_iter().map(Person::Parked));
        }
        for mut after in own.into_iter().chain(self.rules.outer_moves(&state, rests)) {
            let price = Price { faults: price.faults + after.price.faults, begun: price.begun + after.price.begun };
            for problem in std::mem::take(&mut after.problems) {
                let by = || Some((after.told.clone(), after.state.clone()));
                self.show(problem, price, || Shown { price, from: ix, by: by() });
            }
            self.found.persons.extend(after.persons.drain(..));
            self.found.reached.extend(after.reached.drain(..));
            self.arrive(ix, price, after);
        }
    }

    /// Keeps a run that shows a problem, unless a cheaper one is known.
    fn show(&mut self, problem: Problem, price: Price, run: impl FnOnce() -> Shown) {
        if self.shown.get(&problem).is_none_or(|known| price < known.price) {
            self.shown.insert(problem, run());
        }
    }

    /// A move comes to a state: the way is kept if it is the cheapest so far.
    fn arrive(&mut self, from: usize, price: Price, after: After) {
        let way = Way { price, from: Some(from), told: after.told, looked_at: false };
        let (ix, new) = self.states.insert_full(after.state);
        if new {
            self.ways.push(way);
        } else if price < self.ways[ix].price {
            self.ways[ix] = way;
        } else {
            return;
        }
        self.queue.entry(price).or_default().push_back(ix);
    }

    fn found(mut self) -> Found {
        let shown = std::mem::take(&mut self.shown);
        self.found.states = self.states.len() as u64;
        self.found.problems = shown.into_iter().map(|(problem, shown)| self.course_of(problem, &shown)).collect();
        self.found
    }
}
