//! Everything that can become of a step, as far as others can tell: what is seen of it, what it leaves, what it costs.
//!
//! Ends that nobody can tell apart become one way with the cheapest of them; what is wrong with one of them is kept as
//! a mark at the way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::context::{Context, Seen};
use super::facts::{Facts, Slots};
use super::spot::{self, End, Left, Undoing, Verdict};
use super::world::Stands;
use super::{Class, Cost};
use crate::verify::findings::{MemberIx, Part, Person, Problem, Reader, Spot, StepCourse, UndoEnd};
use crate::verify::sketch::{Act, OnError, OnSkip, Sketch, Step, StepEnding};

/// How a step ended, with all that its members left.
struct StepEnd {
    ending: StepEnding,
    via: Option<usize>,
    drained: bool,
    /// Its items' ends; a step without items has one.
    spots: Vec<End>,
    pivot_past: bool,
    problems: BTreeSet<Problem>,
    faults: u32,
    told: StepCourse,
}

/// What others can tell of the end of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Effect {
    pub seen: Seen,
    pub skipped: bool,
    /// What needs it may begin.
    pub satisfies: bool,
    pub drained: bool,
    /// It has failed, and that stops the run.
    pub stops: bool,
    pub parks: bool,
    pub pivot_past: bool,
    /// An undo of it fails, so that nothing is said of the end.
    pub incomplete: bool,
    /// What it adds to the facts of the invariants.
    pub facts: Facts,
}

/// A way in which a step can end, and the cheapest course of it.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub effect: Effect,
    pub cost: Cost,
    pub told: StepCourse,
    /// The undos of it on the way back.
    pub undos: Vec<(Spot, UndoEnd)>,
    /// Members that are undone on the way back.
    pub owed: BTreeSet<MemberIx>,
    pub marks: BTreeMap<(Problem, At), Mark>,
}

/// On which runs a mark is a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    /// On any.
    Any,
    /// On those whose end is judged.
    Judged,
    /// On those that are undone.
    Undone,
}

/// A course that shows a problem.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub cost: Cost,
    pub told: StepCourse,
    pub undos: Vec<(Spot, UndoEnd)>,
}

/// Everything that can become of a step in one context.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways {
    pub ways: Vec<Rc<Way>>,
    pub parts: BTreeSet<Part>,
    pub persons: BTreeSet<Person>,
    /// It can wait for ever.
    pub for_ever: bool,
}

/// Returns everything that can become of step `s` in a run of the class, when its needs have ended well.
pub(super) fn ways(sketch: &Sketch, slots: &Slots, s: usize, skipped: bool, context: &Context, class: Class) -> Ways {
    let mut found = Ways::default();
    let ends = ends(sketch, s, skipped, context, &mut found);
    let mut index: HashMap<Effect, usize> = HashMap::new();
    let mut all: Vec<Way> = Vec::new();
    for end in &ends {
        for one in endings_of(sketch, slots, s, end, context, class) {
            let cost = Cost::of(end.faults, begins(&end.told));
            let nth = *index.entry(one.effect.clone()).or_insert_with(|| {
                all.push(Way {
                    effect: one.effect.clone(),
                    cost,
                    told: end.told.clone(),
                    undos: one.undos.clone(),
                    owed: BTreeSet::new(),
                    marks: BTreeMap::new(),
                });
                all.len() - 1
            });
            let way = &mut all[nth];
            if cost < way.cost {
                (way.cost, way.told, way.undos) = (cost, end.told.clone(), one.undos.clone());
            }
            way.owed.extend(one.owed);
            let problems = end.problems.iter().map(|problem| (problem.clone(), At::Any));
            for (problem, at) in problems.chain(one.problems) {
                let mark = || Mark { cost, told: end.told.clone(), undos: one.undos.clone() };
                let known = way.marks.entry((problem, at)).or_insert_with(mark);
                if cost < known.cost {
                    *known = mark();
                }
            }
        }
    }
    found.ways = all.into_iter().map(Rc::new).collect();
    found
}

fn begins(told: &StepCourse) -> bool {
    !matches!(told, StepCourse::Skipped)
}

fn ends(sketch: &Sketch, s: usize, skipped: bool, context: &Context, found: &mut Ways) -> Vec<StepEnd> {
    let step = &sketch.steps[s];
    let plain = |ending, told| StepEnd {
        ending,
        via: None,
        drained: false,
        spots: Vec::new(),
        pivot_past: false,
        problems: BTreeSet::new(),
        faults: 0,
        told,
    };
    let unreadable = |missing: Vec<Problem>| StepEnd {
        problems: missing.into_iter().collect(),
        ..plain(StepEnding::Failed, StepCourse::Unreadable)
    };
    if skipped && !step.needs.is_empty() && step.on_skip != Some(OnSkip::Run) {
        return vec![plain(StepEnding::Skipped, StepCourse::Skipped)];
    }
    let mut ends = Vec::new();
    if let Some(when) = &step.when {
        let (missing, answers) = context.decide(when, Reader::When(s));
        if !missing.is_empty() {
            ends.push(unreadable(missing));
        }
        found.parts.extend(answers.iter().map(|answer| Part::When(s, *answer)));
        if answers.contains(&false) {
            ends.push(plain(StepEnding::Skipped, StepCourse::Skipped));
        }
        if !answers.contains(&true) {
            return ends;
        }
    }
    match &step.act {
        Act::Wait(wait) => {
            let (missing, avoidable) = context.missing(&wait.reads, Reader::Until(s), false);
            if !missing.is_empty() {
                ends.push(unreadable(missing));
            }
            if avoidable {
                found.parts.insert(Part::Step(s));
                let pivot_past = step.pivot;
                ends.push(StepEnd { pivot_past, ..plain(StepEnding::Ok, StepCourse::Waited) });
                if wait.signal && wait.limited {
                    ends.push(StepEnd { faults: 1, ..plain(StepEnding::Failed, StepCourse::Missed) });
                }
                found.for_ever = wait.signal && !wait.limited && !sketch.deadline;
                ends.push(StepEnd { drained: true, ..plain(StepEnding::Failed, StepCourse::Waiting) });
            }
        }
        Act::Call(members) => {
            let listed = step.items.as_ref().map(|reads| context.missing(reads, Reader::Items(s), false));
            if let Some((missing, avoidable)) = listed {
                if !missing.is_empty() {
                    ends.push(unreadable(missing));
                }
                if !avoidable {
                    return ends;
                }
            }
            found.parts.insert(Part::Step(s));
            let searched = spot::search(s, members, step.on_error, step.pivot, context);
            found.parts.extend(searched.parts);
            found.persons.extend(searched.persons);
            if step.items.is_some() {
                ends.extend(lists(step, &searched.ends));
            } else {
                ends.extend(searched.ends.into_iter().map(|end| single(step, end)));
            }
        }
    }
    ends
}

fn ending_of(verdict: Verdict) -> StepEnding {
    match verdict {
        Verdict::By(_) => StepEnding::Ok,
        Verdict::Failed => StepEnding::Failed,
        Verdict::Unknown => StepEnding::Unknown,
    }
}

fn may_have_happened(ending: StepEnding) -> bool {
    matches!(ending, StepEnding::Ok | StepEnding::Unknown)
}

fn single(step: &Step, end: End) -> StepEnd {
    let ending = ending_of(end.verdict);
    let via = match end.verdict {
        Verdict::By(member) => Some(member),
        Verdict::Failed | Verdict::Unknown => None,
    };
    StepEnd {
        ending,
        via,
        drained: end.drained,
        pivot_past: step.pivot && may_have_happened(ending),
        problems: end.problems.clone(),
        faults: end.faults,
        told: StepCourse::Called(vec![end.told.clone()]),
        spots: vec![end],
    }
}

/// The ends of a step with items, of which there are none, one or two.
fn lists(step: &Step, ends: &[End]) -> Vec<StepEnd> {
    let goes_on = step.on_error == OnError::Continue;
    let mut lists = vec![list(step, &[], StepEnding::Ok, false)];
    for first in ends {
        // One item.
        let whole = if goes_on { StepEnding::Ok } else { ending_of(first.verdict) };
        lists.push(list(step, &[first], whole, first.drained));
        let bad = !matches!(first.verdict, Verdict::By(_));
        // Two items: after a failure, or in a drain, no new one begins.
        if step.concurrency <= 1 && (first.drained || (bad && !goes_on)) {
            let ending = if bad { ending_of(first.verdict) } else { StepEnding::Failed };
            lists.push(list(step, &[first], ending, first.drained));
            continue;
        }
        for second in ends {
            let drained = first.drained || second.drained;
            let mut endings = [first, second].map(|end| ending_of(end.verdict)).to_vec();
            // The step ends as the item that failed first, whichever that was.
            endings.retain(|ending| !goes_on && *ending != StepEnding::Ok);
            endings.dedup();
            if endings.is_empty() {
                endings.push(StepEnding::Ok);
            }
            lists.extend(endings.into_iter().map(|ending| list(step, &[first, second], ending, drained)));
        }
    }
    lists
}

fn list(step: &Step, items: &[&End], ending: StepEnding, drained: bool) -> StepEnd {
    let past = items.iter().any(|end| may_have_happened(ending_of(end.verdict)));
    StepEnd {
        ending,
        via: None,
        drained,
        spots: items.iter().map(|end| (*end).clone()).collect(),
        pivot_past: step.pivot && (past || may_have_happened(ending)),
        problems: items.iter().flat_map(|end| end.problems.iter().cloned()).collect(),
        faults: items.iter().map(|end| end.faults).sum(),
        told: StepCourse::Called(items.iter().map(|end| end.told.clone()).collect()),
    }
}

/// An end with what becomes of it when the run ends.
#[derive(Clone)]
struct Ending {
    finals: Vec<Final>,
    effect: Effect,
    problems: Vec<(Problem, At)>,
    undos: Vec<(Spot, UndoEnd)>,
    owed: BTreeSet<MemberIx>,
}

/// What stands of a member at the end of the run.
#[derive(Clone, Copy)]
struct Final {
    left: Left,
    by: bool,
}

fn endings_of(sketch: &Sketch, slots: &Slots, s: usize, end: &StepEnd, context: &Context, class: Class) -> Vec<Ending> {
    let step = &sketch.steps[s];
    let members = step.members();
    let incomplete = end.spots.iter().any(|spot| spot.incomplete);
    let mut all = vec![Ending {
        finals: Vec::new(),
        effect: effect(slots, s, step, end, incomplete),
        problems: Vec::new(),
        undos: Vec::new(),
        owed: BTreeSet::new(),
    }];
    for (nth, spot) in end.spots.iter().enumerate() {
        let item = step.items.as_ref().map(|_| u32::try_from(nth).unwrap_or(u32::MAX));
        for left in &spot.left {
            let by = spot.verdict == Verdict::By(left.member);
            let (Class::Undone, true, Some(undo)) = (class, left.owed, &members[left.member].undo) else {
                all.iter_mut().for_each(|ending| ending.finals.push(Final { left: *left, by }));
                continue;
            };
            let ix = (s, left.member);
            let at = Spot { step: s, item, member: left.member };
            let undoing = Undoing { member: &members[left.member], undo, ix, own: left.succeeded, denied: left.denied };
            let outcomes = undoing.outcomes(context, left.trace);
            let mut more = Vec::new();
            for ending in all {
                for outcome in &outcomes {
                    // A failure that need not be is a run like this one that ends with a person.
                    if outcome.after.is_none() && outcome.faults > 0 {
                        continue;
                    }
                    let mut ending = ending.clone();
                    ending.owed.insert(ix);
                    ending.problems.extend(outcome.problems.iter().map(|problem| (problem.clone(), At::Undone)));
                    ending.effect.incomplete |= outcome.after.is_none();
                    let undone = if outcome.after.is_some() { UndoEnd::Done } else { UndoEnd::Failed };
                    ending.undos.push((at, undone));
                    let trace = outcome.after.unwrap_or(left.trace);
                    ending.finals.push(Final { left: Left { trace, ..*left }, by });
                    more.push(ending);
                }
            }
            all = more;
        }
    }
    let judged = all.into_iter().map(|mut ending| {
        for Final { left, by } in std::mem::take(&mut ending.finals) {
            let member = &members[left.member];
            let ix = (s, left.member);
            let Some(effect) = member.effect else { continue };
            let undone = member.undo.as_ref().and_then(|undo| undo.undone.as_deref());
            slots.note(&mut ending.effect.facts, effect, undone, left.trace);
            if member.harmless {
                continue;
            }
            if left.trace.stands == Stands::Twice {
                ending.problems.push((Problem::Twice(ix), At::Judged));
            }
            match class {
                Class::Completed if left.trace.is_left() && !by => {
                    ending.problems.push((Problem::LeftByCompleted(ix), At::Judged));
                }
                Class::Undone if left.trace.is_left() => {
                    ending.problems.push((Problem::LeftByUndone(ix), At::Judged));
                }
                Class::Completed | Class::Undone => {}
            }
        }
        if ending.effect.incomplete {
            ending.effect.facts = slots.none();
        }
        ending
    });
    judged.collect()
}

fn effect(slots: &Slots, s: usize, step: &Step, end: &StepEnd, incomplete: bool) -> Effect {
    let bad = matches!(end.ending, StepEnding::Failed | StepEnding::Unknown);
    let mut facts = slots.none();
    slots.note_step(&mut facts, s, end.ending);
    Effect {
        seen: if end.drained { Seen::default() } else { Seen::ended(end.ending, end.via) },
        skipped: end.ending == StepEnding::Skipped,
        satisfies: !end.drained && (!bad || step.on_error == OnError::Continue),
        drained: end.drained,
        stops: bad && !end.drained && step.on_error == OnError::Compensate,
        parks: bad && !end.drained && step.on_error == OnError::Park,
        pivot_past: end.pivot_past,
        incomplete,
        facts,
    }
}
