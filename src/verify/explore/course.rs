//! The course of a run: what the moves told on the way to a problem, followed to the run's end, put in order.

use crate::verify::findings::{Course, List, MemberCourse, Problem, Spot, StepCourse};

use super::after::Told;
use super::state::State;
use super::{Search, Shown};

impl Search<'_> {
    /// Returns a problem with the course of the run that shows it.
    pub(super) fn course_of(&self, problem: Problem, shown: &Shown) -> (Problem, Course) {
        let mut told = self.told_on_the_way_to(shown.from);
        let mut last = self.states[shown.from].clone();
        if let Some((by, state)) = &shown.by {
            told.extend(by.iter().cloned());
            last = state.clone();
        }
        let for_ever = if let Problem::WaitsForEver(step) = problem { Some(step) } else { None };
        let last = self.follow(last, for_ever, &mut told);
        let mut course = Course { faults: shown.price.faults, ..Course::default() };
        for (ix, decided) in last.conditions.iter().enumerate() {
            course.conditions.extend(decided.map(|is| (ix, is)));
        }
        for sentence in told {
            tell(&mut course, sentence);
        }
        for (step, told) in &mut course.steps {
            if let StepCourse::Listed(list) = told {
                list.left = last.steps[*step].items > list.items.len();
            }
        }
        (problem, course)
    }

    fn told_on_the_way_to(&self, ix: usize) -> Vec<Told> {
        let mut backwards = Vec::new();
        let mut at = Some(ix);
        while let Some(ix) = at {
            backwards.push(&self.ways[ix].told);
            at = self.ways[ix].from;
        }
        backwards.into_iter().rev().flatten().cloned().collect()
    }

    /// Follows a run from a state to its end, by what it does by itself and without a further fault; what waits for ever
    /// goes on waiting. Some way without a fault is always left: an attempt may succeed, a confirm may say what is so.
    fn follow(&self, mut state: State, for_ever: Option<usize>, told: &mut Vec<Told>) -> State {
        let goes_on = |told: &[Told]| !told.iter().any(|t| matches!(t, Told::Came(step) if Some(*step) == for_ever));
        loop {
            let moves = self.rules.own_moves(&state).into_iter();
            let Some(next) = moves.into_iter().find(|after| after.price.faults == 0 && goes_on(&after.told)) else {
                return state;
            };
            told.extend(next.told);
            state = next.state;
        }
    }
}

/// Puts a sentence in its place.
fn tell(course: &mut Course, sentence: Told) {
    match sentence {
        Told::Skipped(step) => drop(course.steps.insert(step, StepCourse::Skipped)),
        Told::Unreadable(step) => drop(course.steps.insert(step, StepCourse::Unreadable)),
        Told::Waits(step) => drop(course.steps.insert(step, StepCourse::Waiting)),
        Told::Came(step) => drop(course.steps.insert(step, StepCourse::Waited)),
        Told::Missed(step) => drop(course.steps.insert(step, StepCourse::Missed)),
        Told::Lists(step) => drop(course.steps.insert(step, StepCourse::Listed(List::default()))),
        Told::Called(spot) => {
            members(course, spot).push(MemberCourse {
                member: spot.member,
                attempts: Vec::new(),
                confirm: None,
                undo: None,
            });
        }
        Told::Tried(spot, attempt) => member(course, spot).attempts.push(attempt),
        Told::Confirmed(spot, answer) => member(course, spot).confirm = Some(answer),
        Told::PutRight(spot, end) => member(course, spot).undo = Some(end),
        Told::Stopped(stop) => course.stop = Some(stop),
        Told::Undone(spot, end) => course.undone.push((spot, end)),
    }
}

/// Returns what is told of an item, which begins if nothing was, or of a step without items.
fn members(course: &mut Course, spot: Spot) -> &mut Vec<MemberCourse> {
    let step = course.steps.entry(spot.step).or_insert_with(|| StepCourse::Called(Vec::new()));
    match (step, spot.item) {
        (StepCourse::Called(members), None) => members,
        (StepCourse::Listed(list), Some(item)) => {
            let item = item as usize;
            if item == list.items.len() {
                list.items.push(Vec::new());
            }
            &mut list.items[item]
        }
        (step, _) => unreachable!("only a step that calls has members, and only a list has items: {step:?}"),
    }
}

fn member(course: &mut Course, spot: Spot) -> &mut MemberCourse {
    let mut members = members(course, spot).iter_mut();
    members.find(|m| m.member == spot.member).expect("a member is called before anything is told of it")
}
