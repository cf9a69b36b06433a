//! The end: what a run that needs nobody any more must not have left behind, done twice, or made true.

use crate::teeth::{Bug, awake};
use crate::verify::findings::{Problem, Spot};
use crate::verify::sketch::{Fact, Member};

use super::reads::ending_of;
use super::rules::Rules;
use super::state::{Phase, Standing, State, Verdict};

impl Rules<'_> {
    /// Returns the problems of a run that has ended. One that is parked or incomplete is not judged.
    pub fn judge(&self, state: &State) -> Vec<Problem> {
        let completed = match state.phase {
            Phase::Completed => true,
            Phase::Undone => false,
            Phase::Incomplete if awake(Bug::ExploreIncompleteJudged) => false,
            Phase::Forward | Phase::Drain | Phase::Back | Phase::Incomplete | Phase::PastPivot => return Vec::new(),
        };
        let mut problems = Vec::new();
        for spot in state.spots(self.sketch) {
            let member = self.member(spot);
            let ix = (spot.step, spot.member);
            if member.effect.is_none() || member.harmless {
                continue;
            }
            let standing = state.tried(spot).standing;
            let left = standing.may_be_left();
            if left && completed && !kept(state, spot) {
                problems.push(Problem::LeftByCompleted(ix));
            }
            if left && !completed {
                problems.push(Problem::LeftByUndone(ix));
            }
            if standing == Standing::Twice {
                problems.push(Problem::Twice(ix));
            }
        }
        problems.extend(self.broken(state).into_iter().map(Problem::Invariant));
        problems
    }

    /// Returns the invariants that are broken, whichever of the requests on their way land.
    fn broken(&self, state: &State) -> Vec<usize> {
        if self.sketch.invariants.is_empty() {
            return Vec::new();
        }
        let spots = state.spots(self.sketch);
        let mut worlds: Vec<Vec<Standing>> = vec![Vec::new()];
        for spot in &spots {
            let now = state.tried(*spot).standing;
            let mut further = Vec::new();
            for world in worlds {
                further.extend(now.landed().map(|landed| [&world[..], &[landed]].concat()));
                further.push([&world[..], &[now]].concat());
            }
            worlds = further;
        }
        let holds = |ix: &usize| {
            let formula = &self.sketch.invariants[*ix].formula;
            worlds.iter().any(|world| formula.holds(&|fact: &Fact| self.is_fact(state, &spots, world, fact)))
        };
        (0..self.sketch.invariants.len()).filter(holds).collect()
    }

    /// Tells whether something is true of a run and of the world at its end.
    fn is_fact(&self, state: &State, spots: &[Spot], world: &[Standing], fact: &Fact) -> bool {
        match fact {
            Fact::Step { step, ending } => {
                let ix = self.sketch.steps.iter().position(|plan| plan.name == *step);
                ix.is_some_and(|ix| ending_of(state, ix) == Some(*ending))
            }
            Fact::Happened(name) => match self.sketch.effects.iter().position(|effect| effect == name) {
                Some(effect) => {
                    let of = |spot: &Spot| self.member(*spot).effect == Some(effect);
                    spots.iter().zip(world).any(|(spot, standing)| of(spot) && standing.happened())
                }
                None => self.is_taken_back(spots, world, name),
            },
        }
    }

    /// Tells whether an undo has taken something back, and nothing stands of what it undoes.
    fn is_taken_back(&self, spots: &[Spot], world: &[Standing], name: &str) -> bool {
        let is_undone_so = |member: &Member| {
            let undo = member.undo.as_ref();
            undo.is_some_and(|undo| undo.undoes && undo.undone.as_deref() == Some(name))
        };
        let members = (0..self.sketch.steps.len()).flat_map(|step| self.members(step));
        let effects: Vec<usize> = members.filter(|member| is_undone_so(member)).filter_map(|m| m.effect).collect();
        let is_of_them = |spot: &Spot| self.member(*spot).effect.is_some_and(|effect| effects.contains(&effect));
        let mut all = spots.iter().zip(world);
        let taken_back = all.clone().any(|(spot, s)| is_undone_so(self.member(*spot)) && s.taken_back());
        let stands = all.any(|(spot, s)| is_of_them(spot) && s.is_done());
        taken_back && (!stands || awake(Bug::ExploreUndoneThoughItStands))
    }
}

/// Tells whether the result of a completed run speaks for what a member did: the step, or the item, succeeded by it.
fn kept(state: &State, spot: Spot) -> bool {
    let verdict = state.task(spot.step, spot.item).verdict();
    let by_another = awake(Bug::ExploreKeptByAnyMember) && matches!(verdict, Some(Verdict::Succeeded(_)));
    by_another || verdict == Some(Verdict::Succeeded(Some(spot.member)))
}
