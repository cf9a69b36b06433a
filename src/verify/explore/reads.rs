//! Conditions and reads: what a truth may come to, and what a template misses.
//!
//! A free condition is decided, either way, when it is first asked; everything else follows from how steps ended.

use crate::teeth::{Bug, awake};
use crate::verify::findings::{Missing, Problem, Reader, Spot};
use crate::verify::sketch::{Aspect, Read, StepEnding, Truth};

use super::after::After;
use super::rules::Rules;
use super::state::{CallEnd, Stage, State, Verdict};

impl Rules<'_> {
    /// Asks for a truth: each way it may come to, with what had to be decided for it. It is asked from left to right, and
    /// no further than needed.
    pub fn ask(&self, after: After, truth: &Truth, own: Option<Spot>) -> Vec<(After, bool)> {
        match truth {
            Truth::Const(known) => vec![(after, *known)],
            Truth::Free(ix) => decide(after, *ix),
            Truth::Open => vec![(after.clone(), false), (after, true)],
            Truth::Has(step, what) => {
                let there = is_there(&after.state, *step, *what, own);
                vec![(after, there)]
            }
            Truth::Via(step, member) => {
                let by = after.state.steps[*step].stage == Stage::Ended(Verdict::Succeeded(Some(*member)));
                vec![(after, by)]
            }
            Truth::Ended(step, ending) => {
                let so = ending_of(&after.state, *step) == Some(*ending);
                vec![(after, so)]
            }
            Truth::Not(inner) => self.ask(after, inner, own).into_iter().map(|(after, is)| (after, !is)).collect(),
            Truth::All(parts) => self.ask_until(false, after, parts, own),
            Truth::Any(parts) => self.ask_until(true, after, parts, own),
        }
    }

    /// Asks one after the other until one comes to `stop`.
    fn ask_until(&self, stop: bool, after: After, parts: &[Truth], own: Option<Spot>) -> Vec<(After, bool)> {
        let Some((first, rest)) = parts.split_first() else { return vec![(after, !stop)] };
        let answers = self.ask(after, first, own).into_iter();
        answers
            .flat_map(
                |(after, is)| {
                    if is == stop { vec![(after, stop)] } else { self.ask_until(stop, after, rest, own) }
                },
            )
            .collect()
    }

    /// Reads what a template reads, and tells whether something was missing. Every read that finds nothing is a problem.
    pub fn read(&self, after: After, reads: &[Read], reader: Reader, own: Option<Spot>) -> Vec<(After, bool)> {
        let mut ways = vec![(after, false)];
        for (ix, read) in reads.iter().enumerate() {
            let asked = |(after, missed): (After, bool)| {
                let ways = self.ask(after, &read.when, own).into_iter();
                ways.map(move |(mut after, is_read)| {
                    let missing = is_read && !is_there(&after.state, read.step, read.what, own);
                    if missing {
                        let missing = Missing { reader, read: ix, step: read.step, what: read.what };
                        after.problems.push(Problem::Missing(missing));
                    }
                    (after, missed || missing)
                })
            };
            ways = ways.into_iter().flat_map(asked).collect();
        }
        ways
    }
}

/// Decides a free condition, unless it is decided.
fn decide(after: After, ix: usize) -> Vec<(After, bool)> {
    if let Some(known) = after.state.conditions[ix] {
        return vec![(after, known)];
    }
    let decided = |is: bool| {
        let mut after = after.clone();
        if !awake(Bug::ExploreConditionForgotten) {
            after.state.conditions[ix] = Some(is);
        }
        (after, is)
    };
    vec![decided(false), decided(true)]
}

/// Tells whether something of a step is there to be read. `own` is the member whose undo or confirm reads.
fn is_there(state: &State, step: usize, what: Aspect, own: Option<Spot>) -> bool {
    match what {
        Aspect::Output => matches!(state.steps[step].stage, Stage::Ended(Verdict::Succeeded(_))),
        Aspect::Error => matches!(state.steps[step].stage, Stage::Ended(Verdict::Failed | Verdict::Unknown)),
        Aspect::Via => matches!(state.steps[step].stage, Stage::Ended(Verdict::Succeeded(Some(_)))),
        Aspect::OwnOutput => own.is_some_and(|spot| state.tried(spot).end == Some(CallEnd::Succeeded)),
        Aspect::OwnError => own.is_some_and(|spot| state.tried(spot).end != Some(CallEnd::Succeeded)),
    }
}

/// Returns how a step has ended, in the words of invariants and of `steps.X.status`.
pub(super) fn ending_of(state: &State, step: usize) -> Option<StepEnding> {
    match state.steps[step].stage {
        Stage::Pending | Stage::Waiting | Stage::Calling => None,
        Stage::Skipped => Some(StepEnding::Skipped),
        Stage::Ended(Verdict::Succeeded(_)) => Some(StepEnding::Ok),
        Stage::Ended(Verdict::Failed) => Some(StepEnding::Failed),
        Stage::Ended(Verdict::Unknown) => Some(StepEnding::Unknown),
    }
}
