//! All that can happen next in a run: the list of the rules, each of which is a function of its own beside this file.

use crate::teeth::{Bug, awake};
use crate::verify::sketch::{Sketch, Step};

use super::after::After;
use super::state::{Phase, State};

/// The rules of a run, for one sketch.
#[derive(Debug)]
pub(super) struct Rules<'s> {
    /// The workflow.
    pub sketch: &'s Sketch,
    /// Which step (first) depends on which (second), through others too.
    depends: Vec<Vec<bool>>,
    /// How many items a list has at most.
    pub items: usize,
}

impl<'s> Rules<'s> {
    /// Returns the rules for a sketch, with lists of at most `items`.
    pub fn new(sketch: &'s Sketch, items: usize) -> Self {
        let of = |step: &Step| {
            let mut depends = vec![false; sketch.steps.len()];
            let mut left = step.needs.clone();
            while let Some(need) = left.pop() {
                if !std::mem::replace(&mut depends[need], true) {
                    left.extend(&sketch.steps[need].needs);
                }
            }
            depends
        };
        Self { sketch, depends: sketch.steps.iter().map(of).collect(), items }
    }

    /// Tells whether a step depends on another, through others too.
    pub fn depends(&self, step: usize, on: usize) -> bool {
        self.depends[step][on]
    }

    /// Returns what can happen to the run from outside: somebody's wishes, the clock, a death, the world. It
    /// may rest, as nothing can go on by itself.
    pub fn outer_moves(&self, state: &State, rests: bool) -> Vec<After> {
        let mut moves = Vec::new();
        if self.is_in_a_commit(state) {
            return moves;
        }
        match state.phase {
            Phase::Forward => {
                moves.extend(self.cancel(state));
                // Nothing goes on by itself only in a run that is parked, and its deadline does not go on either (SPEC 6.11).
                if !rests || awake(Bug::ExploreDeadlineWhileParked) {
                    moves.extend(self.deadline(state));
                }
                moves.extend(self.death(state));
                moves.extend(self.landings(state));
            }
            Phase::Drain => {
                moves.extend(self.death(state));
                moves.extend(self.landings(state));
            }
            Phase::Back => moves.extend(self.landings(state)),
            Phase::Completed | Phase::Undone | Phase::Incomplete | Phase::PastPivot => {}
        }
        moves
    }

    /// Returns what the run can do next by itself, with success first; if that is nothing it rests.
    pub fn own_moves(&self, state: &State) -> Vec<After> {
        let mut moves = Vec::new();
        if self.is_in_a_commit(state) {
            return self.in_a_commit(state);
        }
        match state.phase {
            Phase::Forward => {
                moves.extend(self.complete(state));
                moves.extend(self.beginnings(state));
                moves.extend(self.waits(state));
                moves.extend(self.further_items(state));
                moves.extend(self.attempts(state));
                moves.extend(self.confirms(state));
                moves.extend(self.undos_on_the_way(state));
            }
            Phase::Drain => {
                moves.extend(self.waits(state));
                moves.extend(self.lists_without_an_item_under_way(state));
                moves.extend(self.attempts(state));
                moves.extend(self.confirms(state));
                moves.extend(self.undos_on_the_way(state));
                moves.extend(self.turn_back(state));
            }
            Phase::Back => {
                moves.extend(self.undos_on_the_way_back(state));
                moves.extend(self.end_undone(state));
            }
            Phase::Completed | Phase::Undone | Phase::Incomplete | Phase::PastPivot => {}
        }
        moves
    }
}
