//! Stop, drain, back: cancel and deadline, what a drain comes to, and the undos in their order.

use crate::teeth::{Bug, awake};
use crate::verify::findings::{Part, Person, Problem, Reader, Spot, Stop, UndoEnd};

use super::after::{After, Told};
use super::rules::Rules;
use super::state::{Phase, Stage, State, Verdict};

/// What an undo came to.
pub(super) struct Undone {
    /// The move.
    pub after: After,
    /// How it ended.
    pub end: UndoEnd,
    /// It was called: all that it reads is there.
    pub called: bool,
}

impl Rules<'_> {
    /// The run stops: nothing new begins, and what is under way ends.
    pub fn stop(&self, mut after: After, stop: Stop) -> After {
        after.state.phase = Phase::Drain;
        after.told.push(Told::Stopped(stop));
        after
    }

    /// Somebody cancels the run: at any moment before its end, also while it is parked, but not behind a pivot.
    pub fn cancel(&self, state: &State) -> Vec<After> {
        let refused = !self.pivots_past(state).is_empty();
        if refused || self.all_satisfied(state) { Vec::new() } else { vec![self.interrupted(state)] }
    }

    /// The deadline passes, also behind a pivot.
    pub fn deadline(&self, state: &State) -> Vec<After> {
        let passes = self.sketch.deadline && !self.all_satisfied(state);
        if passes { vec![self.interrupted(state)] } else { Vec::new() }
    }

    fn interrupted(&self, state: &State) -> After {
        let mut after = After::from(state);
        after.fault();
        self.stop(after, Stop::Cancelled)
    }

    /// Returns the pivots that are past: they, or an item of them, succeeded or ended unknown.
    pub fn pivots_past(&self, state: &State) -> Vec<usize> {
        let past = |verdict: Verdict| matches!(verdict, Verdict::Succeeded(_) | Verdict::Unknown);
        let is_past = |step: &usize| {
            let state = &state.steps[*step];
            let items = state.tasks.iter().any(|task| task.verdict().is_some_and(past));
            items || matches!(state.stage, Stage::Ended(verdict) if past(verdict))
        };
        (0..self.sketch.steps.len()).filter(|step| self.sketch.steps[*step].pivot).filter(is_past).collect()
    }

    /// When all that was under way has ended the run turns back, or parks behind a pivot.
    pub fn turn_back(&self, state: &State) -> Vec<After> {
        if state.steps.iter().any(|step| step.under_way()) {
            return Vec::new();
        }
        let mut after = After::from(state);
        let past = self.pivots_past(state);
        let parks = !past.is_empty() && !awake(Bug::ExplorePivotIgnored);
        after.state.phase = if parks { Phase::PastPivot } else { Phase::Back };
        if parks {
            after.persons.extend(past.into_iter().map(Person::PastPivot));
        }
        vec![after]
    }

    /// Each member that is owed is undone once all that depends on its step was, or cannot be. Nothing looks at an undo
    /// while it is under way, so that its call and its end are one move.
    pub fn undos_on_the_way_back(&self, state: &State) -> Vec<After> {
        let spots = state.spots(self.sketch);
        let owed: Vec<Spot> = spots.into_iter().filter(|spot| self.owed(state, *spot)).collect();
        let in_the_way = |spot: &Spot| owed.iter().any(|other| self.depends(other.step, spot.step));
        let free = owed.iter().filter(|spot| !in_the_way(spot) || awake(Bug::ExploreAnyOrder));
        let mut moves = Vec::new();
        for spot in free {
            for Undone { mut after, end, .. } in self.undo(After::from(state), *spot) {
                after.told.push(Told::Undone(*spot, end));
                self.judge_undo(state, *spot, &mut after);
                moves.push(after);
            }
        }
        moves
    }

    /// A member is undone, or its undo fails for good: because it cannot be called, because there is nothing to undo and
    /// it minds, or because of a fault.
    pub fn undo(&self, mut after: After, spot: Spot) -> Vec<Undone> {
        let member = self.member(spot);
        let Some(undo) = &member.undo else { unreachable!("only a member with an undo is owed") };
        let ix = (spot.step, spot.member);
        after.reached.push(Part::Undo(ix));
        let mut ends = Vec::new();
        for (after, missed) in self.read(after, &undo.reads, Reader::Undo(ix), Some(spot)) {
            let standing = after.state.tried(spot).standing;
            let impossible = missed || (member.effect.is_some() && standing.defies(undo));
            if !impossible {
                let mut done = after.clone();
                let tried = done.state.tried_mut(spot);
                (tried.undo, tried.standing) = (Some(UndoEnd::Done), standing.undone(undo));
                ends.push(Undone { after: done, end: UndoEnd::Done, called: true });
            }
            let mut failed = after;
            failed.state.tried_mut(spot).undo = Some(UndoEnd::Failed);
            failed.persons.push(Person::UndoFails(ix));
            if !impossible {
                failed.fault();
            }
            ends.push(Undone { after: failed, end: UndoEnd::Failed, called: !missed });
        }
        ends
    }

    /// When nothing is owed any more the run has ended.
    pub fn end_undone(&self, state: &State) -> Vec<After> {
        if state.spots(self.sketch).into_iter().any(|spot| self.owed(state, spot)) {
            return Vec::new();
        }
        let mut after = After::from(state);
        after.state.phase = if self.an_undo_failed(state) { Phase::Incomplete } else { Phase::Undone };
        vec![after]
    }

    /// Tells whether an undo of the run has failed for good, so that a person is needed at its end.
    pub fn an_undo_failed(&self, state: &State) -> bool {
        let spots = state.spots(self.sketch).into_iter();
        spots.map(|spot| state.tried(spot).undo).any(|undo| undo == Some(UndoEnd::Failed))
    }

    /// Looks at an undo on the way back once more: nothing is undone behind a pivot, nor before what depends on it.
    fn judge_undo(&self, before: &State, undone: Spot, after: &mut After) {
        if !self.pivots_past(before).is_empty() {
            after.problems.push(Problem::PivotUndone((undone.step, undone.member)));
        }
        for other in before.spots(self.sketch) {
            if self.owed(before, other) && self.depends(other.step, undone.step) {
                after.problems.push(Problem::UndoOrder(other.step, undone.step));
            }
        }
    }
}
